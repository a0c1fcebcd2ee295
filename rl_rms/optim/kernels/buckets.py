"""Flat buckets: the states of many CPU parameters in one buffer, and their gradients gathered in one tensor.

The networks of reinforcement learning are small, so a step costs as much as its kernel launches. One launch then
serves all parameters. Parameters and gradients are never moved, so other owners of their memory keep seeing them.
"""

import itertools
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.rule import AVERAGES, State
from rl_rms.optim.torch_private import foreach_add_, foreach_copy_, foreach_mul_

_CACHE_LINE = 64
# Gradients of more coordinates are not gathered for their norm: one kernel call for each tensor is then cheaper
# than one more pass over memory.
GATHER_AT_MOST = 1 << 18

_KINDS = [(dtype, torch.strided, True) for dtype in (torch.float32, torch.float64)]

_ONE = torch.ones(())
_data_ptr = torch.Tensor.data_ptr
_numel = torch.Tensor.numel
_is_contiguous = torch.Tensor.is_contiguous
_get_grad = operator.attrgetter("grad")
_get_shape = operator.attrgetter("shape")
_get_kind = operator.attrgetter("dtype", "layout", "is_cpu")


def can_flatten(param: Tensor) -> bool:
    """Whether a bucket takes a parameter: a contiguous float32 or float64 CPU tensor with coordinates."""
    return (
        type(param.data) is Tensor and _get_kind(param) in _KINDS and param.is_contiguous() and param.numel() > 0
    )


class FlatBucket:
    """Parameters of one precision and one past, updated together.

    The state of all parameters lies in one buffer for each average. ``state[name]`` of each parameter is a tensor
    with a storage of its own on its part of the buffer, so that saving or copying one state does not take the
    others along.

    Args:
        params: Parameters that `can_flatten`, of one precision, with dense gradients.
        states: Their states, of equal ``initial_weight``; the averages have their parameter's shape.

    Attributes:
        state: The state as flat tensors of shape ``(num_coordinates,)``, ``step`` of shape ``(num_params,)``.
        parts: For each flat tensor of the state, its parts, in the shapes of the parameters.
        dtype: The precision of the parameters.
        divisor: A scalar for the fused kernel's divisor of gradients.
        is_whole: Whether the gradients are few enough to be gathered in one tensor for their norm.
    """

    def __init__(self, params: list[Tensor], states: list[State]) -> None:
        self.params = params
        self.state: State = dict(states[0])
        self.parts: dict[str, list[Tensor]] = {}
        for name in ("step", *AVERAGES):
            if name in self.state:
                old = [state[name] for state in states]
                self.state[name], self.parts[name] = _flat_like(old)
                foreach_copy_(self.parts[name], old)
                for state, part in zip(states, self.parts[name], strict=True):
                    state[name] = part
        self.dtype = params[0].dtype
        self.divisor = torch.ones(())
        self._param_states = states
        self._sizes = list(map(_numel, params))
        self._shapes = list(map(_get_shape, params))
        self._kinds = list(map(_get_kind, params))
        self._get_averages = list(map(operator.itemgetter, self.parts))
        self._own_parts = [part for parts in self.parts.values() for part in parts]
        self._places = list(map(_data_ptr, self._own_parts))
        self.is_whole = sum(self._sizes) <= GATHER_AT_MOST
        self._scratch: dict[str, tuple[Tensor, list[Tensor]]] = {}

    def starts(self) -> list[tuple[Tensor, int]]:
        """Each parameter and the index of its first coordinate in the flat tensors."""
        ends = itertools.accumulate(self._sizes)
        return [(param, end - param.numel()) for param, end in zip(self.params, ends, strict=True)]

    def owns_states(self, state_of: Mapping[Tensor, State]) -> bool:
        """Whether the bucket was built on these states."""
        return all(map(operator.is_, map(state_of.get, self.params), self._param_states))

    def collect(self) -> "FlatGradients | None":
        """Read the gradients, and check everything that a fused kernel does not check.

        Returns:
            The gradients. None unless parameters, gradients and state still have the sizes and precision that
            the bucket was built with, and the state is still in the bucket; the bucket must then not be used.
        """
        grads: list[Any] = list(map(_get_grad, self.params))
        if not all(map(_is_contiguous, self.params)) or list(map(_get_kind, self.params)) != self._kinds:
            return None
        try:
            if not (list(map(_get_shape, self.params)) == list(map(_get_shape, grads)) == self._shapes):
                return None
            are_alike = list(map(_get_kind, grads)) == self._kinds
            if not are_alike and any(grad.layout is not torch.strided for grad in grads):
                return None
            if not self._has_states():
                return None
        except (AttributeError, KeyError, TypeError):  # a gradient or an average is missing, or is no tensor
            return None
        return FlatGradients(self, grads, are_alike and all(map(_is_contiguous, grads)))

    def _has_states(self) -> bool:
        """Whether the states are still the parts of the buffers, and the parts still lie there."""
        parts = [part for get in self._get_averages for part in map(get, self._param_states)]
        return all(map(operator.is_, parts, self._own_parts)) and list(map(_data_ptr, parts)) == self._places

    def scratch(self, name: str) -> tuple[Tensor, list[Tensor]]:
        """A flat tensor for all coordinates and its parts, allocated at the first use."""
        if name not in self._scratch:
            self._scratch[name] = _flat_like(self.params)
        return self._scratch[name]

    def split(self, flat: Tensor) -> list[Tensor]:
        """The parts of a flat tensor, in the shapes of the parameters."""
        parts = torch.split(flat, self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def count_update(self, rho: float) -> None:
        """Advance ``step`` and ``initial_weight`` of all states by an update of this decay."""
        self.state["step"].add_(_ONE)
        self.set_initial_weight(self.state["initial_weight"] * rho)

    def set_initial_weight(self, initial_weight: float) -> None:
        """Write ``initial_weight`` to all states."""
        self.state["initial_weight"] = initial_weight
        for state in self._param_states:
            state["initial_weight"] = initial_weight


class FlatGradients:
    """Gradients of one step of a bucket's parameters."""

    __slots__ = ("_gathered", "are_plain", "bucket", "grads")

    def __init__(self, bucket: FlatBucket, grads: list[Tensor], are_plain: bool) -> None:
        self.bucket = bucket
        self.grads = grads
        self.are_plain = are_plain
        self._gathered: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All gradients: one flat tensor if the bucket is whole, else one tensor for each parameter."""
        return [self.gathered()] if self.bucket.is_whole else self.grads

    def gathered(self) -> Tensor:
        """A copy of all gradients in one tensor of shape ``(num_coordinates,)``, valid until they are scaled."""
        if self._gathered is None:
            self._gathered, parts = self.bucket.scratch("gradient")
            foreach_copy_(parts, self.grads)
        return self._gathered

    def scale_(self, scale: float) -> None:
        """Scale all gradients in place."""
        self.changed()
        foreach_mul_(self.grads, scale)

    def changed(self) -> None:
        """Gather the gradients again at the next use, since they were written to."""
        self._gathered = None

    def descended(self, *, maximize: bool, weight_decay: float) -> tuple[Tensor, list[Tensor]]:
        """The gradient of the minimized objective, as a flat tensor and as its parts."""
        gathered = self.gathered()
        if not (maximize or weight_decay):
            return self.bucket.scratch("gradient")
        flat, parts = self.bucket.scratch("descended")
        if maximize:
            torch.neg(gathered, out=flat)
        else:
            flat.copy_(gathered)
        if weight_decay:
            foreach_add_(parts, self.bucket.params, alpha=weight_decay)
        return flat, parts


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
