"""The fast path on a CPU: parameters, gradients and v of one precision in flat buffers, one kernel for all.

For the small networks of reinforcement learning a step costs what launching its kernels costs, some ten for each
tensor. Over flat memory it is one: torch's fused AdamW with ``beta1 = 0`` and the gradient passed as its own
first moment and a huge step count, at which its bias correction is 1, *is* RMSprop in one pass over memory; its
decay is the decoupled one. It is a private function of torch, so `fused_kernel` compares it with
`rl_rms.update.rmsprop_update` before its first use, and that function, applied to the flat buffers as if they
were one parameter, takes over where the kernel is missing, differs, or lacks an option.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.update import State, rmsprop_init, rmsprop_update

_CACHE_LINE = 64
# More parameters than this are not copied into the flat gradient when backward() put them elsewhere: a kernel call
# per tensor is then cheaper than one more pass over memory.
_GATHER_AT_MOST = 1 << 18
# A step count at which the fused kernel's bias correction is 1 for every rho below 1 - 1e-7.
_NO_CORRECTION = 1e9

_ONE = torch.ones(())

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
    ``.to()`` would; the parameters stay the objects they were. Every parameter keeps a storage of its own on its
    part of the buffer, so that saving or copying one of them does not take the others along.

    Args:
        params: Parameters that `can_flatten`, of one precision, with dense gradients.
        states: Their states, all after equally many updates.
    """

    def __init__(self, params: list[Tensor], states: list[State]) -> None:
        self.params = params
        self.states = states
        self.param, self._params = _flat_like(params)
        self.grad, self._grads = _flat_like(params)
        self.state: State = dict(states[0])
        self._averages: dict[str, list[Tensor]] = {}
        torch._foreach_copy_(self._params, [param.detach() for param in params])
        for name in ("square_avg", "grad_avg", "momentum_buffer"):
            if name in self.state:
                self.state[name], self._averages[name] = _flat_like(params)
                torch._foreach_copy_(self._averages[name], [state[name] for state in states])
        for index, (param, state) in enumerate(zip(params, states, strict=True)):
            param.data = self._params[index]
            assert param.grad is not None
            self._grads[index].copy_(param.grad)
            param.grad = self._grads[index]
            state["step"] = self.state["step"]
            for name, views in self._averages.items():
                state[name] = views[index]
        self._pointers = [param.data_ptr() for param in params]
        self._kernel_steps = [torch.tensor(_NO_CORRECTION)] * len(params)
        self._scratch: Tensor | None = None

    def gradients(self, state_of: Mapping[Tensor, State]) -> list[Tensor] | None:
        """The parameters' gradients, None unless all are dense and parameters and state lie in the buffers.

        Args:
            state_of: The optimizer's present states.
        """
        grads = []
        for param, pointer, state in zip(self.params, self._pointers, self.states, strict=True):
            grad = param.grad
            if grad is None or grad.is_sparse or param.data_ptr() != pointer or state_of.get(param) is not state:
                return None
            grads.append(grad)
        for name, views in self._averages.items():
            for state, view in zip(self.states, views, strict=True):
                if state.get(name) is not view:
                    return None
        return grads

    def holds_gradients(self) -> bool:
        """Whether every parameter's gradient is its part of the flat one."""
        return all(map(operator.is_, [param.grad for param in self.params], self._grads))

    def dissolve(self) -> None:
        """Give every state a counter of its own again; the buffers stay the parameters' memory."""
        for state in self.states:
            if state.get("step") is self.state["step"]:
                state["step"] = state["step"].clone()

    def update(
        self,
        grads: list[Tensor],
        *,
        scale: float,
        maximize: bool,
        lr: float,
        rho: float,
        weight_decay: float,
        debias: bool,
        decoupled_weight_decay: bool,
        **options: Any,
    ) -> None:
        """One update of all parameters, as `rl_rms.update.rmsprop_update` states it, outside of autograd.

        Args:
            grads: What `gradients` gave.
            scale: What the gradients are multiplied with, in place, before anything else.
            maximize: Whether to ascend.
            lr: Learning rate.
            rho: As in `rl_rms.update.rmsprop_update`, like everything that follows.
            weight_decay: Weight decay.
            debias: Whether to divide v by the weight that gradients have in it.
            decoupled_weight_decay: Whether weight decay bypasses the gradient.
            **options: The rule's other options.
        """
        coupled = weight_decay != 0 and not decoupled_weight_decay
        kernel = None
        if not (options["momentum"] or options["centered"] or options["eps_inside_sqrt"]):
            kernel = fused_kernel(self.param.dtype)
        elsewhere = not all(map(operator.is_, grads, self._grads))
        # The kernel scales gradients on its way, which saves a pass over memory; by a number in float32.
        kernel_scales = kernel is not None and not (maximize or coupled) and self.param.dtype is torch.float32
        if scale != 1.0 and not kernel_scales:
            torch._foreach_mul_(grads if elsewhere else [self.grad], scale)
        if elsewhere and kernel and self._is_large_and_plain(grads) and not (maximize or coupled):
            params, averages = self._params, self._averages["square_avg"]
        else:
            if elsewhere:
                if kernel_scales and scale != 1.0:
                    torch._foreach_mul_(grads, scale)
                    scale = 1.0
                torch._foreach_copy_(self._grads, grads)
            grad = self._transformed_gradient(maximize, weight_decay if coupled else 0.0)
            if kernel is None:
                self._update_as_one(
                    grad,
                    lr=lr,
                    rho=rho,
                    weight_decay=0.0 if coupled else weight_decay,
                    debias=debias,
                    decoupled_weight_decay=decoupled_weight_decay,
                    **options,
                )
                return
            params, grads, averages = [self.param], [grad], [self.state["square_avg"]]
        self._count(self.state["initial_weight"] * rho)
        # g / (sqrt(v / c) + eps) = sqrt(c) g / (sqrt(v) + sqrt(c) eps), with c the weight of gradients in v.
        root = math.sqrt(1.0 - self.state["initial_weight"]) if debias else 1.0
        kernel(
            params,
            grads,
            grads,
            averages,
            [],
            self._kernel_steps[: len(params)],
            lr=lr * root,
            beta1=0.0,
            beta2=rho,
            weight_decay=weight_decay / root if decoupled_weight_decay else 0.0,
            eps=options["eps"] * root,
            amsgrad=False,
            maximize=False,
            grad_scale=torch.tensor(1.0 / scale if scale else math.inf)
            if kernel_scales and scale != 1.0
            else None,
        )
        # Written through other tensors than the parameters: autograd must hear of it, or a graph from before the
        # step would be taken for a valid one.
        torch.autograd.graph.increment_version(self.params)

    def _is_large_and_plain(self, grads: list[Tensor]) -> bool:
        """Whether gradients outside of the buffer are better left there; the kernel does not look at strides."""
        return self.grad.numel() > _GATHER_AT_MOST and all(
            grad.is_contiguous() and grad.dtype == self.grad.dtype for grad in grads
        )

    def _transformed_gradient(self, maximize: bool, coupled_weight_decay: float) -> Tensor:
        """The flat gradient, or one made from it elsewhere: the user's stays as it is."""
        if not (maximize or coupled_weight_decay):
            return self.grad
        if self._scratch is None:
            self._scratch = torch.empty_like(self.grad)
        grad = torch.neg(self.grad, out=self._scratch) if maximize else self.grad
        return torch.add(grad, self.param, alpha=coupled_weight_decay, out=self._scratch)

    def _update_as_one(self, grad: Tensor, **options: Any) -> None:
        """The rule itself on the flat buffers, for what the kernel does not have."""
        param, state = rmsprop_update(self.param, grad, self.state, **options)
        self.param.copy_(param)
        for name in self._averages:
            self.state[name].copy_(state[name])
        self._count(state["initial_weight"])
        torch.autograd.graph.increment_version(self.params)

    def _count(self, initial_weight: float) -> None:
        self.state["step"].add_(_ONE)
        self.state["initial_weight"] = initial_weight
        for state in self.states:
            state["initial_weight"] = initial_weight


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
