"""Resets the optimizer's state, or shortens RMSprop's half-life, when the environment's regime changes.

A regime is the period between two abrupt changes of the environment.
"""

from typing import Any

from torch.optim import Optimizer

from rl_rms.agents.config import AgentConfig
from rl_rms.envs.checks import check_int
from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.rmsprop import RMSprop


class RegimeChangeHandler:
    """Keeps or resets an optimizer's state, or shortens RMSprop's half-life, when the regime changes.

    Args:
        config: Configuration with ``on_change``, ``forget_half_life`` and ``forget_updates``.
        optimizer: The optimizer.

    Attributes:
        regime: Index of the regime in the last call of `enter`; None before the first call.

    Raises:
        ValueError: If ``on_change`` is ``"forget"`` and the optimizer is not RMSprop.
    """

    def __init__(self, config: AgentConfig, optimizer: Optimizer) -> None:
        if config.on_change == "forget" and not isinstance(optimizer, RMSprop):
            raise ValueError(
                'on_change="forget" needs the optimizer rl_rms.RMSprop, got '
                f'{type(optimizer).__name__}; use "reset" or "keep"'
            )
        self._config = config
        self._optimizer = optimizer
        self.regime: int | None = None
        self._updates_left = 0
        self._half_lives: list[dict[str, Any]] = []

    def enter(self, regime: int) -> bool:
        """Apply ``on_change`` if the regime has changed since the last call.

        Args:
            regime: Index of the current regime.

        Returns:
            Whether the regime changed; the first regime is not a change.
        """
        if regime == self.regime:
            return False
        is_change, self.regime = self.regime is not None, regime
        if is_change and self._config.on_change == "reset":
            self._optimizer.state.clear()
        elif is_change and self._config.on_change == "forget":
            self._shorten()
        return is_change

    def after_update(self) -> None:
        """Count an update, and restore a shortened half-life after ``forget_updates`` updates."""
        if self._updates_left:
            self._updates_left -= 1
            if not self._updates_left:
                self._restore()

    def _shorten(self) -> None:
        groups = self._optimizer.param_groups
        if not self._updates_left:
            self._half_lives = [{name: group[name] for name in ("half_life", "alpha")} for group in groups]
        self._updates_left = self._config.forget_updates
        for group in groups:
            group.update(half_life=None, alpha=rho_from_half_life(self._config.forget_half_life))

    def _restore(self) -> None:
        for group, stated in zip(self._optimizer.param_groups, self._half_lives, strict=True):
            group.update(stated)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"regime": self.regime, "updates_left": self._updates_left, "half_lives": self._half_lives}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`.

        Raises:
            ValueError: If ``regime`` or ``updates_left`` is not a whole number >= 0, or a group's half-life is
                missing.
        """
        regime, updates_left, half_lives = (state[name] for name in ("regime", "updates_left", "half_lives"))
        if regime is not None:
            check_int("regime", regime, least=0)
        check_int("updates_left", updates_left, least=0, unit="updates")
        if updates_left and len(half_lives) != len(self._optimizer.param_groups):
            raise ValueError(f"half_lives must have one entry per parameter group, got {half_lives!r}")
        self.regime, self._updates_left = regime, updates_left
        self._half_lives = [{name: stated[name] for name in ("half_life", "alpha")} for stated in half_lives]
