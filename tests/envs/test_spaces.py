import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from rl_rms.envs.spaces import (
    components,
    is_float_box,
    is_uint8_box,
    leaves,
    part_space,
    with_part,
    without_bounds,
)

FLOATS = Box(-1.0, 1.0, (2, 3))
IMAGE = Box(0, 255, (2,), np.uint8)
SPACE = Dict({"a": FLOATS, "b": Tuple([IMAGE, Dict({"c": Discrete(4)})])})


def test_kinds_of_boxes():
    assert [is_float_box(one) for one in (FLOATS, IMAGE, Discrete(2))] == [True, False, False]
    assert [is_uint8_box(one) for one in (FLOATS, IMAGE, Discrete(2))] == [False, True, False]
    assert [components(one) for one in (FLOATS, IMAGE, Discrete(4))] == [6, 2, 4]


def test_leaves_are_the_parts_that_are_neither_dict_nor_tuple():
    keys = list(leaves(SPACE))
    assert keys == [("a",), ("b", "0"), ("b", "1", "c")]
    assert [part_space(SPACE, one) for one in keys] == [FLOATS, IMAGE, Discrete(4)]
    assert part_space(SPACE, ("a", "0")) is part_space(SPACE, ("b", "2")) is None
    assert list(leaves(FLOATS)) == [()]


def test_with_part_changes_one_part_and_copies_no_other():
    observation = {"a": np.zeros((2, 3)), 2: (5, {"c": 1})}
    changed = with_part(observation, ("2", "1", "c"), lambda value: value + 1)
    assert changed[2] == (5, {"c": 2})
    assert changed["a"] is observation["a"]
    assert observation[2] == (5, {"c": 1})
    assert with_part(3, (), lambda value: value + 1) == 4


def test_without_bounds_changes_only_the_named_box_of_floats():
    assert without_bounds(SPACE, ("a",)) == Dict({**SPACE.spaces, "a": Box(-np.inf, np.inf, (2, 3))})
    assert without_bounds(SPACE, ("b", "0")) == without_bounds(SPACE, ("missing",)) == SPACE
