"""What becomes of RMSprop's memory when the world's regime changes."""

from typing import Any

import torch
from torch.optim import Optimizer

from rl_rms.agents.config import AgentConfig
from rl_rms.envs.checks import check_whole
from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.rmsprop import RMSprop


class ChangeResponse:
    """Keeps, resets or shortens an optimizer's memory at changes of regime, as ``on_change`` says.

    Args:
        config: Says what to do.
        optimizer: To what.

    Attributes:
        regime: The number of the regime that was met last, None before the first.

    Raises:
        ValueError: If an optimizer is to forget that has no half-life.
    """

    def __init__(self, config: AgentConfig, optimizer: Optimizer) -> None:
        if config.on_change == "forget" and not isinstance(optimizer, RMSprop):
            raise ValueError(
                'on_change="forget" shortens the half-life of rl_rms.RMSprop, which '
                f'{type(optimizer).__name__} does not have; take "reset" or "keep"'
            )
        self._config = config
        self._optimizer = optimizer
        self.regime: int | None = None
        self._updates_left = 0
        self._memories: list[dict[str, Any]] = []

    def meet(self, regime: int) -> bool:
        """Respond to a regime that is another than at the last call.

        Args:
            regime: Its number.

        Returns:
            Whether it is another.
        """
        if regime == self.regime:
            return False
        known, self.regime = self.regime is not None, regime
        if known and self._config.on_change == "reset":
            reset_state(self._optimizer)
        elif known and self._config.on_change == "forget":
            self._shorten()
        return known

    def after_update(self) -> None:
        """Count an update, the last of which gives the memory back its length."""
        if self._updates_left:
            self._updates_left -= 1
            if not self._updates_left:
                self._restore()

    def _shorten(self) -> None:
        groups = self._optimizer.param_groups
        if not self._updates_left:
            self._memories = [{name: group[name] for name in ("half_life", "alpha")} for group in groups]
        self._updates_left = self._config.forget_updates
        for group in groups:
            group.update(half_life=None, alpha=rho_from_half_life(self._config.forget_half_life))

    def _restore(self) -> None:
        for group, memory in zip(self._optimizer.param_groups, self._memories, strict=True):
            group.update(memory)

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain data."""
        return {"regime": self.regime, "updates_left": self._updates_left, "memories": self._memories}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state of `state_dict`.

        Raises:
            ValueError: If ``regime`` or ``updates_left`` is no whole number >= 0, or a group's memory is missing.
        """
        regime, updates_left, memories = (state[name] for name in ("regime", "updates_left", "memories"))
        if regime is not None:
            check_whole("regime", regime, least=0)
        check_whole("updates_left", updates_left, least=0, unit="updates")
        if updates_left and len(memories) != len(self._optimizer.param_groups):
            raise ValueError(f"memories must have one entry per parameter group, got {memories!r}")
        self.regime, self._updates_left = regime, updates_left
        self._memories = [{name: memory[name] for name in ("half_life", "alpha")} for memory in memories]


@torch.no_grad()
def reset_state(optimizer: Optimizer) -> None:
    """Bring an optimizer's state to what it was before the first step, where it lies."""
    if isinstance(optimizer, RMSprop):
        optimizer.reset()
    else:
        optimizer.state.clear()
