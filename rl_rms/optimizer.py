"""RMSprop as a `torch.optim.Optimizer`, its memory stated as a half-life in updates or in env steps.

The rule itself stands in `rl_rms.update`; here is what an optimizer keeps around it: parameter groups, state,
torch's conventions, and the half-life in force.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from rl_rms.diagnostics import diagnostics
from rl_rms.flat import FlatBucket, can_flatten
from rl_rms.foreach import rmsprop_update_foreach
from rl_rms.half_life import HalfLife, half_life_from_rho, rho_from_half_life
from rl_rms.update import Scalar, State, real, rmsprop_init, rmsprop_update

_DEFAULT_RHO = 0.99
_RULE_OPTIONS = (
    "eps",
    "weight_decay",
    "momentum",
    "centered",
    "debias",
    "eps_inside_sqrt",
    "decoupled_weight_decay",
)
# What a group without the option, saved by torch or by an older torch, was trained with.
_TORCH_MEANS: dict[str, Any] = {
    "momentum": 0,
    "centered": False,
    "capturable": False,
    "foreach": None,
    "maximize": False,
    "differentiable": False,
    "half_life": None,
    "debias": False,
    "eps_inside_sqrt": False,
    "initial_second_moment": 0.0,
    "decoupled_weight_decay": False,
    "flat": "auto",
}
# What an optimizer knows beside its groups and states, and takes along when it is copied.
_KEPT = ("steps_per_update", "max_grad_norm", "on_nonfinite", "gradient_norm", "num_nonfinite")
# Rebuilding the buffers more often costs more than they save: then somebody else moves the parameters about.
_MOST_REBUILDS = 8
_FOREACH_DEVICES = frozenset({"cuda", "xpu"})
_CAPTURABLE_DEVICES = frozenset({"cuda", "xpu", "hpu", "xla"})


class _Layout(NamedTuple):
    """How a group's parameters lie: in flat buckets, and others by themselves."""

    num_params: int
    buckets: list[FlatBucket]
    others: list[Tensor]


class RMSprop(Optimizer):
    r"""RMSprop that forgets at a stated half-life; a drop-in for `torch.optim.RMSprop`.

    With :math:`\rho = 2^{-1/h}`, :math:`h` being the half-life in updates,

    .. math::
        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad
        p_t = p_{t-1} - \mathrm{lr} \, \frac{g_t}{\sqrt{v_t} + \epsilon}

    and with every option as `rl_rms.update` states it. ``half_life``, ``rho`` and ``alpha`` are three names for
    one number. A half-life in env steps is converted at every step, exactly also where updates span varying
    numbers of env steps: set ``optimizer.steps_per_update`` before a step to the number that this update spans.

    In ``param_groups`` the decay in force is ``"alpha"``, as in torch, and ``"half_life"`` is None or the
    half-life in env steps as a string. State dicts go to `torch.optim.RMSprop` and come from it; options that
    torch does not have are then off, whatever this optimizer was built with. `load_state_dict` restores what was
    saved, except that a half-life in env steps is converted with the present ``steps_per_update``.

    Without momentum no step is longer than ``lr / sqrt(1 - rho)``, whatever the gradients.

    Args:
        params: Parameters, named parameters, or dictionaries of them with options of their own, which may be any
            that follow but ``steps_per_update``.
        lr: Learning rate, >= 0; may be a tensor with one element.
        alpha: torch's name for ``rho``.
        eps: Added to the denominator, >= 0.
        weight_decay: Added to the gradient as ``weight_decay * p``, >= 0.
        momentum: Decay of the momentum buffer, >= 0.
        centered: Whether to subtract the squared mean gradient from v.
        capturable: Whether a step may be captured in a CUDA graph; needs parameters on an accelerator.
        foreach: Whether to update all parameters in few large kernels; None does so on accelerators.
        maximize: Whether to ascend.
        differentiable: Whether autograd goes through the step, also to a tensor ``lr``.
        half_life: ``69`` or ``"69 updates"`` (optimizer steps), ``"20_000 steps"`` (env steps, summed over all
            sub-environments), or a `HalfLife`.
        rho: Decay of v per update, in [0, 1); 0.99, a half-life of 69 updates, where none of the three is given.
        steps_per_update: Env steps that an update spans, for a half-life in env steps; may be set later.
        debias: Whether to divide v by the weight that gradients have in it, so that the first step has length lr
            instead of ``lr / sqrt(1 - rho)``, ten times that at 0.99.
        eps_inside_sqrt: Whether the denominator is ``sqrt(v + eps)``, as in TensorFlow and in
            Stable-Baselines3's ``RMSpropTFLike``.
        initial_second_moment: What v starts from, >= 0; 1 in TensorFlow and ``RMSpropTFLike``.
        decoupled_weight_decay: Whether weight decay shrinks parameters by ``1 - lr * weight_decay`` per update
            instead of passing through the gradient.
        max_grad_norm: Global norm above which all gradients are scaled down, in place and before v sees them, as
            `torch.nn.utils.clip_grad_norm_` does it; None for no clipping.
        on_nonfinite: What to do when a gradient has a nan or an infinite coordinate: ``"raise"``, or ``"skip"``
            the whole step and count it in ``num_nonfinite``; parameters and state stay as they were. None lets it
            through, as torch does.
        flat: Whether the first step moves parameters, gradients and state of each precision into one buffer, over
            which a step is many times faster for small networks: ``param.data`` then points elsewhere than
            before, as after ``.to()``. "auto" does so on a CPU wherever it may be done (not to memory that
            processes share or that somebody else has laid out), True says so when it cannot be done.

    Raises:
        ValueError: If an argument is out of its range, two names of the decay are given, or two options exclude
            each other; each names itself.

    Example:
        >>> import torch, rl_rms
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = rl_rms.RMSprop(layer.parameters(), lr=7e-4, half_life="20_000 steps", steps_per_update=80)
        >>> optimizer.half_life
        250.0
    """

    steps_per_update: float | None = None
    """Env steps that the next update spans; a training loop may set it before every step."""
    gradient_norm: float | None = None
    """Global norm of the last step's gradients before clipping; None where neither guard needs it."""
    num_nonfinite: int = 0
    """Steps that were skipped for a gradient that was not finite."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float | None = None,
        eps: float = 1e-8,
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
        debias: bool = False,
        eps_inside_sqrt: bool = False,
        initial_second_moment: float = 0.0,
        decoupled_weight_decay: bool = False,
        max_grad_norm: float | None = None,
        on_nonfinite: Literal["raise", "skip"] | None = None,
        flat: bool | Literal["auto"] = "auto",
    ) -> None:
        _check_guards(max_grad_norm, on_nonfinite, needs_graph=differentiable or capturable)
        self.max_grad_norm = max_grad_norm
        self.on_nonfinite = on_nonfinite
        self._layouts: dict[int, _Layout] = {}
        self._rebuilds = 0
        # Before the base class adds the groups, whose half-lives may be in env steps.
        self.steps_per_update = steps_per_update
        memory = self._memory(half_life=half_life, rho=rho, alpha=alpha) or self._memory(rho=_DEFAULT_RHO)
        defaults = {
            "lr": lr,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "debias": debias,
            "eps_inside_sqrt": eps_inside_sqrt,
            "initial_second_moment": initial_second_moment,
            "decoupled_weight_decay": decoupled_weight_decay,
            "flat": flat,
        }
        super().__init__(params, {**defaults, **memory})

    # -- the half-life ------------------------------------------------------------------------------------

    @property
    def half_life(self) -> float:
        """Half-life in force, in updates: the first group's; the others' follow from their ``"alpha"``.

        It can be set, for all groups, to whatever the constructor takes.

        Raises:
            ValueError: If it is stated in env steps and ``steps_per_update`` is not set.
        """
        group = self.param_groups[0]
        stated = group["half_life"]
        if stated is None:
            return half_life_from_rho(group["alpha"])
        return HalfLife.parse(stated).in_updates(self.steps_per_update)

    @half_life.setter
    def half_life(self, half_life: float | str | HalfLife) -> None:
        self._set_memory(self._memory(half_life=HalfLife.parse(half_life)))

    @property
    def rho(self) -> float:
        """Decay in force, the first group's; it can be set, for all groups.

        Raises:
            ValueError: If the half-life is stated in env steps and ``steps_per_update`` is not set.
        """
        return self._decay_in_force(self.param_groups[0])

    @rho.setter
    def rho(self, rho: float) -> None:
        self._set_memory(self._memory(rho=float(rho)))

    def _memory(
        self,
        *,
        half_life: float | str | HalfLife | None = None,
        rho: float | None = None,
        alpha: float | None = None,
    ) -> dict[str, Any]:
        """The entries of a group for the one of the three names that is given, none where none is."""
        candidates: dict[str, Any] = {"half_life": half_life, "rho": rho, "alpha": alpha}
        given = {name: value for name, value in candidates.items() if value is not None}
        if len(given) > 1:
            listed = " and ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(
                f"half_life, rho and alpha are three names for one number, got {listed}; give one of them"
            )
        if half_life is not None:
            stated = HalfLife.parse(half_life)
            if stated.unit == "updates":
                return {"half_life": None, "alpha": rho_from_half_life(stated.value)}
            entries: dict[str, Any] = {"half_life": str(stated), "alpha": None}
            if self.steps_per_update is not None:
                entries["alpha"] = self._decay_in_force(entries)
            return entries
        for name, value in given.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}; 0.99 is a half-life of 69 updates")
            return {"half_life": None, "alpha": float(value)}
        return {}

    def _set_memory(self, entries: dict[str, Any]) -> None:
        # The defaults too, so that a group added later forgets as the others do.
        for options in (*self.param_groups, self.defaults):
            options.update(entries)

    def _decay_in_force(self, group: dict[str, Any]) -> float:
        if group["half_life"] is None:
            return float(group["alpha"])
        return rho_from_half_life(HalfLife.parse(group["half_life"]).in_updates(self.steps_per_update))

    # -- stepping -----------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient.

        Args:
            closure: Evaluates the model anew and returns the loss.

        Returns:
            The closure's loss, None without one.

        Raises:
            ValueError: If a half-life is stated in env steps and ``steps_per_update`` is not set.
            RuntimeError: If a gradient is sparse, or ``capturable`` is set for a parameter on a CPU.
            FloatingPointError: If a gradient is not finite and ``on_nonfinite="raise"``.
        """
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            scale = 1.0
            if self.max_grad_norm is not None or self.on_nonfinite is not None:
                allowed = self._guard()
                if allowed is None:
                    return loss
                scale = allowed
            for group in self.param_groups:
                group["alpha"] = self._decay_in_force(group)
            for index, group in enumerate(self.param_groups):
                others = group["params"]
                if _may_be_flat(group):
                    others = self._update_flat(index, group, scale)
                elif index in self._layouts:
                    self._forget_layouts()
                if others:
                    self._update(group, others, scale)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: Whether to set them to None, as torch does by default. False sets them to 0 where they
                are, which is one kernel for all that lie in a flat buffer, and leaves them there.
        """
        layouts = [] if set_to_none else list(self._layouts.values())
        buckets = [bucket for layout in layouts for bucket in layout.buckets]
        if (
            len(layouts) == len(self.param_groups)
            and not any(layout.others for layout in layouts)
            and all(bucket.holds_gradients() for bucket in buckets)
        ):
            for bucket in buckets:
                bucket.grad.zero_()
        else:
            super().zero_grad(set_to_none)

    def _guard(self) -> float | None:
        """What the gradients are to be multiplied with, None if no step may be taken with them."""
        grads = self._gradient_tensors()
        self.gradient_norm = norm = _total_norm(grads)
        if not math.isfinite(norm):
            # In float32 the squares of finite gradients may overflow.
            self.gradient_norm = norm = _total_norm([grad.double() for grad in grads])
        if not math.isfinite(norm) and self.on_nonfinite is not None:
            if self.on_nonfinite == "raise":
                raise FloatingPointError(self._describe_nonfinite())
            self.num_nonfinite += 1
            return None
        scale = 1.0 if self.max_grad_norm is None else self.max_grad_norm / (norm + 1e-6)
        return 1.0 if scale >= 1.0 else scale

    def _gradient_tensors(self) -> list[Tensor]:
        """All gradients; those in a flat buffer as that one tensor."""
        grads = []
        for index, group in enumerate(self.param_groups):
            layout = self._layouts.get(index)
            params = group["params"]
            if layout is not None and layout.num_params == len(params):
                params = list(layout.others)
                for bucket in layout.buckets:
                    if bucket.holds_gradients():
                        grads.append(bucket.grad)
                    else:
                        params += bucket.params
            grads += [real(param.grad) for param in params if param.grad is not None]
        return grads

    def _describe_nonfinite(self) -> str:
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in enumerate(params):
            if param.grad is not None and not param.grad.isfinite().all():
                wrong = int((~param.grad.isfinite()).sum())
                return (
                    f"the gradient of parameter {index}, of shape {tuple(param.shape)}, is nan or infinite in "
                    f"{wrong} of {param.numel()} coordinates; nothing was updated; mend the loss, or use "
                    'on_nonfinite="skip" to pass over such steps'
                )
        return "the gradients' norm is not finite; nothing was updated"

    def _update_flat(self, index: int, group: dict[str, Any], scale: float) -> list[Tensor]:
        """Update what lies in flat buckets of a group, built or built again where they must be; the rest is left.

        Returns:
            The parameters that were not updated.
        """
        layout = self._layouts.get(index)
        gradients = None if layout is None else self._gradients(layout, group)
        if gradients is None:
            if layout is not None:
                self._forget_layouts()
                self._rebuilds += 1
            if self._rebuilds > _MOST_REBUILDS:
                return list(group["params"])
            layout = self._layouts[index] = self._flatten(group)
            gradients = self._gradients(layout, group)
        assert layout is not None
        assert gradients is not None
        options = {name: group[name] for name in _RULE_OPTIONS}
        for bucket, grads in zip(layout.buckets, gradients, strict=True):
            bucket.update(
                grads,
                scale=scale,
                lr=float(group["lr"]),
                rho=group["alpha"],
                maximize=group["maximize"],
                **options,
            )
        return layout.others

    def _gradients(self, layout: _Layout, group: dict[str, Any]) -> list[list[Tensor]] | None:
        """Each bucket's gradients, None if the layout is no longer the group's."""
        if layout.num_params != len(group["params"]) or any(map(_is_flattenable, layout.others)):
            return None
        gradients = [bucket.gradients(self.state) for bucket in layout.buckets]
        return None if None in gradients else gradients  # type: ignore[return-value]

    def _flatten(self, group: dict[str, Any]) -> _Layout:
        """Move what may be moved of a group into buckets of one precision and one count of updates."""
        buckets: dict[Any, tuple[list[Tensor], list[State]]] = defaultdict(lambda: ([], []))
        others = []
        for param in group["params"]:
            if not _is_flattenable(param):
                others.append(param)
                continue
            state = self._state(param, group)
            params, states = buckets[param.dtype, float(state["step"]), state["initial_weight"]]
            params.append(param)
            states.append(state)
        stuck = [param for param in others if param.grad is not None]
        if group["flat"] is True and stuck:
            raise ValueError(
                "flat=True needs dense float32 or float64 parameters on the CPU with memory of their own, got one "
                f'of shape {tuple(stuck[0].shape)}, {stuck[0].dtype}, on {stuck[0].device}; use flat="auto"'
            )
        return _Layout(len(group["params"]), [FlatBucket(*bucket) for bucket in buckets.values()], others)

    def _forget_layouts(self) -> None:
        for layout in self._layouts.values():
            for bucket in layout.buckets:
                bucket.dissolve()
        self._layouts = {}

    def _update(self, group: dict[str, Any], candidates: list[Tensor], scale: float) -> None:
        params, grads = [], []
        for param in candidates:
            if param.grad is not None:
                _check_can_update(param, param.grad, capturable=group["capturable"])
                if scale != 1.0:
                    param.grad.mul_(scale)
                params.append(param)
                grads.append(-param.grad if group["maximize"] else param.grad)
        states = [self._state(param, group) for param in params]
        options = {
            "lr": _as_scalar(group["lr"]),
            "rho": group["alpha"],
            **{name: group[name] for name in _RULE_OPTIONS},
        }
        if _uses_foreach(group, params):
            for bucket in _by_device_and_dtype(params, grads, states):
                rmsprop_update_foreach(*bucket, **options)
            return
        for param, grad, state in zip(params, grads, states, strict=True):
            # What autograd keeps for a differentiable step must not be the memory that the step overwrites.
            before = param.clone() if group["differentiable"] else param
            _write(param, state, *rmsprop_update(before, grad, state, **options))

    def _state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = self.state[param]
        if not state:
            options = {name: group[name] for name in ("momentum", "centered", "initial_second_moment")}
            state.update(rmsprop_init(param, **options))
            if group["capturable"]:
                _make_capturable(state, param.device)
        return state

    def diagnostics(self) -> dict[str, float]:
        """What the optimizer does at present, computed when asked for: see `rl_rms.diagnostics.diagnostics`."""
        return diagnostics(self)

    # -- groups and state ---------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own.

        Args:
            param_group: ``"params"`` and any options, the decay under at most one of its three names.

        Raises:
            ValueError: As the constructor does.
        """
        group = dict(param_group)
        group.update(self._memory(**{name: group.pop(name, None) for name in ("half_life", "rho", "alpha")}))
        _check_options({**self.defaults, **group})
        super().add_param_group(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore state and options that this class or `torch.optim.RMSprop` saved.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If its groups are others than this optimizer's.
        """
        self._forget_layouts()
        loaded: dict[str, Any] = {}
        last_hook = self.register_load_state_dict_pre_hook(lambda _, final: loaded.update(final))
        try:
            super().load_state_dict(state_dict)
        finally:
            last_hook.remove()
        # torch has rounded all state to the parameters' precision; where that is half, ours is float32.
        saved_ids = [index for group in loaded["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved_ids, params, strict=True):
            dtype = torch.promote_types(param.dtype, torch.float32)
            for name, value in loaded["state"].get(index, {}).items():
                if dtype != param.dtype and name != "step" and isinstance(value, Tensor):
                    self.state[param][name] = value.to(device=param.device, dtype=dtype, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in _KEPT}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layouts = {}
        self._rebuilds = 0
        for group in self.param_groups:
            for name, meaning in _TORCH_MEANS.items():
                group.setdefault(name, meaning)
            for param in group["params"]:
                param_state = self.state.get(param)
                if not param_state:
                    continue
                param_state["step"] = torch.as_tensor(param_state["step"], dtype=torch.float32)
                if "initial_weight" not in param_state:
                    param_state["initial_weight"] = group["alpha"] ** float(param_state["step"])
                if group["capturable"]:
                    _make_capturable(param_state, param.device)


def _check_guards(max_grad_norm: float | None, on_nonfinite: str | None, *, needs_graph: bool) -> None:
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be > 0, or None for no clipping, got {max_grad_norm!r}")
    if on_nonfinite not in ("raise", "skip", None):
        raise ValueError(f'on_nonfinite must be "raise", "skip" or None, got {on_nonfinite!r}')
    if needs_graph and (max_grad_norm is not None or on_nonfinite is not None):
        raise ValueError(
            "max_grad_norm and on_nonfinite read the gradients' norm as a number, which a differentiable or "
            "capturable step cannot; clip before the step and leave them out"
        )


def _total_norm(grads: list[Tensor]) -> float:
    """Norm of all coordinates; a single flat gradient is spared torch's sorting by device and precision."""
    if len(grads) == 1:
        return float(torch.linalg.vector_norm(grads[0]))
    return float(torch.nn.utils.get_total_norm(grads))


def _may_be_flat(group: dict[str, Any]) -> bool:
    """Whether a group's options leave its parameters to the flat path."""
    lr = group["lr"]
    return (
        group["flat"] is not False
        and not (group["differentiable"] or group["capturable"] or group["foreach"])
        and not torch.compiler.is_compiling()
        and not (isinstance(lr, Tensor) and (lr.requires_grad or lr.device.type != "cpu"))
    )


def _is_flattenable(param: Tensor) -> bool:
    return param.grad is not None and not param.grad.is_sparse and can_flatten(param)


def _check_options(group: dict[str, Any]) -> None:
    """Refuse options out of their range or against each other, by name."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must be a number or a tensor with one element, got one of shape {tuple(lr.shape)}")
    for name in ("lr", "eps", "weight_decay", "momentum", "initial_second_moment"):
        if not group[name] >= 0:
            raise ValueError(f"{name} must be >= 0, got {group[name]!r}")
    if group["flat"] not in (True, False, "auto"):
        raise ValueError(f'flat must be True, False or "auto", got {group["flat"]!r}')
    if group["debias"] and group["initial_second_moment"] != 0:
        raise ValueError(
            "debias corrects an accumulator that starts at 0, got debias=True with "
            f"initial_second_moment={group['initial_second_moment']!r}; leave one of them out"
        )
    if group["differentiable"] and group["foreach"]:
        raise ValueError(
            "foreach kernels are outside of autograd, got foreach=True with differentiable=True; leave foreach out"
        )


def _check_can_update(param: Tensor, grad: Tensor, *, capturable: bool) -> None:
    if grad.is_sparse:
        raise RuntimeError(
            f"RMSprop does not support sparse gradients, got one for a parameter of shape {tuple(param.shape)}; "
            "build the embedding with sparse=False"
        )
    if capturable and not torch.compiler.is_compiling() and param.device.type not in _CAPTURABLE_DEVICES:
        raise RuntimeError(
            f"capturable=True needs parameters on one of {sorted(_CAPTURABLE_DEVICES)}, got one on "
            f"{param.device.type}; leave capturable out"
        )


def _uses_foreach(group: dict[str, Any], params: list[Tensor]) -> bool:
    """The user's choice; without one, whether this is where few large kernels pay."""
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


def _as_scalar(lr: Scalar) -> Scalar:
    return lr.reshape(()) if isinstance(lr, Tensor) else lr
