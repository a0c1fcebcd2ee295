"""RMSprop's update rule as pure, differentiable functions of tensors.

The rule is Hinton's (Coursera lecture 6e, 2012), its centered form Graves's (arXiv:1308.0850, equations 38 to 45):

    g   <- g + weight_decay p                   unless decoupled_weight_decay
    g   <- clip(g, +-sqrt(largest number))      so that g*g is finite; the root is 1.8e19 in float32
    v   <- rho v + (1 - rho) g*g
    m   <- rho m + (1 - rho) g                  centered
    v^  =  v,  v - m*m  if centered,  / (1 - rho**t)  if bias_correction
    d   =  sqrt(v^) + eps,  sqrt(v^ + eps)  if eps_in_sqrt
    u   =  g / d,  / max(1, rms(u) / max_update_rms)
    b   <- momentum b + u,  u = b               momentum != 0;  u = u + momentum b  if nesterov
    u   =  u [u g > 0] / max(mean([u g > 0]), 0.001)        momentum != 0 and cautious
    u   =  u + optimism (u - u')                u' is the previous u, without optimism; initially u
    p   <- (1 - lr weight_decay) p              decoupled_weight_decay
    p   <- p - lr u                             b and u' hold lr u instead of u  if lr_in_momentum
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from rl_rms.half_life import rho_from_half_life

Scalar: TypeAlias = float | Tensor
# A parameter or gradient: one tensor, or tensors by name.
Params = TypeVar("Params", Tensor, dict[str, Tensor])

State: TypeAlias = dict[str, Any]
"""The state of one parameter: `torch.optim.RMSprop`'s entries, ``previous_update`` and ``initial_weight``.

``step``: number of updates so far, a scalar tensor. ``square_avg``: v. ``grad_avg``: m, when centered.
``momentum_buffer``: b, with momentum. ``previous_update``: u', with optimism. v, m, b and u' have the parameter's
shape. ``initial_weight``: the weight of v's initial value in v. This weight is the product of all rho so far,
``rho ** step`` for a constant rho. The state of parameters by name is a dictionary of such states.
"""


def rmsprop_init(
    param: Tensor | Mapping[str, Tensor],
    *,
    momentum: Scalar = 0.0,
    optimism: Scalar = 0.0,
    centered: bool = False,
    initial_second_moment: float = 0.0,
) -> State:
    """The state before the first update.

    Args:
        param: The parameter, of any shape, or parameters by name. The state does not refer to the parameters.
        momentum: As in `rmsprop_update`.
        optimism: As in `rmsprop_update`.
        centered: As in `rmsprop_update`.
        initial_second_moment: First value of v in every coordinate; 0 in torch, 1 in TensorFlow's form.

    Returns:
        The state, in the parameter's precision, but at least float32. A half-precision v would not change if
        ``(1 - rho) (g*g - v)`` is below half a unit in its last place. For parameters by name, states by name.
    """
    if isinstance(param, Mapping):
        options: dict[str, Any] = {
            "momentum": momentum,
            "optimism": optimism,
            "centered": centered,
            "initial_second_moment": initial_second_moment,
        }
        return {name: rmsprop_init(one, **options) for name, one in param.items()}
    dtype = torch.promote_types(param.dtype, torch.float32)
    zeros = torch.zeros_like(param, dtype=dtype, requires_grad=False)
    state: State = {"step": torch.zeros((), dtype=torch.float32), "square_avg": zeros, "initial_weight": 1.0}
    real(state["square_avg"]).fill_(initial_second_moment)
    if centered:
        state["grad_avg"] = torch.zeros_like(zeros)
    if is_used(momentum):
        state["momentum_buffer"] = torch.zeros_like(zeros)
    if is_used(optimism):
        state["previous_update"] = torch.zeros_like(zeros)
    return state


def rmsprop_update(
    param: Params,
    grad: Params,
    state: Mapping[str, Any],
    *,
    lr: Scalar,
    rho: Scalar | None = None,
    half_life: Scalar | None = None,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    optimism: Scalar = 0.0,
    centered: bool = False,
    bias_correction: bool = False,
    eps_in_sqrt: bool = False,
    decoupled_weight_decay: bool = False,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    cautious: bool = False,
    max_update_rms: float | None = None,
) -> tuple[Params, State]:
    """Make one update by the module's equations. Nothing is changed in place.

    ``lr``, ``rho``, ``half_life``, ``eps``, ``weight_decay``, ``momentum`` and ``optimism`` may be tensors that
    broadcast to the parameter's shape. Gradients flow to these tensors, and to ``param``, ``grad`` and ``state``.
    Complex parameters are updated as pairs of real numbers.

    Args:
        param: The parameter p; or parameters by name, such as ``dict(module.named_parameters())``. Each parameter
            is updated separately, with the same hyperparameters.
        grad: The gradient g of the parameter, of the same shape; or gradients by the same names.
        state: State from `rmsprop_init` or the previous update; or states by the same names.
        lr: Learning rate.
        rho: Decay of v per update, in [0, 1).
        half_life: Half-life of a squared gradient's weight in v, in updates: ``rho = 2 ** (-1 / half_life)``.
            Exactly one of ``rho`` and ``half_life`` is needed.
        eps: Constant added to the denominator, or to v^ under the root.
        weight_decay: Weight decay, added to the gradient as ``weight_decay * p``, or decoupled.
        momentum: Decay of the momentum buffer, in (-1, 1) for a stable buffer. Negative momentum damps the
            rotation in games (Gidel et al., arXiv:1807.04740).
        optimism: Coefficient of the change of u since the previous update. The value 1 gives the optimistic
            gradient ``2 u - u'`` for games (Daskalakis et al., arXiv:1711.00141).
        centered: Whether v - m*m, which estimates the gradient's variance, replaces v in the denominator.
        bias_correction: Whether to divide v by the total weight of the gradients in it. Without ``centered`` and
            with eps = 0, the first step of a coordinate then has length lr instead of ``lr / sqrt(1 - rho)``. v
            must start at 0. When centered, the difference v - m*m is divided as a whole, because dividing v and m
            separately would make the difference 0 in the first update.
        eps_in_sqrt: Whether eps is under the root, as in TensorFlow.
        decoupled_weight_decay: Whether the parameter is multiplied by ``1 - lr * weight_decay``, independently of
            its gradients (AdamW, arXiv:1711.05101).
        nesterov: Whether to use Nesterov momentum.
        lr_in_momentum: Whether steps are multiplied by the learning rate before they enter the buffer, as in
            TensorFlow, Keras and optax. A new learning rate then does not rescale the steps in the buffer.
        cautious: Whether a step with momentum updates only coordinates in which the step and the current gradient
            have the same sign. The step of these coordinates is scaled up to compensate for the coordinates
            without a step (arXiv:2411.16085).
        max_update_rms: Limit of the root mean square of u. Larger u are scaled down (Adafactor, arXiv:1804.04235,
            section 6); None for no limit.

    Returns:
        The new parameter and the new state; or both by name.

    Raises:
        ValueError: Unless exactly one of ``rho`` and ``half_life`` is given, or if names differ.
        KeyError: If the state lacks an average that ``momentum``, ``optimism`` or ``centered`` needs.

    Examples:
        >>> param, grad = torch.tensor([1.0, 1.0]), torch.tensor([0.3, -20.0])
        >>> state = rmsprop_init(param)
        >>> param, state = rmsprop_update(param, grad, state, lr=0.5, half_life=69, bias_correction=True)
        >>> param
        tensor([0.5000, 1.5000])
    """
    update = partial(
        _update,
        decay=_decay(rho, half_life),
        lr=lr,
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        optimism=optimism,
        centered=centered,
        bias_correction=bias_correction,
        eps_in_sqrt=eps_in_sqrt,
        decoupled_weight_decay=decoupled_weight_decay,
        nesterov=nesterov,
        lr_in_momentum=lr_in_momentum,
        cautious=cautious,
        max_update_rms=max_update_rms,
    )
    updated: tuple[Params, State] = _by_name(update, param, grad, state)
    return updated


def _update(
    param: Tensor,
    grad: Tensor,
    state: State,
    *,
    decay: tuple[Scalar, Scalar],
    lr: Scalar,
    eps: Scalar,
    weight_decay: Scalar,
    momentum: Scalar,
    optimism: Scalar,
    centered: bool,
    bias_correction: bool,
    eps_in_sqrt: bool,
    decoupled_weight_decay: bool,
    nesterov: bool,
    lr_in_momentum: bool,
    cautious: bool,
    max_update_rms: float | None,
) -> tuple[Tensor, State]:
    """Update one parameter; ``decay`` is rho and 1 - rho."""
    rho, gain = decay
    v = real(state["square_avg"])
    # A scalar tensor of higher precision would promote a scalar parameter, and lerp needs equal precisions.
    gain, lr, eps, weight_decay = (as_dtype(x, v.dtype) for x in (gain, lr, eps, weight_decay))
    momentum, optimism = as_dtype(momentum, v.dtype), as_dtype(optimism, v.dtype)
    p, g = real(param).to(v.dtype), real(grad).to(v.dtype)

    if is_used(weight_decay) and not decoupled_weight_decay:
        g = g + weight_decay * p
    largest = largest_root(v.dtype)
    g = g.clamp(-largest, largest)
    new: State = {
        "step": state["step"] + 1,
        # v + (1 - rho) (g*g - v) is used, because float32 rounds a rho near 1 coarsely, but not 1 - rho.
        "square_avg": torch.lerp(v, g * g, gain),
        "initial_weight": state["initial_weight"] * rho,
    }
    if centered:
        new["grad_avg"] = torch.lerp(real(state["grad_avg"]), g, gain)
    v_hat = second_moment(new, centered=centered, bias_correction=bias_correction)
    u = g / denominator(v_hat, eps, eps_in_sqrt=eps_in_sqrt)
    if max_update_rms is not None:
        u = u / (_sqrt(u.square().mean()) / max_update_rms).clamp_min(1.0)
    u = lr * u if lr_in_momentum else u
    if is_used(momentum):
        buffer = new["momentum_buffer"] = momentum * real(state["momentum_buffer"]) + u
        u = u + momentum * buffer if nesterov else buffer
        if cautious:
            agrees = (u * g > 0).to(u.dtype)
            u = u * agrees / agrees.mean().clamp_min(_LEAST_AGREEMENT)
    if is_used(optimism):
        new["previous_update"] = u
        # In the first update, u replaces the missing previous u.
        u = u + optimism * (state["initial_weight"] != 1.0) * (u - real(state["previous_update"]))
    if is_used(weight_decay) and decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    p = p - (u if lr_in_momentum else lr * u)

    averages = {name: _as_complex_as(param, new[name]) for name in AVERAGES if name in new}
    return _as_complex_as(param, p).to(param.dtype), {**new, **averages}


def _by_name(update: Callable[..., tuple[Tensor, State]], param: Any, grad: Any, state: Any) -> Any:
    """Update one tensor, or each parameter by its name."""
    if isinstance(param, Tensor):
        return update(param, grad, state)
    for name, other in (("grad", grad), ("state", state)):
        if other.keys() != param.keys():
            raise ValueError(
                f"{name} must have the parameters' names {sorted(param)}, got {sorted(map(str, other))}; "
                "leave parameters that should not change out of all three"
            )
    updated = {name: update(one, grad[name], state[name]) for name, one in param.items()}
    return {name: new for name, (new, _) in updated.items()}, {name: new for name, (_, new) in updated.items()}


def second_moment(state: State, *, centered: bool, bias_correction: bool) -> Tensor:
    """The estimate v^ of the second moment, as in the denominator.

    Args:
        state: State of the parameter; before the first update v^ is the first value of v.
        centered: As in `rmsprop_update`.
        bias_correction: As in `rmsprop_update`.

    Returns:
        v^ in the parameter's shape; a complex parameter adds a last dimension of 2.
    """
    v = real(state["square_avg"])
    if centered:
        m = real(state["grad_avg"])
        # Rounding may make the difference of nearly equal numbers negative, and the root of a negative number is
        # nan.
        v = (v - m * m).clamp_min(0.0)
    if not bias_correction:
        return v
    weight = 1 - state["initial_weight"]
    if not isinstance(weight, Tensor):
        return v / (weight or 1.0)
    return v / torch.where(weight > 0, weight, 1.0).to(v.dtype)


def denominator(v_hat: Tensor, eps: Scalar, *, eps_in_sqrt: bool) -> Tensor:
    """``sqrt(v^) + eps``, or ``sqrt(v^ + eps)`` with ``eps_in_sqrt``."""
    return _sqrt(v_hat + eps) if eps_in_sqrt else _sqrt(v_hat) + eps


def largest_root(dtype: torch.dtype) -> float:
    """The largest magnitude whose square is finite, 1.8e19 in float32."""
    return _LARGEST_ROOTS[dtype]


def real(x: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers, along a new last dimension. Keep a real tensor unchanged."""
    return torch.view_as_real(x) if x.is_complex() else x


def gathered(x: Tensor) -> Tensor:
    """Gather all values of a distributed tensor on every process. Return any other tensor unchanged."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x  # pyright: ignore[reportAttributeAccessIssue]


def as_dtype(x: Scalar, dtype: torch.dtype) -> Scalar:
    """Convert a hyperparameter that is a tensor to ``dtype``. Return a number unchanged."""
    return x.to(dtype) if isinstance(x, Tensor) else x


# Lower limit of the share of kept coordinates in a cautious step. The inverse of this limit bounds the scale
# factor.
_LEAST_AGREEMENT = 1e-3

AVERAGES = ("square_avg", "grad_avg", "momentum_buffer", "previous_update")

# The roots are rounded down, so that their squares are finite.
_LARGEST_ROOTS = {
    dtype: float(
        torch.nextafter(torch.tensor(torch.finfo(dtype).max, dtype=dtype).sqrt(), torch.zeros((), dtype=dtype))
    )
    for dtype in (torch.float32, torch.float64)
}


def _decay(rho: Scalar | None, half_life: Scalar | None) -> tuple[Scalar, Scalar]:
    """Compute rho and 1 - rho in float64. For a half-life, ``expm1`` avoids the cancellation in 1 - rho."""
    if rho is not None and half_life is None:
        rho = as_dtype(rho, torch.float64)
        return rho, 1 - rho
    if half_life is not None and rho is None:
        if isinstance(half_life, Tensor):
            exponent = -math.log(2.0) / half_life.to(torch.float64)
            return torch.exp(exponent), -torch.expm1(exponent)
        return rho_from_half_life(half_life), -math.expm1(-math.log(2.0) / half_life)
    raise ValueError(
        f"exactly one of rho and half_life must be given, got rho={rho!r} and half_life={half_life!r}; "
        "rho=0.99 is half_life=69"
    )


def _sqrt(x: Tensor) -> Tensor:
    """The square root, with derivative 0 instead of infinity at 0.

    A coordinate that never had a gradient has v = 0, and its step is 0 for every rho. The infinite derivative
    would make the gradients of all hyperparameters nan.
    """
    if not x.requires_grad:
        return torch.sqrt(x)
    positive = x > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, x, 1.0)), 0.0)


def is_used(x: Scalar) -> bool:
    """Whether a coefficient is a tensor or not 0. A tensor of 0 counts, because it may have a gradient."""
    return isinstance(x, Tensor) or x != 0


def _as_complex_as(param: Tensor, x: Tensor) -> Tensor:
    return torch.view_as_complex(x) if param.is_complex() else x
