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
)

# Updates between two searches for averages that overflowed or became subnormal.
_SETTLE_EVERY = 256

_get_grad = operator.attrgetter("grad")
_requires_grad = operator.attrgetter("requires_grad")


class RMSprop(Optimizer):
    """RMSprop with a half-life; a drop-in for `torch.optim.RMSprop`.

    With the half-life h in updates and ``rho = 2 ** (-1 / h)``, the update is

        v <- rho v + (1 - rho) g*g
        p <- p - lr g / (sqrt(v) + eps)

    `rl_rms.optim.rule` has the equations of all options. ``half_life``, ``rho`` and ``alpha`` are three ways to
    set the decay. A half-life in environment steps is converted at every step: set ``optimizer.steps_per_update``
    to the number of environment steps that the next update spans. ``half_life="match"`` derives it from
    ``timescale``, and ``"auto"`` estimates it from the gradients; see `rl_rms.optim.matched` and
    `rl_rms.optim.bank`.

    ``param_groups`` hold the decay in force as ``"alpha"``, and as ``"half_life"`` None, the half-life in
    environment steps as a string, ``"match"`` or ``"auto"``. State dicts are exchanged with `torch.optim.RMSprop`.
    Without momentum and optimism ``|step| <= lr / sqrt(1 - rho)`` for all gradients; with ``centered`` update t of
    a constant rho has ``|step| <= lr * min(sqrt(1 / (1 - rho) + rho ** -t), |g| / eps)``, or only the bound by eps
    if rounding loses the variance.

    Args:
        params: Parameters, named parameters, or dictionaries of parameters with their own options.
        lr: Learning rate, >= 0; may be a tensor with one element. None uses the preset's value.
        alpha: torch's name for ``rho``.
        eps: Added to the denominator, >= 0. None uses the preset's value.
        weight_decay: Added to the gradient as ``weight_decay * p``, >= 0.
        momentum: Decay of the momentum buffer, > -1. A negative one damps the rotation in games.
        centered: Whether to subtract the squared mean gradient from v.
        capturable: Whether a CUDA graph may capture a step; needs parameters on an accelerator.
        foreach: Whether to update all parameters in few large kernels; None does so on accelerators.
        maximize: Whether to ascend.
        differentiable: Whether autograd can differentiate the step, also with respect to a tensor ``lr``.
        half_life: ``69`` or ``"69 updates"`` (optimizer steps), ``"20_000 steps"`` (environment steps, summed over
            all sub-environments), a `HalfLife`, ``"match"`` or ``"auto"``.
        rho: Decay of v per update, in [0, 1). If none of the three names is given, the preset's value, in torch
            0.99 (a half-life of 69 updates).
        steps_per_update: Environment steps that an update spans; may be set later.
        timescale: Autocorrelation time of the environment's changes, for ``half_life="match"``:
            ``"50_000 steps"`` (environment steps), a number of updates, or a `Timescale`; may be set later.
        half_life_bounds: Shortest and longest half-life, in updates, of "match" and "auto". None is 32 and 10 000,
            or the bounds of ``estimator``.
        max_step: Longest step of a parameter, > 0: it bounds the half-life of "match" and "auto" by
            ``ln 2 * (max_step / lr)**2``. None sets no such bound.
        estimator: The estimator of "auto"; None is `rl_rms.optim.bank.Bank`.
        like: The implementation whose conventions and defaults hold for arguments that are not given: ``"torch"``
            (the default of Stable-Baselines3's A2C), ``"rmsprop_tf_like"`` (its ``RMSpropTFLike``), ``"tf1"``,
            ``"keras"`` or ``"optax"``; see `rl_rms.optim.presets`.
        bias_correction: Whether to divide v by the total weight of the gradients in it. The first step then has
            length lr instead of ``lr / sqrt(1 - rho)``.
        eps_in_sqrt: Whether the denominator is ``sqrt(v + eps)``. None uses the preset's value.
        initial_second_moment: First value of v, >= 0. None uses the preset's value.
        decoupled_weight_decay: Whether weight decay multiplies parameters by ``1 - lr * weight_decay`` instead of
            changing the gradient. None uses the preset's value.
        nesterov: Whether to use Nesterov momentum.
        lr_in_momentum: Whether the momentum buffer holds steps with their learning rate. None uses the preset's
            value.
        cautious: Whether a step with momentum updates only coordinates that descend along the present gradient.
        optimism: Coefficient of the difference between this update and the previous one, which is added to the
            step, >= 0.
        max_update_rms: Root mean square of ``g / d``, tensor by tensor, above which it is scaled down; None for no
            such clipping.
        max_grad_norm: Global norm above which all gradients are scaled down, in place and before v accumulates
            them, as `torch.nn.utils.clip_grad_norm_` does; None for no clipping, as in the next three.
        max_tensor_norm: Norm above which a single tensor's gradient is scaled down.
        max_grad_value: Largest magnitude of a coordinate.
        max_grad_ratio: Largest magnitude of a coordinate, as a multiple of its root second moment before this
            gradient, > 1. A parameter's first gradient is not clipped.
        on_nonfinite: ``"raise"`` if a gradient has a nan or infinite coordinate, ``"skip"`` the whole step, or
            ``"clip"``: replace nan by 0 and infinities by the largest finite magnitude. Both are counted. None
            ignores them, as torch does.
        fused: Whether one kernel call updates all parameters of a precision, which is many times faster for small
            networks. None does so for contiguous float32 and float64 parameters on a CPU; True raises an error for
            others. ``max_update_rms`` and ``cautious`` update tensor by tensor in any case.

    Raises:
        ValueError: If an argument is out of its range, two names of the decay are given, or two options exclude
            each other. The message names each.

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
        """Half-life in force of the first group, in updates. Assigning a value sets all groups.

        A loaded optimizer has the half-life of its last update until ``steps_per_update`` is set.

        Raises:
            ValueError: If it is stated in env steps, and there is neither ``steps_per_update`` nor an update.
        """
        return self.controller.latest_half_life(self.param_groups[0])

    @half_life.setter
    def half_life(self, half_life: float | str | HalfLife) -> None:
        self._set_decay(self.controller.entries(half_life=parse_half_life(half_life)))

    @property
    def rho(self) -> float:
        """Decay in force of the first group. Assigning a value sets all groups.

        Raises:
            ValueError: As for `half_life`.
        """
        return self.controller.latest_decay(self.param_groups[0])

    @rho.setter
    def rho(self, rho: float) -> None:
        self._set_decay(self.controller.entries(rho=float(rho)))

    def _set_decay(self, entries: dict[str, Any]) -> None:
        # The defaults are also set, for groups that are added later.
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
            **kwargs: The same as ``closure=...``.

        Returns:
            The closure's loss; None without a closure.

        Raises:
            ValueError: If a half-life is stated in environment steps and ``steps_per_update`` is not set.
            RuntimeError: If a gradient is sparse, or ``capturable`` is set for a parameter on a CPU.
            FloatingPointError: If a gradient is not finite and ``on_nonfinite="raise"``.
        """
        if torch.compiler.is_compiling():
            return _step_outside_of_the_graph(self, *args, **kwargs)
        # Hooks may read and replace the arguments as the user gave them.
        return _observed_step(self, *args, **kwargs) if has_step_observers(self) else self._step(*args, **kwargs)

    # Otherwise torch wraps the method like `_observed_step`, even without observers.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["alpha"] = self.controller.decay(group)
        self._plan, batches = collect_batches(self._plan, self.param_groups, self.state)
        scale = self.guard.prepare([batch for _, batch in batches], self.param_groups, self.state)
        if scale is None:
            return loss
        is_grad_enabled = torch.is_grad_enabled()
        set_grad_enabled(False)
        try:
            for group, batch in batches:
                choose_kernel(batch, group).update(batch, group, scale=scale)
            if self.guard.num_updates % _SETTLE_EVERY == 0:
                settle_states_(self.param_groups, self.state)
            if self.controller.estimates:
                self.controller.observe(self.param_groups)
        finally:
            set_grad_enabled(is_grad_enabled)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None, or to zero in place.

        Args:
            set_to_none: Whether to set them to None, so that a step skips parameters without a new gradient.
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
        """Discard the state of all parameters, after a change of the environment.

        Parameters, options and the estimates of the half-life are kept.
        """
        self.state.clear()
        self._plan = None

    def diagnostics(self) -> dict[str, float]:
        """Diagnostics of the optimizer; see `rl_rms.optim.diagnostics.diagnostics`."""
        return diagnostics(self, self.controller, self.guard)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own options.

        Args:
            param_group: ``"params"`` and any options, the decay under at most one of its three names.

        Raises:
            ValueError: As the constructor does.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        group.update(
            self.controller.entries(**{name: group.pop(name, None) for name in ("half_life", "rho", "alpha")})
        )
        check_options({**self.defaults, **group})
        super().add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """State and options, in torch's form; counts and estimates are in the first group.

        Returns:
            Tensors, numbers and strings in dictionaries and lists.
        """
        self.param_groups[0][TRACKING] = {
            "guard": self.guard.state_dict(),
            "controller": self.controller.state_dict(),
        }
        try:
            return super().state_dict()
        finally:
            del self.param_groups[0][TRACKING]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore state and options that this class, `torch.optim.RMSprop` or ``RMSpropTFLike`` saved.

        All tensors are copied. Options that the state dict lacks keep their values. A state dict that does not fit
        leaves the optimizer as it was.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If a group, an option, or the shape, kind or range of a state does not fit. The message
                names the parameter.
        """
        if not isinstance(state_dict, dict):
            raise ValueError(
                f"state_dict must be a dictionary from state_dict(), got {type(state_dict).__name__}; load "
                "the file first"
            )
        with checked_loading(self, self.controller, self.guard):
            super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "guard": self.guard, "controller": self.controller}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = None


# The hooks and the profiler's record around a step, as in torch's optimizers.
_observed_step: Callable[..., float | None] = Optimizer.profile_hook_step(RMSprop._step)

# A compiled function steps outside of its graph: Python numbers that change with every update would be constants
# or new compilations there, and the CPU kernel is one call anyway.
_step_outside_of_the_graph: Callable[..., float | None] = disable_dynamo(RMSprop.step)
