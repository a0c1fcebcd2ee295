"""Operations on nested observations of Dict and Tuple spaces."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Tree = Any  # an array, or a dictionary or tuple of trees


def tree_map(function: Callable[..., Any], *trees: Tree) -> Tree:
    """Apply a function to the leaves of one or several trees.

    Args:
        function: Function of as many arrays as there are trees.
        *trees: Trees of the same structure.

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
    """Stack trees of arrays along a new first axis.

    Args:
        trees: Any number of trees, also none.
        like: A tree with the shapes and dtypes of the result, with any length of the first axis.
    """
    if not trees:
        return tree_map(lambda leaf: np.empty((0, *leaf.shape[1:]), leaf.dtype), like)
    return tree_map(lambda leaf, *leaves: np.stack(leaves).astype(leaf.dtype, copy=False), like, *trees)


def first_leaf(tree: Tree) -> Any:
    """The first array of a tree."""
    while isinstance(tree, (Mapping, tuple)):
        tree = next(iter(tree.values())) if isinstance(tree, Mapping) else tree[0]
    return tree
