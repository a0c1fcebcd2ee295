"""The collector's only contact with failing sub-environments, see `rl_rms.envs.faults`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from rl_rms.envs.config import OnEnvError
from rl_rms.envs.faults import broken_in, watch

Bools = npt.NDArray[np.bool_]


class EnvFaults:
    """Failing sub-environments of a vector environment.

    Args:
        env: The vector environment.
        on_env_error: As for `Collector`.
        env_timeout: As for `Collector`.
    """

    def __init__(self, env: VectorEnv, on_env_error: OnEnvError | None, env_timeout: float | None) -> None:
        self._watch = watch(env, on_env_error, env_timeout)
        # Restarts that `broken_in` has reported.
        self._reported = 0

    @property
    def num_restarts(self) -> int:
        """Restarts so far."""
        return 0 if self._watch is None else self._watch.num_restarts

    def set_first_index(self, first_index: int) -> None:
        """Set the number of the first sub-environment in errors."""
        if self._watch is not None:
            self._watch.first_index = first_index

    def broken_in(self, info: dict[str, Any], truncated: Bools) -> Bools | None:
        """Sub-environments that failed in a vector step; None for none."""
        if self._watch is None or self._watch.num_restarts == self._reported:
            return None
        self._reported = self._watch.num_restarts
        return broken_in(info, truncated)

    def state_dict(self) -> dict[str, Any] | None:
        """The counts as plain data, None if nothing is watched."""
        return None if self._watch is None else self._watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Continue from a state of `state_dict`."""
        if self._watch is not None and state is not None:
            self._watch.load_state_dict(state)
