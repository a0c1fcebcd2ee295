"""Replaces non-finite rewards and observations, or raises an error, depending on ``on_nonfinite``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.config import OnNonfinite
from rl_rms.agents.finite import TAME, Found, are_tame, find, not_finite, replaced
from rl_rms.agents.trees import Tree, tree_map

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Finals = list[tuple[int, Tree]]


class NonfiniteError(FloatingPointError):
    """A reward or an observation is not finite.

    Args:
        found: The non-finite values.
    """

    def __init__(self, found: Found) -> None:
        super().__init__(str(found))
        self.found = found


class Imputer:
    """Checks the rewards and observations of a vector environment, and imputes non-finite values.

    Args:
        num_envs: Number of sub-environments.
        on_nonfinite: ``"raise"``, or ``"skip"``, which imputes the values and masks the transition.

    Attributes:
        num_nonfinite: Non-finite rewards and observations since it was set to 0.
    """

    def __init__(self, num_envs: int, on_nonfinite: OnNonfinite) -> None:
        self._on_nonfinite = on_nonfinite
        self._none = np.zeros(num_envs, dtype=np.bool_)
        self.num_nonfinite = 0
        # Mask of the sub-environments whose current observation is imputed; None if there are none.
        self._imputed: Bools | None = None

    def state_dict(self) -> dict[str, Any]:
        """The mask of imputed observations, for `rl_rms.envs.encoding.encode`."""
        return {"imputed": self._imputed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`."""
        self._imputed = state["imputed"]

    def check_reset(self, observations: Tree) -> Tree:
        """Check and impute the observations of a reset.

        Args:
            observations: Shape ``(num_envs, *observation)``.

        Raises:
            NonfiniteError: If a number is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        self._imputed = None
        if not are_tame(observations):
            observations, self._imputed = self._impute_observations(observations, observations, ~self._none)
        return observations

    def check_step(
        self, rewards: Array, finals: Finals, observations: Tree, before: Tree, valid: Bools, starts: Bools
    ) -> tuple[Array, Finals, Tree, Bools | None]:
        """Check and impute the rewards and observations of a step, and return them with the transitions to mask.

        Args:
            rewards: Shape ``(num_envs,)``.
            finals: Final observations by sub-environment.
            observations: Shape ``(num_envs, *observation)``.
            before: The observations before the step, same shape.
            valid: False for reset frames, shape ``(num_envs,)``.
            starts: Whether ``observations`` begin an episode, same shape.

        Raises:
            NonfiniteError: If a number is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        masked, self._imputed = self._imputed, None
        if not np.vdot(rewards, rewards) < TAME:
            rewards, masked = self._impute_rewards(rewards, valid, masked)
        if finals and not all(are_tame(final) for _, final in finals):
            finals, masked = self._impute_finals(finals, before, masked)
        if not are_tame(observations):
            observations, self._imputed = self._impute_observations(observations, before, starts)
        return rewards, finals, observations, masked

    def _impute_rewards(self, rewards: Array, valid: Bools, masked: Bools | None) -> tuple[Array, Bools | None]:
        # The reward of a reset frame belongs to no transition.
        rewards = np.where(valid, rewards, 0.0)
        found = find("the reward", rewards)
        if not found:
            return rewards, masked
        self._count(found)
        return np.where(not_finite(rewards), 0.0, rewards), self._with(masked, found)

    def _impute_finals(self, finals: Finals, before: Tree, masked: Bools | None) -> tuple[Finals, Bools | None]:
        imputed = []
        for i, final in finals:
            tree = tree_map(lambda leaf: np.asarray(leaf)[None], final)
            found = [dataclasses.replace(entry, env_index=i) for entry in find("the final observation", tree)]
            if found:
                self._count(found)
                masked = self._with(masked, found)
                tree = replaced(tree, tree_map(lambda leaf, i=i: leaf[i : i + 1], before))
            imputed.append((i, tree_map(lambda leaf: leaf[0], tree)))
        return imputed, masked

    def _impute_observations(self, observations: Tree, before: Tree, starts: Bools) -> tuple[Tree, Bools | None]:
        found = find("the observation", observations)
        if not found:
            return observations, None
        self._count(found)

        # The replacement is the value before the step, or 0 at an episode's start.
        def last(leaf: Array) -> Array:
            return np.where(starts.reshape(-1, *[1] * (leaf.ndim - 1)), np.zeros((), leaf.dtype), leaf)

        return replaced(observations, tree_map(last, before)), self._with(None, found)

    def _with(self, masked: Bools | None, found: list[Found]) -> Bools:
        """Add the sub-environments in ``found`` to the mask."""
        masked = self._none.copy() if masked is None else masked.copy()
        masked[[entry.env_index for entry in found]] = True
        return masked

    def _count(self, found: list[Found]) -> None:
        if self._on_nonfinite == "raise":
            raise NonfiniteError(found[0])
        self.num_nonfinite += len(found)
