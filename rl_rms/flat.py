"""The fast path on a CPU: parameters, gradients and v of one precision in flat buffers, one kernel for all.

For the small networks of reinforcement learning a step costs what launching its kernels costs, some ten for each
tensor. Over flat memory it is one: torch's fused AdamW with ``beta1 = 0`` and the gradient passed as its own
first moment and a huge step count, at which its bias correction is 1, *is* RMSprop in one pass over memory; its
decay is the decoupled one. It is a private function of torch, so `fused_kernel` compares it with
`rl_rms.update.rmsprop_update` before its first use, and that function, applied to the flat buffers as if they
were one parameter, takes over where the kernel is missing, differs, or lacks an option.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.options import looks_at_tensors, rule_options, weight_decay_in_force
from rl_rms.update import State, largest_root, mean_of_each, rmsprop_init, rmsprop_update, update_flat

_CACHE_LINE = 64
# More parameters than this are not copied into the flat gradient when backward() put them elsewhere: a kernel call
# per tensor is then cheaper than one more pass over memory.
_GATHER_AT_MOST = 1 << 18
# A step count at which the fused kernel's bias correction is 1 for every rho below 1 - 1e-7.
_NO_CORRECTION = 1e9

# The kernel rounds rho to the buffers' precision, but not 1 - rho. Where that could make v larger or smaller by
# more than this share (in float32, at half-lives from 23 260 updates on) it is not used.
_MOST_BIAS = 1e-3

# Learning rates that numbers are divided by before the kernel multiplies them again; smaller ones give infinities.
_LEAST_LR = 1e-290

_ONE = torch.ones(())
_data_ptr = torch.Tensor.data_ptr
_get_grad = operator.attrgetter("grad")

Kernel = Callable[..., None]


def can_flatten(param: Tensor) -> bool:
    """Whether a parameter's memory may be moved into a flat buffer.

    Not one that is elsewhere, of a kind without the kernel, shared between processes, or a part of a storage that
    is not its own, which somebody else has laid out.
    """
    data = param.data
    return (
        type(data) is Tensor
        and data.device.type == "cpu"
        and data.dtype in (torch.float32, torch.float64)
        and data.layout is torch.strided
        and data.is_contiguous()
        and data.numel() > 0
        and data.untyped_storage().nbytes() == data.nbytes
        and not data.is_shared()  # type: ignore[no-untyped-call]
    )


class FlatBucket:
    """Parameters of one precision whose memory, gradients' memory and accumulators are each one flat buffer.

    Building it moves the parameters' data and state into the buffers (``param.data`` points there afterwards), as
    ``.to()`` would; the parameters stay the objects they were. Gradients are copied, until `zero_grad` gives what
    they were up anyway and lets them lie there. Every tensor has a storage of its own on its part of a buffer, so
    that saving or copying one of them does not take the others along.

    Args:
        params: Parameters that `can_flatten`, of one precision, with dense gradients.
        states: Their states, of equal ``initial_weight``.

    Attributes:
        param: All parameters, of shape ``(num_coordinates,)``.
        grad: All gradients, likewise.
        state: What the update rule keeps, likewise.
        gradients: As of the last `collect`: ``grad`` alone where it ``is_whole``, else those of all parameters.
        is_whole: Whether ``grad`` held them all then.
        is_in_place: Whether they lay there already.
    """

    def __init__(self, params: list[Tensor], states: list[State]) -> None:
        self.params = params
        self.states = states
        self.param, self._params = _flat_like(params)
        self.grad, self._grads = _flat_like(params)
        self.state: State = dict(states[0])
        self._views: dict[str, list[Tensor]] = {}
        torch._foreach_copy_(self._params, [param.detach() for param in params])
        for name in ("step", "square_avg", "grad_avg", "momentum_buffer", "previous_update"):
            if name in self.state:
                old = [state[name] for state in states]
                self.state[name], self._views[name] = _flat_like(old)
                torch._foreach_copy_(self._views[name], old)
        for index, (param, state) in enumerate(zip(params, states, strict=True)):
            param.data = self._params[index]
            for name, views in self._views.items():
                state[name] = views[index]
        self.gradients: list[Tensor] = []
        self.is_whole = False
        self.is_in_place = False
        self._pointers = [param.data_ptr() for param in params]
        self._grad_pointers = [grad.data_ptr() for grad in self._grads]
        self._state_pointers = [
            (operator.itemgetter(name), [view.data_ptr() for view in views]) for name, views in self._views.items()
        ]
        self._kernel_steps = [torch.tensor(_NO_CORRECTION)] * len(params)
        self._divisor = torch.ones(())
        # By how much a rho is rounded at most.
        self._rounding = torch.finfo(self.param.dtype).eps / 4.0
        self._scratch: Tensor | None = None
        self._lengths = torch.tensor([param.numel() for param in params])
        self._flat_gradient = [self.grad]
        # What a kernel takes: a list of one tensor, or of one for each parameter.
        self._parts = {"param": self._params, **self._views}
        self._flat = {"param": [self.param], **{name: [self.state[name]] for name in self._views}}

    def starts(self) -> list[tuple[Tensor, int]]:
        """Each parameter and the index of its first coordinate in the flat buffers."""
        ends = itertools.accumulate(param.numel() for param in self.params)
        return [(param, end - param.numel()) for param, end in zip(self.params, ends, strict=True)]

    def _is_intact(self) -> bool:
        """Whether parameters and state still lie in the buffers."""
        if list(map(_data_ptr, self.params)) != self._pointers:
            return False
        try:
            for get, pointers in self._state_pointers:
                if list(map(_data_ptr, map(get, self.states))) != pointers:
                    return False
        except (KeyError, TypeError):  # some are missing, or no tensors
            return False
        return True

    def owns_states(self, state_of: Mapping[Tensor, State]) -> bool:
        """Whether the parameters' states are still those that the averages belong to.

        Args:
            state_of: The optimizer's present states.
        """
        return all(map(operator.is_, map(state_of.get, self.params), self.states))

    def collect(self) -> bool:
        """Look for the gradients.

        Gradients that lie elsewhere are copied into the flat one, unless they are so large that a kernel call for
        each costs less than that.

        Returns:
            Whether every parameter has a dense one, and parameters and state still lie in the buffers.
        """
        if not self._is_intact():
            return False
        grads = list(map(_get_grad, self.params))
        self.is_in_place = self.is_whole = self._are_in_place(grads)
        if self.is_in_place:
            self.gradients = self._flat_gradient
            return True
        self.gradients = [grad for grad in grads if grad is not None and not grad.is_sparse]
        if len(self.gradients) < len(grads):
            return False
        if self.grad.numel() <= _GATHER_AT_MOST:
            self._gather()
        return True

    def zero_grad(self) -> bool:
        """Set the gradients to 0, in the flat buffer from here on.

        Returns:
            Whether that could be done: not without dense gradients that are no part of a graph.
        """
        grads = list(map(_get_grad, self.params))
        if not self._are_in_place(grads):
            if any(grad is None or grad.is_sparse or grad.requires_grad for grad in grads):
                return False
            torch._foreach_zero_([grad for grad in grads if grad is not None])
            # New tensors, not other memory for the old ones: those may be somebody's views of a buffer of his own.
            for param, grad in zip(self.params, self._grads, strict=True):
                param.grad = grad
        self.grad.zero_()
        return True

    def update(self, group: dict[str, Any], *, scale: float) -> None:
        """One update of all parameters, as `rl_rms.update.rmsprop_update` states it, outside of autograd.

        Args:
            group: The options of their parameter group.
            scale: What the gradients are multiplied with, in place, before anything else.
        """
        lr, weight_decay = float(group["lr"]), float(weight_decay_in_force(group))
        coupled = 0.0 if group["decoupled_weight_decay"] else weight_decay
        kernel = self._find_kernel(group, lr)
        as_it_is = kernel is not None and not (group["maximize"] or coupled or group["eps_inside_sqrt"])
        if not self.is_whole and not (as_it_is and all(map(self._may_be_left, self.gradients))):
            self._gather()
        if scale != 1.0 and self.is_whole and not self.is_in_place:
            # What the user sees is clipped too, as if it had been before the step.
            torch._foreach_mul_([param.grad for param in self.params if param.grad is not None], scale)
        transformed = group["maximize"] or coupled
        # The kernel scales gradients on its way, which saves a pass over memory; by a number in float32.
        by_kernel = (
            kernel is not None and not transformed and 0.0 < scale < 1.0 and self.grad.dtype is torch.float32
        )
        if scale != 1.0 and not by_kernel:
            torch._foreach_mul_(self.gradients, scale)
        grads = [self._transformed_gradient(group["maximize"], coupled)] if transformed else self.gradients
        if group["exclude_current"] and not (group["centered"] or group["momentum"] or group["optimism"]):
            self._move_left_out(_cut_off(grads[0]), group, lr, 1.0 - lr * weight_decay)
        elif group["exclude_current"] or group["optimism"] or looks_at_tensors(group):
            self._update_by_rule(grads[0], group)
        else:
            decay = 1.0 - lr * weight_decay if group["decoupled_weight_decay"] else 1.0
            momentum = float(group["momentum"])
            self._count(self.state["initial_weight"] * group["alpha"])
            if momentum:
                self._look_ahead(group, lr, decay, momentum)
                # The buffer takes the place of the parameter, and momentum that of its decay.
                length, target, kept = -(lr if group["lr_in_momentum"] else 1.0), "momentum_buffer", momentum
            else:
                length, target, kept = lr, "param", decay
            if kernel is None:
                self._move(target, _cut_off(grads[0]), group, length, kept)
            else:
                self._move_by_kernel(kernel, target, grads, group, length, kept, scale if by_kernel else 1.0)
            if momentum:
                self._follow_momentum(group, lr, momentum)
        # Written through other tensors than the parameters: autograd must hear of it, or a graph from before the
        # step would be taken for a valid one.
        torch.autograd.graph.increment_version(self.params)

    def _find_kernel(self, group: dict[str, Any], lr: float) -> Kernel | None:
        """The kernel, None where it lacks an option."""
        if group["centered"] or group["exclude_current"] or group["optimism"] or looks_at_tensors(group):
            return None
        # It would divide by these.
        divides_by_lr = group["decoupled_weight_decay"] or (group["momentum"] and group["lr_in_momentum"])
        if (divides_by_lr and lr < _LEAST_LR) or (group["eps_inside_sqrt"] and group["alpha"] == 0.0):
            return None
        if self._rounding > _MOST_BIAS * (1.0 - group["alpha"]):
            return None
        return fused_kernel(self.param.dtype)

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
        weight = 1.0 - self.state["initial_weight"] if group["debias"] else 1.0
        root = math.sqrt(weight)
        inside = group["eps"] if group["eps_inside_sqrt"] else 0.0
        # With v + c eps / rho for v the kernel divides by the root of rho v + (1 - rho) g*g + c eps.
        squares = torch.add(v, inside * weight / rho) if inside else v
        kernel(
            self._flat[target] if self.is_whole else self._parts[target],
            grads,
            grads,
            [squares] if self.is_whole else self._parts["square_avg"],
            [],
            self._kernel_steps[: len(grads)],
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
            # Not what the kernel made of the sum, less eps: beside eps a small v would be lost in rounding.
            v.mul_(rho).addcmul_(grads[0], grads[0], value=1.0 - rho)

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
        if group["debias"]:
            d.div_(1.0 - self.state["initial_weight"])
        if group["eps_inside_sqrt"]:
            d.add_(group["eps"]).sqrt_()
        else:
            d.sqrt_().add_(group["eps"])
        moved = self._flat[target][0]
        if kept != 1.0:
            moved.mul_(kept)
        moved.addcdiv_(grad, d, value=-length)

    def _move_left_out(self, grad: Tensor, group: dict[str, Any], lr: float, decay: float) -> None:
        """Divide by the root of v from before the gradient; without momentum and optimism, not centered."""
        rho, v = group["alpha"], self.state["square_avg"]
        before, after = (self.state["initial_weight"] * factor for factor in (1.0, rho))
        d = v / ((1.0 - before) or 1.0) if group["debias"] else v.clone()
        has_fresh = not float(v.min()) > 0.0
        v.lerp_(grad * grad, 1.0 - rho)
        if has_fresh:
            # A coordinate's first gradient has no other normalizer than itself.
            d = torch.where(d > 0.0, d, v / (1.0 - after) if group["debias"] else v)
        if group["eps_inside_sqrt"]:
            d.add_(group["eps"]).sqrt_()
        else:
            d.sqrt_().add_(group["eps"])
        u = torch.div(grad, d, out=d)
        if group["max_update_rms"] is not None:
            u.div_((mean_of_each(u * u, self._lengths).sqrt_() / group["max_update_rms"]).clamp_min_(1.0))
        if group["decoupled_weight_decay"] and decay != 1.0:
            self.param.mul_(decay)
        self.param.add_(u, alpha=-lr)
        self._count(after)

    def _look_ahead(self, group: dict[str, Any], lr: float, decay: float, momentum: float) -> None:
        """Shrink the parameters, and for Nesterov take back ``momentum`` of what the buffer was.

        Its step ``u + momentum b`` is ``(1 + momentum) b - momentum b_before``: u is ``b - momentum b_before``.
        """
        if decay != 1.0:
            self.param.mul_(decay)
        if group["nesterov"]:
            alpha = momentum * (1.0 if group["lr_in_momentum"] else lr)
            self.param.add_(self.state["momentum_buffer"], alpha=alpha)

    def _follow_momentum(self, group: dict[str, Any], lr: float, momentum: float) -> None:
        alpha = (1.0 if group["lr_in_momentum"] else lr) * (1.0 + momentum if group["nesterov"] else 1.0)
        self.param.add_(self.state["momentum_buffer"], alpha=-alpha)

    def _update_by_rule(self, grad: Tensor, group: dict[str, Any]) -> None:
        """The rule itself on the flat buffers, for what has no faster form."""
        options = rule_options(group)
        if not group["decoupled_weight_decay"]:
            options["weight_decay"] = 0.0  # it is in the gradient
        param, state = update_flat(self.param, grad, self.state, self._lengths, **options)
        self.param.copy_(param)
        for name in self._views.keys() - {"step"}:
            self.state[name].copy_(state[name])
        self._count(state["initial_weight"])

    def _are_in_place(self, grads: list[Tensor | None]) -> bool:
        try:
            return list(map(_data_ptr, grads)) == self._grad_pointers  # type: ignore[arg-type]
        except TypeError:  # some are None
            return False

    def _gather(self) -> None:
        torch._foreach_copy_(self._grads, [grad.detach() for grad in self.gradients])
        self.gradients = self._flat_gradient
        self.is_whole = True

    def _may_be_left(self, grad: Tensor) -> bool:
        """Whether the kernel may take a gradient from where it is: it does not look at strides."""
        return grad.is_contiguous() and grad.dtype == self.grad.dtype

    def _transformed_gradient(self, maximize: bool, coupled_weight_decay: float) -> Tensor:
        """The flat gradient, or one made from it elsewhere: the user's stays as it is."""
        if not (maximize or coupled_weight_decay):
            return self.grad
        if self._scratch is None:
            self._scratch = torch.empty_like(self.grad)
        grad = torch.neg(self.grad, out=self._scratch) if maximize else self.grad
        return torch.add(grad, self.param, alpha=coupled_weight_decay, out=self._scratch)

    def _count(self, initial_weight: float) -> None:
        self.state["step"].add_(_ONE)
        self.state["initial_weight"] = initial_weight
        for state in self.states:
            state["initial_weight"] = initial_weight


def _cut_off(grad: Tensor) -> Tensor:
    """A gradient whose squares are finite; the kernel takes such a step as none, and v is settled later."""
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
