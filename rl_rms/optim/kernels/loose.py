"""Gradients of parameters whose states share no memory."""

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.rule import State, real
from rl_rms.optim.states import complete_state

_CAPTURABLE_DEVICES = frozenset({"cuda", "xpu", "hpu", "xla"})


class LooseGradients(NamedTuple):
    """Gradients of one step, each with its parameter and the parameter's state.

    Attributes:
        params: The parameters that have a gradient.
        grads: Their gradients.
        states: Their states.
    """

    params: list[Tensor]
    grads: list[Tensor]
    states: list[State]

    @property
    def tensors(self) -> list[Tensor]:
        """All gradients, real."""
        return [real(grad) for grad in self.grads]

    def descended(self, group: Options, scale: float) -> list[Tensor]:
        """Scale the gradients in place, and return the gradients of the minimized objective."""
        if scale != 1.0:
            for grad in self.grads:
                grad.mul_(scale)
        return [-grad for grad in self.grads] if group["maximize"] else self.grads


def collect_loose(
    params: list[Tensor], group: dict[str, Any], states: MutableMapping[Tensor, State]
) -> LooseGradients:
    """Read the gradients of parameters that have one.

    Args:
        params: Parameters of a group.
        group: The options of the group.
        states: The optimizer's states, empty ones for parameters that have none.

    Raises:
        RuntimeError: If a gradient is sparse, or the group is ``capturable`` and a parameter is on a CPU.
    """
    params = [param for param in params if param.grad is not None]
    grads = [param.grad for param in params if param.grad is not None]
    for param, grad in zip(params, grads, strict=True):
        if grad.layout is not torch.strided:
            raise RuntimeError(
                "RMSprop does not support sparse gradients, got one for a parameter of shape "
                f"{tuple(param.shape)}; build the embedding with sparse=False"
            )
        if group["capturable"] and param.device.type not in _CAPTURABLE_DEVICES:
            raise RuntimeError(
                f"capturable=True needs parameters on one of {sorted(_CAPTURABLE_DEVICES)}, got one on "
                f"{param.device.type}; leave capturable out"
            )
    return LooseGradients(params, grads, [complete_state(states[param], param, group) for param in params])
