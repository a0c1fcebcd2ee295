"""Replaces non-finite rewards and observations, or raises an error, depending on ``on_nonfinite``.

Values that overflow float32 count as infinite, because policies and losses are computed in float32.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.config import OnNonfinite
from rl_rms.agents.trees import Tree, tree_map

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Finals = list[tuple[int, Tree]]

_LARGEST = float(np.finfo(np.float32).max)
# If a sum of squares is below this bound, every magnitude is below 1e19 and therefore finite in float32.
TAME = 1e38


def are_tame(observations: Tree) -> bool:
    """Whether every array of floats has a sum of squares below `TAME`, and therefore only finite values."""
    if isinstance(observations, np.ndarray):
        if observations.dtype.kind != "f":
            return True
        # Raveling in memory order avoids a copy. vdot does not warn about overflows.
        values = observations.ravel(order="K")
        return bool(np.vdot(values, values) < TAME)
    return all(are_tame(leaf) for _, leaf in leaves(observations))


def leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Array]]:
    """Yield a tree's arrays, each after ``name`` and its indices, such as ``['camera'][0]``."""
    if isinstance(tree, (Mapping, tuple)):
        for key, part in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves(part, f"{name}[{key!r}]")
    else:
        yield name, np.asarray(tree)


def not_finite(values: Array) -> Bools:
    """Mask of the values that are NaN, infinite or overflow float32, in the shape of ``values``."""
    if values.dtype.kind != "f":
        return np.zeros(values.shape, np.bool_)
    return ~(np.abs(values) <= _LARGEST)


@dataclass(frozen=True)
class Found:
    """Describes the non-finite values in one array of one sub-environment.

    Attributes:
        what: Name of the array, such as ``observation['camera']``.
        env_index: Index of the sub-environment.
        value: The first non-finite value.
        count: Number of non-finite values.
        size: Number of values of the sub-environment in the array.
    """

    what: str
    env_index: int
    value: float
    count: int
    size: int

    def __str__(self) -> str:
        among = f" (not finite: {self.count} of {self.size} numbers)" if self.size > 1 else ""
        return f"{self.what} of sub-environment {self.env_index} must be finite, got {self.value:g}{among}"


def find(what: str, tree: Tree) -> list[Found]:
    """Find each sub-environment's first array with a non-finite value.

    Args:
        what: Name of the tree in errors.
        tree: Arrays of shape ``(num_envs, ...)``.
    """
    found: dict[int, Found] = {}
    for name, leaf in leaves(tree):
        nonfinite = not_finite(leaf).reshape(len(leaf), -1)
        for i in np.flatnonzero(nonfinite.any(axis=1)).tolist():
            if i not in found:
                value = float(leaf.reshape(len(leaf), -1)[i][nonfinite[i]][0])
                found[i] = Found(what + name, i, value, int(nonfinite[i].sum()), nonfinite.shape[1])
    return [found[i] for i in sorted(found)]


def replaced(tree: Tree, stand_ins: Tree) -> Tree:
    """Replace non-finite values.

    Args:
        tree: Observations, any shape.
        stand_ins: Replacements, broadcast to the observations.
    """

    def replace(leaf: Array, stand_in: Array) -> Array:
        return np.where(not_finite(leaf), stand_in, leaf).astype(leaf.dtype)

    return tree_map(replace, tree, stand_ins)


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
        on_nonfinite: ``"raise"`` raises an error. ``"skip"`` imputes the values and masks the transition.

    Attributes:
        num_nonfinite: Number of non-finite rewards and observations since the last
            `rl_rms.agents.collector.Collector.pop_num_nonfinite`.
    """

    def __init__(self, num_envs: int, on_nonfinite: OnNonfinite) -> None:
        self._on_nonfinite = on_nonfinite
        self._none = np.zeros(num_envs, dtype=np.bool_)
        self.num_nonfinite = 0
        # Mask of the sub-environments whose current observation is imputed; None without imputed observations.
        self._imputed: Bools | None = None

    def state_dict(self) -> dict[str, Any]:
        """The mask of imputed observations, for `rl_rms.envs.encoding.encode`."""
        return {"imputed": self._imputed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`. Values of the reset before the load do not count."""
        self._imputed = state["imputed"]
        self.num_nonfinite = 0

    def check_reset(self, observations: Tree) -> Tree:
        """Check and impute the observations of a reset.

        Args:
            observations: Shape ``(num_envs, *observation)``.

        Raises:
            NonfiniteError: If a value is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        self._imputed = None
        if not are_tame(observations):
            observations, self._imputed = self._impute_observations(observations, observations, ~self._none)
        return observations

    def check_step(
        self, rewards: Array, finals: Finals, observations: Tree, before: Tree, valid: Bools, starts: Bools
    ) -> tuple[Array, Finals, Tree, Bools | None]:
        """Check and impute the rewards and observations of a step.

        Args:
            rewards: Shape ``(num_envs,)``.
            finals: Pairs of a sub-environment's index and its final observation.
            observations: Shape ``(num_envs, *observation)``.
            before: The observations before the step, shape ``(num_envs, *observation)``.
            valid: False for steps that reset or fail, shape ``(num_envs,)``.
            starts: Whether each observation begins an episode, shape ``(num_envs,)``.

        Returns:
            The rewards, finals and observations without non-finite values, and a mask. The mask marks the
            transitions with an imputed reward, final observation, or observation before the step. Without such a
            transition, the mask is None.

        Raises:
            NonfiniteError: If a value is not finite and ``on_nonfinite`` is ``"raise"``.
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
        # A step that resets or fails is no transition, so its reward does not count.
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
