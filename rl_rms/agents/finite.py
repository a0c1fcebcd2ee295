"""Finds and replaces non-finite values in observations and rewards.

Values that overflow float32 count as infinite, because policies and losses are computed in float32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.trees import Tree, tree_map

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

_LARGEST = float(np.finfo(np.float32).max)
# If a sum of squares is below this bound, every magnitude is below 1e19 and therefore finite in float32.
TAME = 1e38


def are_tame(observations: Tree) -> bool:
    """Whether the sum of squares is below `TAME`, which means that all values are finite."""
    if isinstance(observations, np.ndarray):
        if observations.dtype.kind != "f":
            return True
        # Raveling in memory order avoids a copy. vdot does not warn about overflows.
        values = observations.ravel(order="K")
        return bool(np.vdot(values, values) < TAME)
    return all(are_tame(leaf) for _, leaf in leaves(observations))


def leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Array]]:
    """A tree's arrays with their indices, such as ``['camera'][0]``."""
    if isinstance(tree, (Mapping, tuple)):
        for key, part in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves(part, f"{name}[{key!r}]")
    else:
        yield name, np.asarray(tree)


def not_finite(values: Array) -> Bools:
    """Mask of the values that are NaN, infinite or overflow float32; same shape."""
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
        size: Number of all values.
    """

    what: str
    env_index: int
    value: float
    count: int
    size: int

    def __str__(self) -> str:
        among = f" in {self.count} of {self.size} numbers" if self.size > 1 else ""
        return f"{self.what} of sub-environment {self.env_index} must be finite, got {self.value:g}{among}"


def find(what: str, tree: Tree) -> list[Found]:
    """For each sub-environment with non-finite values, the first array that contains one.

    Args:
        what: Name of the tree.
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
