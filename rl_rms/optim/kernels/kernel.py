"""The interface of the kernels, which compute `rl_rms.optim.rule.rmsprop_update` in place."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from rl_rms.optim.kernels.batch import Batch

Options: TypeAlias = Mapping[str, Any]
"""The options of a parameter group. ``"alpha"`` is the current decay."""


class Kernel(Protocol):
    """One way to update the parameters of a batch."""

    def supports(self, batch: Batch, group: Options) -> bool:
        """Whether the kernel supports all options of a group, and is fast for these parameters."""
        ...

    def update(self, batch: Batch, group: Options, *, scale: float) -> None:
        """Update parameters and states in place, without autograd unless the group is differentiable.

        Args:
            batch: The parameters, with their gradients and states.
            group: The options of the parameter group.
            scale: Factor in [0, 1] of the gradients, which are scaled in place.
        """
