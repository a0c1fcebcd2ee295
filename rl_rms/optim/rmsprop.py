"""RMSprop as a `torch.optim.Optimizer` with a half-life in updates or in environment steps."""

import operator
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from rl_rms.half_life import HalfLife, Timescale, check_positive, parse_half_life
from rl_rms.optim.controller import HalfLifeController
from rl_rms.optim.diagnostics import diagnostics
from rl_rms.optim.estimators import HalfLifeEstimator
from rl_rms.optim.guard import GradientGuard, OnNonfinite
from rl_rms.optim.kernels.choice import choose_kernel
from rl_rms.optim.loading import TRACKING, checked_loading
from rl_rms.optim.options import check_options
from rl_rms.optim.plan import Plan, collect_batches
from rl_rms.optim.presets import Preset, preset
from rl_rms.optim.states import settle_states_
from rl_rms.optim.torch_private import (
    disable_dynamo,
    foreach_zero_,
    has_step_observers,
    is_profiler_enabled,
    set_grad_enabled,
    without_dynamo,
)

# Number of updates between two checks for averages that overflowed or became subnormal.
_SETTLE_EVERY = 256

# Arguments that a parameter group cannot set. torch ignores unknown keys of a group.
_OF_ALL_GROUPS = {
    "steps_per_update",
    "timescale",
    "half_life_bounds",
    "max_step",
    "estimator",
    "like",
    "max_grad_norm",
    "max_tensor_norm",
    "max_grad_value",
    "max_grad_ratio",
    "on_nonfinite",
}

_get_grad = operator.attrgetter("grad")
_requires_grad = operator.attrgetter("requires_grad")


class RMSprop(Optimizer):
    """RMSprop with a half-life; a drop-in replacement for `torch.optim.RMSprop`.

    With the half-life h in updates and ``rho = 2 ** (-1 / h)``, the update is

        v <- rho v + (1 - rho) g*g
        p <- p - lr g / (sqrt(v) + eps)

    `rl_rms.optim.rule` has the equations with all options except ``maximize`` and the clipping of gradients.
    ``half_life``, ``rho`` and ``alpha`` are three ways to set the decay. A half-life in environment steps is
    converted to updates before every update. Set ``optimizer.steps_per_update`` to the number of environment
    steps that the next update spans. ``half_life="match"`` derives the half-life from ``timescale`` and the
    gradients, and ``"auto"`` only from the gradients. See `rl_rms.optim.matched` and `rl_rms.optim.bank`.

    In ``param_groups``, ``"alpha"`` is the decay that the last update used or the last assignment set; None while
    the decay is unknown. ``"half_life"`` is None for a fixed decay, the half-life in environment steps as a
    string, ``"match"`` or ``"auto"``. To change the half-life of one group, assign a number, ``"20_000 steps"``,
    ``"match"`` or ``"auto"`` to its entry ``"half_life"``. This class and `torch.optim.RMSprop` can load each
    other's state dicts.

    Without momentum, optimism, decoupled weight decay and ``centered``, ``|step| <= lr / sqrt(1 - rho)`` for all
    gradients. With ``centered`` and a constant rho, update t has
    ``|step| <= lr * min(sqrt(1 / (1 - rho) + rho ** -t), |g| / eps)``. If rounding makes the variance ``v - m*m``
    0, only the bound ``lr * |g| / eps`` holds.

    Args:
        params: Parameters, named parameters, or dictionaries that define parameter groups with their own options.
            Clipping, ``on_nonfinite``, ``like``, ``steps_per_update``, ``timescale``, ``half_life_bounds``,
            ``max_step`` and ``estimator`` apply to all groups, and a group cannot set them.
        lr: Learning rate, >= 0; may be a tensor with one element. None uses the value of the preset ``like``; the
            presets "tf1" and "optax" have none.
        alpha: torch's name for ``rho``.
        eps: Constant added to the denominator, or to v under the root with ``eps_in_sqrt``, >= 0. None uses the
            preset's value.
        weight_decay: Added to the gradient as ``weight_decay * p`` unless it is decoupled, >= 0.
        momentum: Decay of the momentum buffer, > -1. A negative value damps the rotation in games.
        centered: Whether v - m*m, with the exponential average m of the gradients, replaces v in the denominator.
        capturable: Whether a CUDA graph may capture a step; needs parameters on an accelerator.
        foreach: Whether to update all parameters with a few kernels on lists of tensors. None does so where it is
            faster, such as on CUDA devices.
        maximize: Whether to maximize the objective instead of minimizing it.
        differentiable: Whether autograd can differentiate the step, also with respect to a tensor ``lr``.
        half_life: ``69`` or ``"69 updates"`` (optimizer steps), ``"20_000 steps"`` (environment steps, summed over
            all sub-environments), a `HalfLife`, ``"match"`` or ``"auto"``.
        rho: Decay of v per update, in [0, 1). Without ``half_life``, ``rho`` and ``alpha``, the preset determines
            the decay. The preset ``"torch"`` has rho = 0.99, a half-life of 69 updates.
        steps_per_update: Environment steps that an update spans; None if unknown. The attribute may be set later.
        timescale: Autocorrelation time of the environment's changes, for ``half_life="match"``:
            ``"50_000 steps"`` (environment steps), a number of updates, or a `Timescale`; None if unknown. The
            attribute may be set later.
        half_life_bounds: Shortest and longest half-life, in updates, of "match" and "auto". None uses
            ``(32, 10_000)``, or the bounds of ``estimator``.
        max_step: Longest step of a coordinate, > 0. To respect this length, the half-life of "match" and "auto" is
            at most ``ln 2 * (max_step / lr)**2``. Other half-lives are not limited. None sets no limit.
        estimator: The estimator of "auto"; None uses `rl_rms.optim.bank.Bank`.
        like: The implementation that gives conventions, and defaults for arguments that are not given: ``"torch"``
            (the default of Stable-Baselines3's A2C), ``"rmsprop_tf_like"`` (Stable-Baselines3's
            ``RMSpropTFLike``), ``"tf1"``, ``"keras"`` or ``"optax"``; see `rl_rms.optim.presets`.
        bias_correction: Whether to divide v by the total weight of the gradients in it. Without ``centered`` and
            with eps = 0, the first step of a coordinate then has length lr instead of ``lr / sqrt(1 - rho)``.
        eps_in_sqrt: Whether the denominator is ``sqrt(v + eps)``. None uses the preset's value.
        initial_second_moment: First value of v, >= 0. None uses the preset's value.
        decoupled_weight_decay: Whether weight decay multiplies parameters by ``1 - lr * weight_decay`` instead of
            changing the gradient. None uses the preset's value.
        nesterov: Whether to use Nesterov momentum.
        lr_in_momentum: Whether steps are multiplied by the learning rate before they enter the momentum buffer.
            None uses the preset's value.
        cautious: Whether a step with momentum updates only coordinates in which the step and the current gradient
            have the same sign.
        optimism: Coefficient, >= 0. The step gets an additional term: this coefficient times the change of the
            step since the previous update.
        max_update_rms: Limit of the root mean square, in each tensor, of the gradient divided by the denominator.
            Larger quotients are scaled down; None for no limit.
        max_grad_norm: Limit of the global gradient norm. Larger gradients are scaled down in place, before v
            accumulates them, as by `torch.nn.utils.clip_grad_norm_`. None for no limit.
        max_tensor_norm: Limit of the norm of a single tensor's gradient. Larger gradients are scaled down; None
            for no limit.
        max_grad_value: Largest magnitude of a gradient coordinate. Larger coordinates are clipped; None for no
            limit.
        max_grad_ratio: Largest magnitude of a gradient coordinate, as a multiple of the root of its previous
            second moment, > 1. ``max_grad_ratio`` does not clip the first gradient of a parameter, and does not
            clip coordinates in which the root is at most ``eps``. None for no limit.
        on_nonfinite: Response to nan or infinite gradients: ``"raise"`` raises an error, and ``"skip"`` skips the
            whole step and counts skipped steps. With None, gradients are not checked, as in torch.
        fused: Whether one or a few kernel calls update all parameters of a precision. For small networks, such a
            step takes a fraction of the time of a loop over the parameters. None does so for contiguous float32
            and float64 parameters on a CPU. True raises an error for other parameters. With ``max_update_rms`` or
            ``cautious``, each tensor has its own update.

    Raises:
        ValueError: If an argument is out of its range, several arguments set the decay, or two options contradict
            each other. The message names the arguments.

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
        nesterov: bool = False,
        lr_in_momentum: bool | None = None,
        cautious: bool = False,
        optimism: float = 0.0,
        max_update_rms: float | None = None,
        max_grad_norm: float | None = None,
        max_tensor_norm: float | None = None,
        max_grad_value: float | None = None,
        max_grad_ratio: float | None = None,
        on_nonfinite: OnNonfinite | None = None,
        fused: bool | None = None,
    ) -> None:
        self.guard = GradientGuard(
            max_grad_norm=max_grad_norm,
            max_tensor_norm=max_tensor_norm,
            max_grad_value=max_grad_value,
            max_grad_ratio=max_grad_ratio,
            on_nonfinite=on_nonfinite,
        )
        self.guard.check_can_read(is_symbolic=differentiable or capturable)
        self.controller = HalfLifeController(
            steps_per_update=steps_per_update,
            timescale=timescale,
            bounds=half_life_bounds,
            max_step=max_step,
            estimator=estimator,
        )
        self._plan: Plan | None = None
        conventions = preset(
            like,
            lr=lr,
            eps=eps,
            eps_in_sqrt=eps_in_sqrt,
            initial_second_moment=initial_second_moment,
            lr_in_momentum=lr_in_momentum,
            decoupled_weight_decay=decoupled_weight_decay,
        )
        default_rho = conventions.pop("rho")
        stated = self.controller.entries(half_life=half_life, rho=rho, alpha=alpha)
        defaults = {
            **conventions,
            **(stated or self.controller.entries(rho=default_rho)),
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "bias_correction": bias_correction,
            "nesterov": nesterov,
            "cautious": cautious,
            "optimism": optimism,
            "max_update_rms": max_update_rms,
            "fused": fused,
        }
        super().__init__(params, defaults)

    @property
    def half_life(self) -> float:
        """The current half-life of the first group, in updates. Assigning a value sets all groups.

        If the half-life of a loaded optimizer needs ``steps_per_update`` or ``timescale``, this property is the
        half-life of the last update until that attribute is set.

        Raises:
            ValueError: If ``steps_per_update`` or ``timescale`` is needed but not set, and no update has used
                this half-life yet.
        """
        return self.controller.copied().latest_half_life(self.param_groups[0])

    @half_life.setter
    def half_life(self, half_life: float | str | HalfLife) -> None:
        self._set_decay(self.controller.entries(half_life=parse_half_life(half_life)))

    @property
    def rho(self) -> float:
        """The current decay of the first group. Assigning a value sets all groups.

        Raises:
            ValueError: Under the same conditions as for `half_life`.
        """
        return self.controller.copied().latest_decay(self.param_groups[0])

    @rho.setter
    def rho(self, rho: float) -> None:
        self._set_decay(self.controller.entries(rho=float(rho)))

    def _set_decay(self, entries: dict[str, Any]) -> None:
        # The defaults are also set, because they apply to groups that are added later.
        for options in (*self.param_groups, self.defaults):
            options.update(entries)
        self.controller.forget_estimates_but(self.param_groups)

    @property
    def steps_per_update(self) -> float | None:
        """Environment steps that the next update spans; a training loop may set it before every step."""
        return self.controller.steps_per_update

    @steps_per_update.setter
    def steps_per_update(self, steps_per_update: float | None) -> None:
        check_positive("steps_per_update", steps_per_update, "unknown")
        self.controller.steps_per_update = steps_per_update

    @property
    def timescale(self) -> Timescale | None:
        """Autocorrelation time of the environment's changes; a training loop may set it before every step."""
        return self.controller.timescale

    @timescale.setter
    def timescale(self, timescale: float | str | Timescale | None) -> None:
        self.controller.timescale = None if timescale is None else Timescale.parse(timescale)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, *args: Any, **kwargs: Any) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            *args: At most one argument: a closure that re-evaluates the model and returns the loss.
            **kwargs: The closure as ``closure=...``.

        Returns:
            The closure's loss; None without a closure.

        Raises:
            ValueError: If ``steps_per_update`` or ``timescale`` is needed but not set, or if ``fused=True`` does
                not support a parameter.
            RuntimeError: If a gradient is sparse, if ``capturable=True`` and a parameter is on a CPU, or if
                another thread replaces gradients or states during the step.
            FloatingPointError: If a gradient is not finite and ``on_nonfinite="raise"``.
        """
        if torch.compiler.is_compiling():
            return _step_outside_of_the_graph(self, *args, **kwargs)
        # Hooks get the user's arguments, and may replace them.
        return _observed_step(self, *args, **kwargs) if has_step_observers(self) else self._step(*args, **kwargs)

    # Without this mark, torch would wrap the method like `_observed_step`, even without observers.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        is_grad_enabled = torch.is_grad_enabled()
        set_grad_enabled(False)
        try:
            for group in self.param_groups:
                group["alpha"] = self.controller.decay(group)
            self._plan, batches = collect_batches(self._plan, self.param_groups, self.state)
            scale = self.guard.prepare([batch for _, batch in batches], self.param_groups, self.state)
            if scale is not None:
                for group, batch in batches:
                    choose_kernel(batch, group).update(batch, group, scale=scale)
                if self.guard.num_updates % _SETTLE_EVERY == 0:
                    settle_states_(self.param_groups, self.state)
                if self.controller.estimates:
                    self.controller.observe(self.param_groups)
            for _, batch in batches:
                batch.grads = []  # otherwise `zero_grad` would not free the gradients
        finally:
            set_grad_enabled(is_grad_enabled)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None, or to zero in place.

        Args:
            set_to_none: Whether to set the gradients to None, so that a step skips parameters without a new
                gradient.
        """
        params = [param for group in self.param_groups for param in group["params"]]
        if is_profiler_enabled():
            super().zero_grad(set_to_none)
        elif set_to_none:
            for param in params:
                param.grad = None
        else:
            grads = [grad for grad in map(_get_grad, params) if grad is not None]
            if any(map(_requires_grad, grads)):
                super().zero_grad(set_to_none=False)
            elif grads:
                foreach_zero_(grads)

    def reset(self) -> None:
        """Discard the state of all parameters, for example after the environment has changed.

        Parameters, options and the estimates of the half-life are kept.
        """
        self.state.clear()
        self._plan = None

    def diagnostics(self) -> dict[str, float]:
        """Diagnostics of the optimizer; see `rl_rms.optim.diagnostics.diagnostics`."""
        return diagnostics(self, self.controller.copied(), self.guard)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own options.

        Args:
            param_group: ``"params"`` and the options of the group, but at most one of ``half_life``, ``rho`` and
                ``alpha``.

        Raises:
            ValueError: Under the same conditions as in the constructor.
            TypeError: If ``param_group`` is not a dictionary.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        for name in _OF_ALL_GROUPS & group.keys():
            raise ValueError(
                f"{name} applies to all parameter groups, got {name}={group[name]!r} in one group; give {name} to "
                "the constructor of the optimizer"
            )
        group.update(
            self.controller.entries(**{name: group.pop(name, None) for name in ("half_life", "rho", "alpha")})
        )
        check_options({**self.defaults, **group})
        without_dynamo(super().add_param_group)(group)

    def state_dict(self) -> dict[str, Any]:
        """Return state and options in torch's form. The first group has the counts of updates and the estimates.

        Returns:
            Tensors, numbers, strings and None in dictionaries and lists.
        """
        self.param_groups[0][TRACKING] = {
            "guard": self.guard.state_dict(),
            "controller": self.controller.state_dict(),
        }
        try:
            saved: dict[str, Any] = without_dynamo(super().state_dict)()
            return saved
        finally:
            del self.param_groups[0][TRACKING]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore state and options that this class, `torch.optim.RMSprop` or ``RMSpropTFLike`` saved.

        All tensors are copied. Options that are missing in the state dict keep their values. If the state dict is
        wrong, the optimizer does not change.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If a group, an option, or the shape, type or range of a state is wrong. A message about a
                state names its parameter.
        """
        if not isinstance(state_dict, dict):
            raise ValueError(
                f"state_dict must be a dictionary from state_dict(), got {type(state_dict).__name__}; load "
                "the file first"
            )
        with checked_loading(self, self.controller, self.guard):
            without_dynamo(super().load_state_dict)(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "guard": self.guard, "controller": self.controller}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = None


# Runs the step with hooks and a profiler record, as torch's optimizers do.
_observed_step: Callable[..., float | None] = Optimizer.profile_hook_step(RMSprop._step)

# In a compiled function, steps run outside of the graph. In the graph, Python numbers that change with every
# update would cause new compilations.
_step_outside_of_the_graph: Callable[..., float | None] = disable_dynamo(RMSprop.step)
