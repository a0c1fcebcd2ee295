"""RMSprop as a `torch.optim.Optimizer`, its memory stated as a half-life in updates or in env steps.

The rule itself stands in `rl_rms.optim.rule`; here is what an optimizer keeps around it: parameter groups, state,
torch's conventions, and the half-life in force.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from rl_rms.half_life import HalfLife, Timescale, check_positive, parse_half_life
from rl_rms.optim.diagnostics import diagnostics
from rl_rms.optim.estimators import HalfLifeEstimator
from rl_rms.optim.foreach import rmsprop_update_foreach
from rl_rms.optim.guard import GradientGuard, OnNonfinite, describe_nonfinite, mend_, total_norm
from rl_rms.optim.layout import Layout
from rl_rms.optim.memory import Memory
from rl_rms.optim.options import (
    FOREACH_OPTIONS,
    check_options,
    looks_at_tensors,
    rule_options,
    state_options,
)
from rl_rms.optim.presets import Preset, preset
from rl_rms.optim.rule import AVERAGES, State, largest_root, real, rmsprop_init, rmsprop_update, settle_
from rl_rms.optim.states import checked_state, has_whole_state, local

# Attributes beside groups and states that a copy of an optimizer has too.
_KEPT = ("guard", "memory")
# The key of the first group under which a state dict holds the counts and estimates of the whole optimizer.
_TRACKING = "tracking"
# Updates between two looks for averages that have left the normal numbers.
_SETTLE_EVERY = 256
# Beside this epsilon the root of the largest number that is not normal is lost in rounding.
_LEAST_EPS = 1e-11
_FOREACH_DEVICES = frozenset({"cuda", "xpu"})
_CAPTURABLE_DEVICES = frozenset({"cuda", "xpu", "hpu", "xla"})


class RMSprop(Optimizer):
    """RMSprop that forgets at a stated half-life; a drop-in for `torch.optim.RMSprop`.

    With ``rho = 2 ** (-1 / h)``, h being the half-life in updates,

        v <- rho v + (1 - rho) g*g
        p <- p - lr g / (sqrt(v) + eps)

    and with every option as `rl_rms.optim.rule` states it. ``half_life``, ``rho`` and ``alpha`` are three names
    for one number. A half-life in env steps is converted at every step, exactly also where updates span varying
    numbers of env steps: set ``optimizer.steps_per_update`` before a step to the number that this update spans.
    ``half_life="match"`` takes it from ``timescale``, the time in which the world changes, and from the
    signal-to-noise ratio of the squared gradients, see `rl_rms.optim.estimators.Matched`; ``half_life="auto"``
    finds it from the gradients alone.

    In ``param_groups`` the decay in force is ``"alpha"``, as in torch, and ``"half_life"`` is None, the half-life
    in env steps as a string, ``"match"`` or ``"auto"``. State dicts go to `torch.optim.RMSprop` and come from
    it. Options that a state dict lacks stay as they are. A half-life in env steps is converted with the present
    ``steps_per_update``.

    Without momentum, optimism and ``exclude_current``, ``|step| <= lr / sqrt(1 - rho)`` for all gradients. With
    ``centered`` update t of a constant rho has ``|step| <= lr * min(sqrt(1 / (1 - rho) + rho ** -t), |g| / eps)``:
    gradients that stay alike have a variance near 0. Where rounding loses that variance, only the bound by eps
    holds. A step applies, in this order: guard against gradients that are not finite, clipping, second moment,
    division, clipping of the quotient, momentum, optimism, decoupled weight decay.

    Args:
        params: Parameters, named parameters, or dictionaries of them with options of their own, which may be
            those of the rule, its memory and its kernels.
        lr: Learning rate, >= 0; may be a tensor with one element. None is the preset's.
        alpha: torch's name for ``rho``.
        eps: Added to the denominator, >= 0. None is the preset's.
        weight_decay: Added to the gradient as ``weight_decay * p``, >= 0.
        momentum: Decay of the momentum buffer, > -1; below 0, which torch refuses, it takes back a part of the
            steps before, which damps the turning in games.
        centered: Whether to subtract the squared mean gradient from v.
        capturable: Whether a step may be captured in a CUDA graph; needs parameters on an accelerator.
        foreach: Whether to update all parameters in few large kernels; None does so on accelerators.
        maximize: Whether to ascend.
        differentiable: Whether autograd goes through the step, also to a tensor ``lr``.
        half_life: ``69`` or ``"69 updates"`` (optimizer steps), ``"20_000 steps"`` (env steps, summed over all
            sub-environments), a `HalfLife`, ``"match"`` or ``"auto"``.
        rho: Decay of v per update, in [0, 1); the preset's, in torch 0.99, a half-life of 69 updates, where none
            of the three is given.
        steps_per_update: Env steps that an update spans, for a half-life in env steps; may be set later.
        timescale: Autocorrelation time of what changes in the world, for ``half_life="match"``:
            ``"50_000 steps"`` (env steps), a number of updates, or a `Timescale`; may be set later.
        half_life_bounds: Shortest and longest half-life, in updates, that "match" and "auto" may take; None is 32
            and 10 000, or those of one's own estimator.
        max_step: Longest step that a parameter may make, > 0: with "match" and "auto" the half-life is at most
            ``ln 2 * (max_step / lr)**2``, at which no step can be longer; None sets no such bound.
        estimator: What "auto" estimates the half-life with, an estimator of one's own; None is
            `rl_rms.optim.estimators.Bank`.
        like: The implementation whose conventions and defaults hold where an argument is not given: ``"torch"``
            (also the default of Stable-Baselines3's A2C), ``"rmsprop_tf_like"`` (its ``RMSpropTFLike``),
            ``"tf1"``, ``"keras"`` or ``"optax"``; see `rl_rms.optim.presets`.
        bias_correction: Whether to divide v by the weight that gradients have in it, so that the first step has
            length lr instead of ``lr / sqrt(1 - rho)``, ten times that at 0.99.
        eps_in_sqrt: Whether the denominator is ``sqrt(v + eps)``, as in TensorFlow and in
            Stable-Baselines3's ``RMSpropTFLike``. None is the preset's.
        initial_second_moment: What v starts from, >= 0; 1 in TensorFlow and ``RMSpropTFLike``. None is the
            preset's.
        decoupled_weight_decay: Whether weight decay shrinks parameters by ``1 - lr * weight_decay`` per update
            instead of passing through the gradient. None is the preset's.
        corrected_weight_decay: Whether decoupled decay shrinks by ``1 - weight_decay * lr**2 / max_lr``, where
            ``max_lr`` is the optimizer's first learning rate, so that it fades faster than the steps do when a
            schedule lowers lr.
        nesterov: Whether momentum looks ahead.
        lr_in_momentum: Whether the momentum buffer holds steps with their learning rate, as in TensorFlow, Keras
            and optax. None is the preset's.
        cautious: Whether a step with momentum takes only the coordinates that descend by the present gradient.
        optimism: How far a step goes along the change of the update since the one before, after momentum, >= 0;
            1 is the optimistic gradient of games, twice the update less the one before.
        max_update_rms: Root mean square of ``g / d``, tensor by tensor, above which it is scaled down; None for
            no such clipping.
        exclude_current: Whether a gradient is divided by the normalizer from before it; steps then have no bound
            but ``max_update_rms``.
        max_grad_norm: Global norm above which all gradients are scaled down, in place and before v sees them, as
            `torch.nn.utils.clip_grad_norm_` does it; None for no clipping, as in what follows.
        max_tensor_norm: The same for each tensor's own norm.
        max_grad_value: Magnitude of a coordinate above which it is cut.
        max_grad_ratio: The same in root second moments of that coordinate, as they were before this gradient, > 1:
            3 contains a burst in one coordinate, which a norm hardly shows. A parameter's first gradient passes.
        on_nonfinite: What to do when a gradient has a nan or an infinite coordinate: ``"raise"``, or ``"skip"``
            the whole step, so that parameters and state stay as they were, or ``"clip"``: put 0 for nan and the
            largest finite magnitude of all gradients for infinities, and go on. Both are counted. None lets it
            through, as torch does.
        flat: Whether one kernel updates all parameters of a precision, many times faster for small networks. The
            state then lies in one buffer; parameters and gradients stay where they are. "auto" does so for
            contiguous float32 and float64 parameters on a CPU, True raises an error for others.

    Raises:
        ValueError: If an argument is out of its range, two names of the decay are given, or two options exclude
            each other; each names itself.

    Examples:
        >>> import torch, rl_rms
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = rl_rms.RMSprop(layer.parameters(), lr=7e-4, half_life="20_000 steps", steps_per_update=80)
        >>> optimizer.half_life
        250.0
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor | None = None,
        alpha: float | None = None,
        eps: float | None = None,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        half_life: float | str | HalfLife | None = None,
        rho: float | None = None,
        steps_per_update: float | None = None,
        timescale: float | str | Timescale | None = None,
        half_life_bounds: tuple[float, float] | None = None,
        max_step: float | None = None,
        estimator: HalfLifeEstimator | None = None,
        like: Preset = "torch",
        bias_correction: bool = False,
        eps_in_sqrt: bool | None = None,
        initial_second_moment: float | None = None,
        decoupled_weight_decay: bool | None = None,
        corrected_weight_decay: bool = False,
        nesterov: bool = False,
        lr_in_momentum: bool | None = None,
        cautious: bool = False,
        optimism: float = 0.0,
        max_update_rms: float | None = None,
        exclude_current: bool = False,
        max_grad_norm: float | None = None,
        max_tensor_norm: float | None = None,
        max_grad_value: float | None = None,
        max_grad_ratio: float | None = None,
        on_nonfinite: OnNonfinite | None = None,
        flat: bool | Literal["auto"] = "auto",
    ) -> None:
        self.guard = GradientGuard(
            max_grad_norm=max_grad_norm,
            max_tensor_norm=max_tensor_norm,
            max_grad_value=max_grad_value,
            max_grad_ratio=max_grad_ratio,
            on_nonfinite=on_nonfinite,
        )
        if (differentiable or capturable) and self.guard.in_use():
            raise ValueError(
                f"{self.guard.in_use()[0]} reads gradients as numbers, which a differentiable or capturable step "
                "cannot; clip before the step and leave it out"
            )
        self.memory = Memory(
            steps_per_update=steps_per_update,
            timescale=timescale,
            bounds=half_life_bounds,
            max_step=max_step,
            estimator=estimator,
        )
        self._layout: Layout | None = None
        options = preset(
            like,
            lr=lr,
            eps=eps,
            eps_in_sqrt=eps_in_sqrt,
            initial_second_moment=initial_second_moment,
            lr_in_momentum=lr_in_momentum,
            decoupled_weight_decay=decoupled_weight_decay,
        )
        default_rho = options.pop("rho")
        stated = self.memory.entries(half_life=half_life, rho=rho, alpha=alpha)
        defaults = {
            **options,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "bias_correction": bias_correction,
            "corrected_weight_decay": corrected_weight_decay,
            "max_lr": float(options["lr"]) if corrected_weight_decay else None,
            "nesterov": nesterov,
            "cautious": cautious,
            "optimism": optimism,
            "max_update_rms": max_update_rms,
            "exclude_current": exclude_current,
            "flat": flat,
        }
        super().__init__(params, {**defaults, **(stated or self.memory.entries(rho=default_rho))})

    # -- the memory ---------------------------------------------------------------------------------------

    @property
    def half_life(self) -> float:
        """Half-life in force, in updates: the first group's; the others' follow from their ``"alpha"``.

        It can be set, for all groups, to whatever the constructor takes.

        Raises:
            ValueError: If it is stated in env steps and ``steps_per_update`` is not set.
        """
        return self.memory.half_life(self.param_groups[0])

    @half_life.setter
    def half_life(self, half_life: float | str | HalfLife) -> None:
        self._set_memory(self.memory.entries(half_life=parse_half_life(half_life)))

    @property
    def rho(self) -> float:
        """Decay in force, the first group's; it can be set, for all groups.

        Raises:
            ValueError: If the half-life is stated in env steps and ``steps_per_update`` is not set.
        """
        return self.memory.decay(self.param_groups[0])

    @rho.setter
    def rho(self, rho: float) -> None:
        self._set_memory(self.memory.entries(rho=float(rho)))

    def _set_memory(self, entries: dict[str, Any]) -> None:
        # The defaults too, so that a group added later forgets as the others do.
        for options in (*self.param_groups, self.defaults):
            options.update(entries)
        self.memory.forget_estimates_but(self.param_groups)

    @property
    def steps_per_update(self) -> float | None:
        """Env steps that the next update spans; a training loop may set it before every step."""
        return self.memory.steps_per_update

    @steps_per_update.setter
    def steps_per_update(self, steps_per_update: float | None) -> None:
        check_positive("steps_per_update", steps_per_update, "unknown")
        self.memory.steps_per_update = steps_per_update

    @property
    def timescale(self) -> Timescale | None:
        """Autocorrelation time of what changes in the world, which ``half_life="match"`` needs.

        It can be set to whatever the constructor takes; a training loop may do so before every step.
        """
        return self.memory.timescale

    @timescale.setter
    def timescale(self, timescale: float | str | Timescale | None) -> None:
        self.memory.timescale = None if timescale is None else Timescale.parse(timescale)

    # -- stepping -----------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, *args: Any, **kwargs: Any) -> float | None:
        """One update of every parameter that has a gradient.

        Args:
            *args: At most one, a closure that evaluates the model anew and returns the loss.
            **kwargs: The same as ``closure=...``.

        Returns:
            The closure's loss, None without one.

        Raises:
            ValueError: If a half-life is stated in env steps and ``steps_per_update`` is not set.
            RuntimeError: If a gradient is sparse, or ``capturable`` is set for a parameter on a CPU.
            FloatingPointError: If a gradient is not finite and ``on_nonfinite="raise"``.
        """
        if torch.compiler.is_compiling():
            return _step_outside_of_the_graph(self, *args, **kwargs)
        # Hooks may look at, and replace, the arguments as the user gave them.
        return _watched_step(self, *args, **kwargs) if _is_watched(self) else self._step(*args, **kwargs)

    # torch would wrap the method in what `_watched_step` does, also where nobody watches.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["alpha"] = self.memory.decay(group)
        # At once, so that the norm is a sum in the same order in a first step after loading as in any other.
        layout = self._present_layout()
        self._check_gradients(layout)
        if self.guard.needs_norm and not self._admit(layout):
            if self.guard.on_nonfinite != "clip":
                return loss
            mend_([real(param.grad) for param in self._params() if param.grad is not None])
            layout = self._present_layout()
            if not self._admit(layout):
                return loss
        clipped = self.guard.clips_in_place and self._clip_in_place()
        if clipped:
            layout = self._present_layout()
        scale = self._scale(layout, clipped=clipped)
        if self.guard.overflows:
            self._cut_squares_off(scale)
            scale, layout = 1.0, self._present_layout()
        self._update_all(layout, scale)
        if self.guard.num_updates % _SETTLE_EVERY == 0:
            self._settle(layout)
        if self.memory.estimates:
            self.memory.observe(self.param_groups, layout.buckets)
        return loss

    def _check_gradients(self, layout: Layout) -> None:
        for own, group in zip(layout.groups, self.param_groups, strict=True):
            for param in own.others:
                _check_can_update(param, capturable=group["capturable"])

    def _update_all(self, layout: Layout, scale: float) -> None:
        for own, group in zip(layout.groups, self.param_groups, strict=True):
            for bucket in own.buckets:
                bucket.update(group, scale=scale)
            if own.others:
                with torch.set_grad_enabled(self.defaults["differentiable"]):
                    self._update(group, own.others, scale)

    def reset(self) -> None:
        """Forget all past gradients, after a change of the environment.

        The state is as before the first step. Parameters, options and the estimates of the half-life stay.
        """
        self.state.clear()
        self._layout = None

    def _present_layout(self) -> Layout:
        """The layout of the present parameters, gradients and states, with its gradients collected."""
        if self._layout is None or not self._layout.collect(self.param_groups, self.state):
            self._layout = Layout(self.param_groups, self.state, self._state)
            if not self._layout.collect(self.param_groups, self.state):
                raise RuntimeError(
                    "parameters, gradients or states must not change while step() reads them; keep other threads "
                    "from writing to them"
                )
        return self._layout

    def _admit(self, layout: Layout) -> bool:
        """Whether a step may be taken with the gradients."""
        try:
            return self.guard.admit(layout.gradients())
        except FloatingPointError as error:
            raise FloatingPointError(describe_nonfinite(self._params()) or str(error)) from None

    def _scale(self, layout: Layout, *, clipped: bool) -> float:
        """The factor that brings the global norm of all gradients to the allowed one, at most 1."""
        scale = 1.0
        if self.guard.max_grad_norm is not None:
            norm = total_norm(layout.gradients()) if clipped else self.guard.gradient_norm
            assert norm is not None
            scale = self.guard.scale(norm)
        self.guard.count(clipped=clipped or scale < 1.0)
        return scale

    @torch.no_grad()
    def _clip_in_place(self) -> bool:
        clipped = False
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            states = [self.state.get(param, {}) for param in params]
            clipped |= self.guard.clip_in_place(params, states, group)
        return clipped

    @torch.no_grad()
    def _cut_squares_off(self, scale: float) -> None:
        """Scale gradients, and bring coordinates whose squares would be infinite to where they are not."""
        for param in self._params():
            if param.grad is not None:
                bound = largest_root(torch.promote_types(real(param).dtype, torch.float32))
                real(param.grad).mul_(scale).clamp_(-bound, bound)

    @torch.no_grad()
    def _settle(self, layout: Layout) -> None:
        """Bring averages that have left the normal numbers back, where no step depends on such small ones."""
        for own, group in zip(layout.groups, self.param_groups, strict=True):
            if group["eps"] < _LEAST_EPS or group["differentiable"] or group["capturable"]:
                continue
            states = [bucket.state for bucket in own.buckets] + [self.state.get(one, {}) for one in own.others]
            settle_([local(real(state[name])) for state in states for name in AVERAGES if name in state])

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def _update(self, group: dict[str, Any], candidates: list[Tensor], scale: float) -> None:
        """Update parameters outside of the buckets."""
        options = rule_options(group)
        params, grads = [], []
        for param in candidates:
            if param.grad is not None:
                if scale != 1.0:
                    param.grad.mul_(scale)
                params.append(param)
                grads.append(-param.grad if group["maximize"] else param.grad)
        states = [self._state(param, group) for param in params]
        if _uses_foreach(group, params):
            options = {name: options[name] for name in ("lr", "rho", *FOREACH_OPTIONS)}
            for bucket in _by_device_and_dtype(params, grads, states):
                rmsprop_update_foreach(*bucket, **options)
            return
        for param, grad, state in zip(params, grads, states, strict=True):
            # Autograd must not keep the memory that a differentiable step overwrites.
            before = param.clone() if group["differentiable"] else param
            _write(param, state, *rmsprop_update(before, grad, state, **options))

    def _state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = self.state[param]
        if has_whole_state(state, param, group):
            return state
        if state:
            number = [one is param for one in group["params"]].index(True)
            state.update(checked_state(state, param, group, name=_name(group, number), needed={}))
        else:
            state.update(rmsprop_init(param, **state_options(group)))
        if group["capturable"]:
            _make_capturable(state, param.device)
        return state

    def diagnostics(self) -> dict[str, float]:
        """The optimizer's present state in numbers: see `rl_rms.optim.diagnostics.diagnostics`."""
        return diagnostics(self)

    # -- groups and state ---------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own.

        Args:
            param_group: ``"params"`` and any options, the decay under at most one of its three names.

        Raises:
            ValueError: As the constructor does.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        group.update(
            self.memory.entries(**{name: group.pop(name, None) for name in ("half_life", "rho", "alpha")})
        )
        check_options({**self.defaults, **group})
        super().add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """State and options, in torch's form; counts and estimates stand in the first group.

        Returns:
            Tensors, numbers and strings in dictionaries and lists.
        """
        self.param_groups[0][_TRACKING] = {
            "guard": self.guard.state_dict(),
            "memory": self.memory.state_dict(),
        }
        try:
            return super().state_dict()
        finally:
            del self.param_groups[0][_TRACKING]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore state and options that this class, `torch.optim.RMSprop` or ``RMSpropTFLike`` saved.

        The optimizer copies all tensors. Options that the state dict lacks stay as they are. A state dict that
        does not fit leaves the optimizer as it was.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If the groups, an option, or the shape, kind or range of a state does not fit. The
                message names the parameter.
        """
        if not isinstance(state_dict, dict):
            raise ValueError(
                f"state_dict must be a dictionary from state_dict(), got {type(state_dict).__name__}; load "
                "the file first"
            )
        states: dict[Tensor, State] = {}

        def check(_: Optimizer, final: dict[str, Any]) -> dict[str, Any]:
            groups = self._checked_groups(final)
            saved = final["state"]
            if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
                return final  # which torch refuses
            for group, own, given in zip(groups, self.param_groups, final["param_groups"], strict=True):
                for number, param in enumerate(own["params"]):
                    index = group["params"][number]
                    name = _name(group, number)
                    state = checked_state(saved.get(index, {}), param, group, name=name, needed=given)
                    if state:
                        states[param] = state
            self._load_tracking(groups[0].pop(_TRACKING, {}))
            known = {index for group in groups for index in group["params"]}
            rest = {index: copy.deepcopy(value) for index, value in saved.items() if index not in known}
            return {"state": rest, "param_groups": groups}

        def install(_: Optimizer) -> None:
            for group in self.param_groups:
                for param in group["params"]:
                    if param in states:
                        self.state[param] = states[param]
                        if group["capturable"]:
                            _make_capturable(states[param], param.device)

        # After the user's hooks that see what is to be loaded, and before those that see what was loaded.
        hooks = (
            self.register_load_state_dict_pre_hook(check),
            self.register_load_state_dict_post_hook(install, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _checked_groups(self, state_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """The groups of a state dict, each with the options that it lacks.

        Raises:
            ValueError: If they do not fit this optimizer's groups.
        """
        saved = state_dict.get("param_groups")
        if not (isinstance(saved, list) and isinstance(state_dict.get("state"), dict)):
            raise ValueError(
                f"a state dict must hold a dictionary 'state' and a list 'param_groups', got {list(state_dict)}; "
                "save the optimizer again with state_dict()"
            )
        try:
            for group in saved:
                hash((*group["params"], *group))
            is_right = all(isinstance(group["params"], list) for group in saved)
        except (KeyError, TypeError, IndexError):
            is_right = False
        if not is_right:
            raise ValueError(
                "each entry of 'param_groups' must be a dictionary with a list 'params' of numbers, got "
                f"{saved!r:.200}; save the optimizer again with state_dict()"
            )
        groups = []
        for own, group in zip(self.param_groups, saved, strict=False):
            merged = {**{name: own[name] for name in self.defaults}, **group}
            check_options(merged)
            groups.append(merged)
        return groups

    def _load_tracking(self, tracking: Any) -> None:
        """Load counts and estimates; torch's distributed checkpoints drop those that are empty."""
        if not isinstance(tracking, dict):
            raise ValueError(f"{_TRACKING!r} must be a dictionary, got {tracking!r}; save the optimizer again")
        before = self.memory.state_dict()
        self.memory.load_state_dict(tracking.get("memory", {}))
        try:
            if "guard" in tracking:
                self.guard.load_state_dict(tracking["guard"])
        except ValueError:
            self.memory.load_state_dict(before)
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in _KEPT}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layout = None


def _is_watched(optimizer: Optimizer) -> bool:
    """Whether step hooks or a profiler want to hear of a step."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    )


# The hooks and the profiler's record around a step, as torch has them around every optimizer's.
_watched_step: Callable[..., float | None] = Optimizer.profile_hook_step(RMSprop._step)

# A compiled function steps outside of its graph: Python numbers that change with every update would be constants
# or new compilations there, and the CPU kernel is one call anyway.
_step_outside_of_the_graph: Callable[..., float | None] = _disable_dynamo(RMSprop.step)


def _name(group: Mapping[str, Any], number: int) -> str:
    """A parameter's name in messages: its number in the group, and its own name if it has one."""
    names = group.get("param_names")
    return f"parameter {number}" + (f" ({names[number]!r})" if names and len(names) > number else "")


def _check_can_update(param: Tensor, *, capturable: bool) -> None:
    if param.grad is None:
        return
    if param.grad.layout is not torch.strided:
        raise RuntimeError(
            f"RMSprop does not support sparse gradients, got one for a parameter of shape {tuple(param.shape)}; "
            "build the embedding with sparse=False"
        )
    if capturable and param.device.type not in _CAPTURABLE_DEVICES:
        raise RuntimeError(
            f"capturable=True needs parameters on one of {sorted(_CAPTURABLE_DEVICES)}, got one on "
            f"{param.device.type}; leave capturable out"
        )


def _uses_foreach(group: dict[str, Any], params: list[Tensor]) -> bool:
    """The user's choice; without one, whether this is where few large kernels pay."""
    if looks_at_tensors(group) or group["exclude_current"]:
        return False
    if group["foreach"] is not None:
        return bool(group["foreach"])
    return not group["differentiable"] and all(param.device.type in _FOREACH_DEVICES for param in params)


def _by_device_and_dtype(
    params: list[Tensor], grads: list[Tensor], states: list[State]
) -> list[tuple[list[Tensor], list[Tensor], list[State]]]:
    """The three lists split so that each part holds parameters of one device and precision."""
    buckets: dict[Any, tuple[list[Tensor], list[Tensor], list[State]]] = defaultdict(lambda: ([], [], []))
    for param, grad, state in zip(params, grads, states, strict=True):
        bucket = buckets[param.device, param.dtype]
        bucket[0].append(param)
        bucket[1].append(grad)
        bucket[2].append(state)
    return list(buckets.values())


def _write(param: Tensor, state: State, new_param: Tensor, new_state: State) -> None:
    """Write an update into the memory of parameter and state, where others may hold views of it."""
    param.copy_(new_param)
    for name, value in new_state.items():
        if isinstance(state[name], Tensor):
            state[name].copy_(value)
        else:
            state[name] = value


def _make_capturable(state: State, device: torch.device) -> None:
    """Hold what changes with every update on the device, since a captured graph replays numbers as they were."""
    state["step"] = state["step"].to(device)
    state["initial_weight"] = torch.as_tensor(state["initial_weight"], dtype=torch.float64, device=device)
