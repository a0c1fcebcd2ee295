"""The fast path on a CPU: one kernel call for all parameters of one precision.

The networks of reinforcement learning are small, so a step costs as much as its kernel launches, some ten for each
tensor. torch's fused AdamW takes lists of tensors. With ``beta1 = 0``, the gradient as its own first moment and a
step count at which its bias correction is 1, it computes RMSprop in one pass over memory. Its weight decay is the
decoupled one. The kernel is a private function of torch and checks no sizes: `fused_kernel` compares it with
`rl_rms.optim.rule.rmsprop_update` before its first use, and `FlatBucket.collect` checks all sizes before each use.

Options that the kernel lacks are computed on flat copies of the gradients and on a flat state. Parameters and
gradients are never moved, so other owners of their memory keep seeing them.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.options import looks_at_tensors, rule_options, weight_decay_in_force
from rl_rms.optim.rule import (
    AVERAGES,
    State,
    largest_root,
    mean_of_each,
    rmsprop_init,
    rmsprop_update,
    update_flat,
)

_CACHE_LINE = 64
# Gradients of more coordinates are not gathered for their norm: one kernel call for each tensor is then cheaper
# than one more pass over memory.
_GATHER_AT_MOST = 1 << 18
# A step count at which the fused kernel's bias correction is 1 for every rho below 1 - 1e-7.
_NO_CORRECTION = 1e9

# The kernel rounds rho to the buffers' precision, but not 1 - rho. Where that could make v larger or smaller by
# more than this share (in float32, at half-lives from 23 260 updates on) it is not used.
_MOST_BIAS = 1e-3

_KINDS = [(dtype, torch.strided, True) for dtype in (torch.float32, torch.float64)]

# Learning rates that numbers are divided by before the kernel multiplies them again; smaller ones give infinities.
_LEAST_LR = 1e-290

_ONE = torch.ones(())
_data_ptr = torch.Tensor.data_ptr
_numel = torch.Tensor.numel
_is_contiguous = torch.Tensor.is_contiguous
_get_grad = operator.attrgetter("grad")
_get_shape = operator.attrgetter("shape")
_get_kind = operator.attrgetter("dtype", "layout", "is_cpu")

Kernel = Callable[..., None]


def can_flatten(param: Tensor) -> bool:
    """Whether the kernel can update a parameter: a contiguous float32 or float64 CPU tensor with coordinates."""
    return (
        type(param.data) is Tensor and _get_kind(param) in _KINDS and param.is_contiguous() and param.numel() > 0
    )


class FlatBucket:
    """Parameters of one precision and one past, updated together.

    The state of all parameters lies in one buffer for each average. ``state[name]`` of each parameter is a tensor
    with a storage of its own on its part of the buffer, so that saving or copying one state does not take the
    others along. Parameters and gradients stay where they are.

    Args:
        params: Parameters that `can_flatten`, of one precision, with dense gradients.
        states: Their states, of equal ``initial_weight``; the averages have their parameter's shape.

    Attributes:
        param_states: The states.
        state: The state as flat tensors of shape ``(num_coordinates,)``, ``step`` of shape ``(num_params,)``.
        is_whole: Whether the gradients are few enough to be gathered in one tensor.
    """

    def __init__(self, params: list[Tensor], states: list[State]) -> None:
        self.params = params
        self.param_states = states
        self.state: State = dict(states[0])
        self._parts: dict[str, list[Tensor]] = {}
        for name in ("step", *AVERAGES):
            if name in self.state:
                old = [state[name] for state in states]
                self.state[name], self._parts[name] = _flat_like(old)
                torch._foreach_copy_(self._parts[name], old)
                for state, part in zip(states, self._parts[name], strict=True):
                    state[name] = part
        self._sizes = list(map(_numel, params))
        self._shapes = list(map(_get_shape, params))
        self._kinds = list(map(_get_kind, params))
        self._state_places = [
            (operator.itemgetter(name), list(map(_data_ptr, parts)), list(map(_get_shape, parts)))
            for name, parts in self._parts.items()
        ]
        self.is_whole = sum(self._sizes) <= _GATHER_AT_MOST
        self._grads: list[Tensor] = []
        self._fit_the_kernel = False
        self._is_gathered = False
        self._rooms: dict[str, tuple[Tensor, list[Tensor]]] = {}
        self._kernel_steps = [torch.tensor(_NO_CORRECTION)] * len(params)
        self._divisor = torch.ones(())
        # The largest rounding error of rho.
        self._rounding = torch.finfo(params[0].dtype).eps / 4.0
        self._lengths = torch.tensor(self._sizes)

    def starts(self) -> list[tuple[Tensor, int]]:
        """Each parameter and the index of its first coordinate in the flat tensors."""
        ends = itertools.accumulate(self._sizes)
        return [(param, end - param.numel()) for param, end in zip(self.params, ends, strict=True)]

    def owns_states(self, state_of: Mapping[Tensor, State]) -> bool:
        """Whether the bucket was built on these states.

        Args:
            state_of: The optimizer's present states.
        """
        return all(map(operator.is_, map(state_of.get, self.params), self.param_states))

    def collect(self) -> bool:
        """Read the gradients, and check everything that the kernel does not check.

        Returns:
            Whether parameters, gradients and state still have the sizes and precision that the bucket was built
            with, and the state is still in the bucket. If not, the bucket must not be used.
        """
        self._is_gathered = False
        grads: list[Any] = list(map(_get_grad, self.params))
        if not all(map(_is_contiguous, self.params)) or list(map(_get_kind, self.params)) != self._kinds:
            return False
        try:
            if not (list(map(_get_shape, self.params)) == list(map(_get_shape, grads)) == self._shapes):
                return False
            are_alike = list(map(_get_kind, grads)) == self._kinds
            if not are_alike and any(grad.layout is not torch.strided for grad in grads):
                return False
            if not self._has_states():
                return False
        except (AttributeError, KeyError, TypeError):  # a gradient or an average is missing, or is no tensor
            return False
        self._grads = grads
        self._fit_the_kernel = are_alike and all(map(_is_contiguous, grads))
        return True

    def _has_states(self) -> bool:
        """Whether the states are still the parts of the buffers."""
        for get, places, shapes in self._state_places:
            parts = list(map(get, self.param_states))
            if list(map(_data_ptr, parts)) != places or list(map(_get_shape, parts)) != shapes:
                return False
            if not all(map(_is_contiguous, parts)):
                return False
        return True

    @property
    def gradients(self) -> list[Tensor]:
        """All gradients: one flat tensor if `is_whole`, else one tensor for each parameter."""
        return [self.gathered()] if self.is_whole else self._grads

    def gathered(self) -> Tensor:
        """A copy of all gradients in one tensor of shape ``(num_coordinates,)``."""
        flat, parts = self._room("gradient")
        if not self._is_gathered:
            torch._foreach_copy_(parts, self._grads)
            self._is_gathered = True
        return flat

    @torch.no_grad()
    def update(self, group: dict[str, Any], *, scale: float) -> None:
        """One update of all parameters, as `rl_rms.optim.rule.rmsprop_update` states it, outside of autograd.

        Args:
            group: The options of their parameter group.
            scale: Multiplies the gradients, in place, before anything else.
        """
        lr, weight_decay = float(group["lr"]), float(weight_decay_in_force(group))
        coupled = 0.0 if group["decoupled_weight_decay"] else weight_decay
        decay = 1.0 - lr * weight_decay if group["decoupled_weight_decay"] else 1.0
        momentum = float(group["momentum"])
        kernel = self._find_kernel(group, lr)
        grads = self._grads
        transforms = group["maximize"] or coupled or group["eps_in_sqrt"]
        is_direct = kernel is not None and self._fit_the_kernel and not transforms
        # The kernel scales gradients by a float32 number on its way, which saves a pass over memory.
        divides = is_direct and 0.0 < scale < 1.0 and self.params[0].dtype is torch.float32
        if scale != 1.0:
            self._is_gathered = False
            if not divides:
                torch._foreach_mul_(grads, scale)
        if not is_direct:
            grad, grads = self._transformed(group["maximize"], coupled)
        if group["exclude_current"] and not (group["centered"] or momentum or group["optimism"]):
            self._move_left_out(_cut_off(grad), group, lr, decay)
        elif group["exclude_current"] or group["optimism"] or looks_at_tensors(group):
            self._update_by_rule(grad, group)
        else:
            self._count(self.state["initial_weight"] * group["alpha"])
            if momentum:
                self._look_ahead(group, lr, decay, momentum)
                # The buffer takes the place of the parameter, and momentum takes the place of its decay.
                length, target, kept = -(lr if group["lr_in_momentum"] else 1.0), "momentum_buffer", momentum
            else:
                length, target, kept = lr, "param", decay
            if kernel is None:
                self._move(target, _cut_off(grad), group, length, kept)
            else:
                self._move_by_kernel(kernel, target, grads, group, length, kept, scale if divides else 1.0)
            if momentum:
                self._follow_momentum(group, lr, momentum)
        # The kernel does not tell autograd that it has written to the parameters.
        torch.autograd.graph.increment_version(self.params)

    def _find_kernel(self, group: dict[str, Any], lr: float) -> Kernel | None:
        """The kernel, None where it lacks an option."""
        if group["centered"] or group["exclude_current"] or group["optimism"] or looks_at_tensors(group):
            return None
        # It would divide by these.
        divides_by_lr = group["decoupled_weight_decay"] or (group["momentum"] and group["lr_in_momentum"])
        if (divides_by_lr and lr < _LEAST_LR) or (group["eps_in_sqrt"] and group["alpha"] == 0.0):
            return None
        if self._rounding > _MOST_BIAS * (1.0 - group["alpha"]):
            return None
        return fused_kernel(self.params[0].dtype)

    def _move_by_kernel(
        self,
        kernel: Kernel,
        target: str,
        grads: list[Tensor],
        group: dict[str, Any],
        length: float,
        kept: float,
        scale: float,
    ) -> None:
        """``target <- kept * target - length * g / d`` and ``v <- rho v + (1 - rho) g*g`` in one pass."""
        rho, v = group["alpha"], self.state["square_avg"]
        # g / (sqrt(v / c) + eps) = sqrt(c) g / (sqrt(v) + sqrt(c) eps), with c the weight of gradients in v.
        weight = 1.0 - self.state["initial_weight"] if group["bias_correction"] else 1.0
        root = math.sqrt(weight)
        inside = group["eps"] if group["eps_in_sqrt"] else 0.0
        squares = self._parts["square_avg"]
        if inside:
            # With v + c eps / rho for v the kernel divides by the root of rho v + (1 - rho) g*g + c eps.
            shifted, squares = self._room("shifted")
            torch.add(v, inside * weight / rho, out=shifted)
        kernel(
            self.params if target == "param" else self._parts[target],
            grads,
            grads,
            squares,
            [],
            self._kernel_steps,
            lr=length * root,
            beta1=0.0,
            beta2=rho,
            weight_decay=0.0 if kept == 1.0 else (1.0 - kept) / (length * root),
            eps=0.0 if inside else group["eps"] * root,
            amsgrad=False,
            maximize=False,
            grad_scale=None if scale == 1.0 else self._divisor.fill_(1.0 / scale),
        )
        if inside:
            # The kernel's sum less eps would lose a small v in rounding.
            v.mul_(rho)
            torch._foreach_addcmul_(self._parts["square_avg"], grads, grads, value=1.0 - rho)

    def _move(self, target: str, grad: Tensor, group: dict[str, Any], length: float, kept: float) -> None:
        """The same without the kernel, and for the centered form."""
        rho = group["alpha"]
        # As the rule does it: the product with a rho that is rounded would bias v.
        v = self.state["square_avg"].lerp_(grad * grad, 1.0 - rho)
        if group["centered"]:
            m = self.state["grad_avg"].lerp_(grad, 1.0 - rho)
            d = torch.addcmul(v, m, m, value=-1.0).clamp_min_(0.0)
        else:
            d = v.clone()
        if group["bias_correction"]:
            d.div_(1.0 - self.state["initial_weight"])
        if group["eps_in_sqrt"]:
            d.add_(group["eps"]).sqrt_()
        else:
            d.sqrt_().add_(group["eps"])
        if target == "param":
            self._shrink_params(kept)
            self._add_to_params(torch.div(grad, d, out=d), -length)
        else:
            self.state[target].mul_(kept).addcdiv_(grad, d, value=-length)

    def _move_left_out(self, grad: Tensor, group: dict[str, Any], lr: float, decay: float) -> None:
        """Divide by the root of v from before the gradient; without momentum and optimism, not centered."""
        rho, v = group["alpha"], self.state["square_avg"]
        before, after = (self.state["initial_weight"] * factor for factor in (1.0, rho))
        d = v / ((1.0 - before) or 1.0) if group["bias_correction"] else v.clone()
        has_fresh = not float(v.min()) > 0.0
        v.lerp_(grad * grad, 1.0 - rho)
        if has_fresh:
            # A coordinate's first gradient has no other normalizer than itself.
            d = torch.where(d > 0.0, d, v / (1.0 - after) if group["bias_correction"] else v)
        if group["eps_in_sqrt"]:
            d.add_(group["eps"]).sqrt_()
        else:
            d.sqrt_().add_(group["eps"])
        u = torch.div(grad, d, out=d)
        if group["max_update_rms"] is not None:
            u.div_((mean_of_each(u * u, self._lengths).sqrt_() / group["max_update_rms"]).clamp_min_(1.0))
        self._shrink_params(decay)
        self._add_to_params(u, -lr)
        self._count(after)

    def _look_ahead(self, group: dict[str, Any], lr: float, decay: float, momentum: float) -> None:
        """Shrink the parameters, and for Nesterov take back ``momentum`` of what the buffer was.

        Its step ``u + momentum b`` is ``(1 + momentum) b - momentum b_before``: u is ``b - momentum b_before``.
        """
        self._shrink_params(decay)
        if group["nesterov"]:
            alpha = momentum * (1.0 if group["lr_in_momentum"] else lr)
            torch._foreach_add_(self.params, self._parts["momentum_buffer"], alpha=alpha)

    def _follow_momentum(self, group: dict[str, Any], lr: float, momentum: float) -> None:
        alpha = (1.0 if group["lr_in_momentum"] else lr) * (1.0 + momentum if group["nesterov"] else 1.0)
        torch._foreach_add_(self.params, self._parts["momentum_buffer"], alpha=-alpha)

    def _update_by_rule(self, grad: Tensor, group: dict[str, Any]) -> None:
        """The rule itself on the flat buffers, for what has no faster form."""
        options = rule_options(group)
        if not group["decoupled_weight_decay"]:
            options["weight_decay"] = 0.0  # it is in the gradient
        before = torch.cat([param.reshape(-1) for param in self.params])
        after, state = update_flat(before, grad, self.state, self._lengths, **options)
        torch._foreach_copy_(self.params, self._split(after))
        for name in self._parts.keys() - {"step"}:
            self.state[name].copy_(state[name])
        self._count(state["initial_weight"])

    def _transformed(self, maximize: bool, coupled_weight_decay: float) -> tuple[Tensor, list[Tensor]]:
        """The gradient to descend, as a flat tensor and as its parts; the user's gradients stay as they are."""
        gathered = self.gathered()
        if not (maximize or coupled_weight_decay):
            return self._room("gradient")
        flat, parts = self._room("transformed")
        if maximize:
            torch.neg(gathered, out=flat)
        else:
            flat.copy_(gathered)
        if coupled_weight_decay:
            torch._foreach_add_(parts, self.params, alpha=coupled_weight_decay)
        return flat, parts

    def _room(self, name: str) -> tuple[Tensor, list[Tensor]]:
        """A flat tensor for all coordinates and its parts, allocated at the first use."""
        if name not in self._rooms:
            self._rooms[name] = _flat_like(self.params)
        return self._rooms[name]

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = torch.split(flat, self._sizes)
        return [part.view(param.shape) for part, param in zip(parts, self.params, strict=True)]

    def _shrink_params(self, decay: float) -> None:
        if decay != 1.0:
            torch._foreach_mul_(self.params, decay)

    def _add_to_params(self, u: Tensor, alpha: float) -> None:
        torch._foreach_add_(self.params, self._split(u), alpha=alpha)

    def _count(self, initial_weight: float) -> None:
        self.state["step"].add_(_ONE)
        self.state["initial_weight"] = initial_weight
        for state in self.param_states:
            state["initial_weight"] = initial_weight


def _cut_off(grad: Tensor) -> Tensor:
    """A gradient whose squares are finite. The kernel takes no step on others, and v is settled later."""
    bound = largest_root(grad.dtype)
    return grad.clamp(-bound, bound)


@functools.cache
def fused_kernel(dtype: torch.dtype) -> Kernel | None:
    """The fused AdamW of torch, if it is there and is RMSprop when it is called as RMSprop.

    Args:
        dtype: Precision of parameters and state.

    Returns:
        The kernel, or None where torch has none or it gives other numbers than `rmsprop_update`.
    """
    kernel: Kernel | None = getattr(torch, "_fused_adamw_", None)
    if kernel is None:
        return None
    param = torch.linspace(-2.0, 3.0, 33, dtype=dtype)
    state, v = rmsprop_init(param), torch.zeros_like(param)
    flat, step = param.clone(), torch.tensor(_NO_CORRECTION)
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-5}
    # Scaling is asked of it in float32 alone, see `FlatBucket.update`.
    divisor = torch.tensor(4.0) if dtype is torch.float32 else None
    for size in (1e-3, 1.0, 1e2):
        grad = size * torch.sin(param)
        g = grad.clone() if divisor is None else grad * divisor
        settings = {"beta1": 0.0, "beta2": 0.9, "amsgrad": False, "maximize": False, "grad_scale": divisor}
        try:
            kernel([flat], [g], [g], [v], [], [step], **settings, **options)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        param, state = rmsprop_update(param, grad, state, rho=0.9, decoupled_weight_decay=True, **options)
        pairs = ((flat, param), (v, state["square_avg"]), (g, grad))
        if not all(torch.allclose(own, other, rtol=1e-5) for own, other in pairs):
            return None
    return kernel


def _flat_like(params: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Zeros for all coordinates of the parameters, and for each parameter a tensor on its part of them.

    The parts are tensors with storages of their own over the same memory, not views of the whole: torch saves and
    copies whole storages.
    """
    dtype, size = params[0].dtype, params[0].element_size()
    count = sum(param.numel() for param in params)
    memory = bytearray(count * size + _CACHE_LINE)
    start = -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % _CACHE_LINE
    parts = []
    offset = start
    for param in params:
        part = torch.frombuffer(memory, dtype=dtype, count=param.numel(), offset=offset)
        parts.append(part.view(param.shape))
        offset += param.numel() * size
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=start), parts
