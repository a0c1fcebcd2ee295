"""Faults of vector environments: failing sub-environments, and missing or overwritten final observations.

The collector uses `rl_rms.envs.faults` only through this module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from rl_rms.agents.trees import Tree, tree_map
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.copying import copied
from rl_rms.envs.faults import FaultLog, broken_in
from rl_rms.envs.notices import Notices
from rl_rms.envs.resilience import named, set_reaction
from rl_rms.envs.restarts import seeds_of

Bools = npt.NDArray[np.bool_]

# `OverwrittenFinals` warns after this many episodes with equal observations.
_MANY_OVERWRITTEN = 3


class EnvFaults:
    """Handles failing sub-environments of a vector environment.

    Args:
        env: The vector environment.
        on_env_error: See `rl_rms.agents.collector.Collector`.
        env_timeout: See `rl_rms.agents.collector.Collector`.
    """

    def __init__(self, env: VectorEnv, on_env_error: OnEnvError | None, env_timeout: float | None) -> None:
        self._env = env
        self._log: FaultLog | None = set_reaction(env, on_env_error, env_timeout)
        self._first_index = 0
        self._seeds: list[int | None] = [None] * env.num_envs
        # Number of restarts that `broken_in` has reported.
        self._reported = 0

    @property
    def num_restarts(self) -> int:
        """Restarts so far."""
        return 0 if self._log is None else self._log.num_restarts

    def set_first_index(self, first_index: int) -> None:
        """Set the index that error messages give to the first sub-environment."""
        self._first_index = first_index
        if self._log is not None:
            self._log.first_index = first_index

    def seed(self, seed: int | None) -> None:
        """Record the seed of a reset, for errors."""
        if seed is not None:
            self._seeds = seeds_of(seed, self._env.num_envs)

    def raise_named(self, error: Exception, when: Callable[[Sequence[int]], str]) -> None:
        """Raise an error that names the failed sub-environments, if they are known.

        Args:
            error: The environment's error.
            when: Function that takes the indices of the failed sub-environments and returns the step of the
                failure, as text for the error.

        Raises:
            EnvError: If the failed sub-environments are known.
        """
        found = named(self._env, error, self._seeds, self._first_index)
        if found is not None:
            found.when = f" {when(found.indices)}"
            raise found

    def broken_in(self, info: dict[str, Any], truncated: Bools) -> Bools | None:
        """Sub-environments that failed in a vector step, shape ``(num_envs,)``; None if none failed."""
        if self._log is None or self._log.num_restarts == self._reported:
            return None
        self._reported = self._log.num_restarts
        return broken_in(info, truncated)

    def state_dict(self) -> dict[str, Any] | None:
        """The fault log as plain data; None if the environment has no fault log."""
        return None if self._log is None else self._log.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Load a state from `state_dict`."""
        if self._log is not None and state is not None:
            self._log.load_state_dict(state)


def finals_in(info: Mapping[str, Any], indices: list[int]) -> list[tuple[int, Tree]]:
    """Copies of the final observations of some sub-environments, from the info of a vector step in SAME_STEP mode.

    Raises:
        ValueError: If a final observation is missing.
    """
    finals = info.get("final_obs", [None] * (max(indices, default=0) + 1))
    for i in indices:
        if finals[i] is None:
            raise ValueError(
                f"info['final_obs'][{i}] must be the final observation of the truncated episode in SAME_STEP "
                f"mode, got an info with the keys {sorted(info)}; add it in the vector environment, or set "
                "env.metadata['autoreset_mode'] to the environment's mode"
            )
    return [(i, copied(finals[i])) for i in indices]


class OverwrittenFinals:
    """Warns if the final observations of truncated episodes equal the first observations of the next episodes.

    The warning needs at least three episodes with equal observations. The checks end after the first difference.

    Gymnasium's SyncVectorEnv and AsyncVectorEnv reset a sub-environment before they copy its final observation. If
    the sub-environment writes all observations into one array, the reset overwrites the final observation.

    Args:
        env: The vector environment. Only Gymnasium's SyncVectorEnv and AsyncVectorEnv are checked, not subclasses.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._notices = Notices()
        # Number of equal observations so far; None if the check is off or has ended.
        self._num_overwritten = 0 if type(env) in (SyncVectorEnv, AsyncVectorEnv) else None

    def check(self, finals: list[tuple[int, Tree]], following: Tree) -> None:
        """Compare final observations with the observations after them.

        Args:
            finals: Sub-environments with their final observations.
            following: The observations after the final observations, shape ``(num_envs, *observation)``.
        """
        if self._num_overwritten is None:
            return
        same = True

        def compare(final: npt.NDArray[Any], first: npt.NDArray[Any]) -> None:
            nonlocal same
            same = same and np.array_equal(final, first)

        for i, final in finals:
            tree_map(lambda leaf, row, i=i: compare(leaf, row[i]), final, following)
        self._num_overwritten = self._num_overwritten + len(finals) if same else None
        if self._num_overwritten is not None and self._num_overwritten >= _MANY_OVERWRITTEN:
            self._num_overwritten = None
            self._notices.give(
                "the final observations of truncated episodes equal the first observations of the next episodes; "
                "if the environment returns the same array at every step, return copies, or make the vector "
                "environment with rl_rms.envs.make_vec",
            )
