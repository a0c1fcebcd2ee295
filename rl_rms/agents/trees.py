"""Operations on nested observations of Dict and Tuple spaces."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Tree = Any  # an array, or a dictionary or tuple of trees


def tree_map(function: Callable[..., Any], *trees: Tree) -> Tree:
    """Apply a function to every leaf of a tree, together with the leaves at the same place of others.

    Args:
        function: Takes as many arrays as there are trees.
        *trees: Of one structure.

    Returns:
        A tree of the same structure.
    """
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        return tuple(tree_map(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def tree_stack(trees: Sequence[Tree], like: Tree) -> Tree:
    """Trees of arrays as one tree of arrays with a first axis more.

    Args:
        trees: Any number of them, also none.
        like: A tree whose arrays have that first axis, any length: gives shapes and dtypes.
    """
    if not trees:
        return tree_map(lambda leaf: np.empty((0, *leaf.shape[1:]), leaf.dtype), like)
    return tree_map(lambda leaf, *leaves: np.stack(leaves).astype(leaf.dtype, copy=False), like, *trees)


def first_leaf(tree: Tree) -> Any:
    """The first array of a tree."""
    while isinstance(tree, (Mapping, tuple)):
        tree = next(iter(tree.values())) if isinstance(tree, Mapping) else tree[0]
    return tree
