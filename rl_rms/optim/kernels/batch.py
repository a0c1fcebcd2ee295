"""Batches: parameters that one kernel call updates, with their gradients and states."""

import itertools
import operator

import torch
from torch import Tensor

from rl_rms.optim.rule import AVERAGES, State, real
from rl_rms.optim.torch_private import foreach_add_, foreach_copy_, foreach_mul_, layout_check

# Batches with more coordinates than this number are not copied to flat tensors, because one kernel call per tensor
# then takes less time than another pass over memory.
GATHER_AT_MOST = 1 << 18

_ONE = torch.ones(())
_get_grad = operator.attrgetter("grad")
_get_shape = operator.attrgetter("shape")


def multiply_(tensors: list[Tensor], factor: float) -> None:
    """Multiply tensors of one precision by a number, in place."""
    # With a Python number as the factor, torch takes twice as long.
    foreach_mul_(tensors, torch.tensor(factor, dtype=tensors[0].dtype))


class Batch:
    """A batch of any parameters, with their gradients and states."""

    is_uniform = False

    def __init__(self, params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        self.params = params
        self.grads = grads
        self.states = states

    def tensors(self) -> list[Tensor]:
        """All gradients as real tensors."""
        return [real(grad) for grad in self.grads]

    def scale_(self, scale: float) -> None:
        """Scale all gradients in place."""
        if scale != 1.0:
            for grad in self.grads:
                grad.mul_(scale)

    def changed(self) -> None:
        """Discard copies of the gradients, because the gradients have changed."""

    def count_update(self, rho: float) -> None:
        """Count an update with the decay ``rho`` in ``step`` and ``initial_weight`` of all states."""
        foreach_add_([state["step"] for state in self.states], 1)
        for state in self.states:
            state["initial_weight"] *= rho


class UniformBatch(Batch):
    """Contiguous CPU parameters with the same precision and ``initial_weight``, as the fused kernel requires.

    A batch is used in many steps. At each step, `collect` checks that the batch is still valid.

    Attributes:
        averages: The running averages of all parameters, by their key in the state, such as ``"square_avg"``.
        dtype: The precision of the parameters.
        divisor: Scalar tensor by which the fused kernel divides gradients.
        is_small: Whether kernels copy gradients and averages to flat tensors.
    """

    is_uniform = True

    def __init__(self, params: list[Tensor], states: list[State]) -> None:
        super().__init__(params, [], states)
        self.averages: dict[str, list[Tensor]] = {}
        for name in AVERAGES:
            if name in states[0]:
                for state in states:
                    state[name] = state[name].contiguous()
                self.averages[name] = [state[name] for state in states]
        # The step counts are views of one tensor, so that one operation advances all of them.
        self._steps = torch.stack([state["step"] for state in states])
        steps = list(self._steps.unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
        self.dtype = params[0].dtype
        self.divisor = torch.ones(())
        self._get_tensors = operator.itemgetter("step", *self.averages)
        self._tensors = [tensor for state in states for tensor in self._get_tensors(state)]
        self._are_alike = layout_check([*params, *map(_get_grad, params)])
        self._shapes = list(map(_get_shape, params))
        self._sizes = [param.numel() for param in params]
        self.is_small = sum(self._sizes) <= GATHER_AT_MOST
        self._flat: dict[str, tuple[Tensor, list[Tensor]]] = {}
        self._is_gathered = False

    def collect(self) -> bool:
        """Read the gradients, and check the layouts of parameters and gradients, which fused kernels do not check.

        Returns:
            Whether the batch is still valid for its parameters, gradients and states. An invalid batch must not be
            used.
        """
        self.grads = list(map(_get_grad, self.params))
        self._is_gathered = False
        try:
            present = itertools.chain.from_iterable(map(self._get_tensors, self.states))
            return all(map(operator.is_, present, self._tensors)) and self._are_alike(*self.params, *self.grads)
        except KeyError:  # an average is missing
            return False

    def tensors(self) -> list[Tensor]:
        """All gradients: one flat copy if the batch is small, otherwise the gradients themselves."""
        if not self.is_small:
            return self.grads
        flat, parts = self.flat("gradient")
        if not self._is_gathered:
            foreach_copy_(parts, self.grads)
            self._is_gathered = True
        return [flat]

    def flat(self, name: str) -> tuple[Tensor, list[Tensor]]:
        """Return a flat tensor for all coordinates, and views of it in the shapes of the parameters.

        Every call with the same name returns the same tensors.
        """
        if name not in self._flat:
            flat = torch.empty(sum(self._sizes), dtype=self.dtype)
            parts = zip(torch.split(flat, self._sizes), self._shapes, strict=True)
            self._flat[name] = flat, [part.view(shape) for part, shape in parts]
        return self._flat[name]

    def scale_(self, scale: float) -> None:
        """Scale all gradients in place."""
        if scale != 1.0:
            self._is_gathered = False
            multiply_(self.grads, scale)

    def changed(self) -> None:
        """Discard copies of the gradients, because the gradients have changed."""
        self._is_gathered = False

    def initial_weight(self) -> float:
        """The entry ``initial_weight``, which all states share."""
        weight: float = self.states[0]["initial_weight"]
        return weight

    def count_update(self, rho: float) -> None:
        """Count an update with the decay ``rho`` in ``step`` and ``initial_weight`` of all states."""
        self._steps.add_(_ONE)
        weight = self.initial_weight() * rho
        for state in self.states:
            state["initial_weight"] = weight
