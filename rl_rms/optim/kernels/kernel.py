"""The interface of the kernels, which compute `rl_rms.optim.rule.rmsprop_update` in place."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

Options: TypeAlias = Mapping[str, Any]
"""The options of a parameter group, the decay in force under ``"alpha"``."""

Gradients_contra = TypeVar("Gradients_contra", contravariant=True)


class Kernel(Protocol[Gradients_contra]):
    """One way to update the parameters of some gradients."""

    def supports(self, gradients: Gradients_contra, group: Options) -> bool:
        """Whether the kernel has all options of a group, and pays for these parameters."""
        ...

    def update(self, gradients: Gradients_contra, group: Options, *, scale: float) -> None:
        """Update parameters and states in place.

        Args:
            gradients: The gradients, with their parameters and states.
            group: The options of the parameter group.
            scale: Factor in [0, 1] of the gradients, which are scaled in place.
        """
