import numpy as np
import pytest

from rl_rms.agents.trees import first_leaf, tree_map, tree_stack

TREE = {"a": np.array([1.0, 2.0]), "b": (np.array([3]), {"c": np.array([4, 5])})}


def test_tree_map_of_two_trees_applies_the_function_to_each_pair_of_leaves():
    summed = tree_map(np.add, TREE, TREE)
    assert summed["a"].tolist() == [2.0, 4.0]
    assert isinstance(summed["b"], tuple)
    assert summed["b"][0].tolist() == [6]
    assert summed["b"][1]["c"].tolist() == [8, 10]


def test_tree_map_of_an_array_is_the_function():
    assert tree_map(lambda leaf: leaf + 1, np.array([1])).tolist() == [2]


def test_tree_map_of_tuples_of_other_lengths_raises_value_error():
    with pytest.raises(ValueError, match="longer|shorter"):
        tree_map(np.add, (np.zeros(1),), (np.zeros(1), np.zeros(1)))


def test_tree_stack_adds_a_first_axis_with_the_dtype_of_like():
    like = {"x": np.zeros((7, 2), np.float32)}
    stacked = tree_stack([{"x": np.array([1, 2])}, {"x": np.array([3, 4])}], like)
    assert stacked["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert stacked["x"].dtype == np.float32


def test_tree_stack_of_no_trees_is_empty_with_the_shape_of_like():
    stacked = tree_stack([], (np.zeros((7, 2), np.int8),))
    assert stacked[0].shape == (0, 2)
    assert stacked[0].dtype == np.int8


def test_first_leaf_of_a_nested_tree_is_its_first_array():
    assert first_leaf(TREE) is TREE["a"]
    assert first_leaf((TREE["b"], TREE["a"])) is TREE["b"][0]
