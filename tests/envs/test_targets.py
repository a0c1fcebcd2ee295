import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from rl_rms.envs.targets import (
    NEUTRAL,
    TransformTarget,
    all_transform_targets,
    check_value,
    moved_space,
    neutral_values,
    parse_target,
    parse_targets,
)
from tests.naming import naming

FLOATS = Box(-2.0, 2.0, (2,), np.float32)
PARTS = Dict({"a": FLOATS, "b": Tuple([Discrete(2), FLOATS])})


@pytest.mark.parametrize(
    ("name", "kind", "group", "keys"),
    [
        ("reward.scale", "reward.scale", "reward", ()),
        ("action.delay", "action.delay", "action", ()),
        ("observation.noise", "observation.noise", "observation", ()),
        ("observation.image.noise", "observation.noise", "observation", ("image",)),
        ("observation.b.1.mask", "observation.mask", "observation", ("b", "1")),
    ],
)
def test_parse_target_splits_the_name(name, kind, group, keys):
    assert parse_target(name) == TransformTarget(name, kind, group, keys)


@pytest.mark.parametrize(
    "name", ["length", "reward", "observation", "scale", "reward.a.scale", "a.noise", "action."]
)
def test_parse_target_of_a_parameter_is_none(name):
    assert parse_target(name) is None
    assert parse_targets([name, "reward.scale"]) == [parse_target("reward.scale")]


def test_all_transform_targets_have_names_that_parse():
    found = all_transform_targets(PARTS)
    assert [parse_target(one.name) for one in found] == found
    assert {one.kind for one in found} == NEUTRAL.keys()
    assert {one.name for one in found if one.kind == "observation.gain"} == {
        "observation.a.gain",
        "observation.b.0.gain",
        "observation.b.1.gain",
    }


def test_neutral_values_of_a_group_change_nothing():
    assert neutral_values("reward") == {"reward.scale": 1.0, "reward.offset": 0.0, "reward.noise": 0.0}


def test_moved_space_has_no_bounds_where_a_target_changes_it():
    moved = moved_space(PARTS, ["observation.b.1.gain", "observation.gone.gain", "reward.scale", "length"])
    assert moved["a"] == FLOATS
    assert moved["b"] == Tuple([Discrete(2), Box(-np.inf, np.inf, (2,), np.float32)])


@pytest.mark.parametrize(
    ("target", "observations", "actions", "needed"),
    [
        ("observation.offset", Discrete(3), Discrete(2), "a Box of floats or uint8, got Discrete"),
        ("observation.gain", Box(0, 255, (3,), np.uint8), Discrete(2), None),
        ("observation.gain", Box(0, 255, (3,), np.int64), Discrete(2), "a Box of floats or uint8, got Box"),
        ("observation.gain", Dict({"a": FLOATS}), Discrete(2), "a Box of floats or uint8, got Dict"),
        ("observation.a.gain", Dict({"a": FLOATS}), Discrete(2), None),
        ("observation.b.gain", Dict({"a": FLOATS}), Discrete(2), "the part 'b' of the observations, got Dict"),
        ("observation.1.a.mask", Tuple([FLOATS, Dict({"a": Discrete(2)})]), Discrete(2), "uint8, got Discrete"),
        ("action.gain", FLOATS, Discrete(2), "a Box of floats, got Discrete"),
        ("action.flip", FLOATS, Box(0.0, 1.0, (1,)), "symmetric about 0"),
        ("action.flip", FLOATS, Box(-1, 1, (1,), np.int64), "a Box of floats symmetric"),
        ("action.flip", FLOATS, Discrete(2), None),
        ("action.flip", FLOATS, FLOATS, None),
        ("reward.scale", Discrete(3), Discrete(2), None),
        ("observation.permute", Box(-1, 1, (1,)), Discrete(2), "more than one component"),
        ("observation.permute", FLOATS, Discrete(2), None),
        ("observation.mask", Discrete(3), Discrete(2), "a Box of floats or uint8, got Discrete"),
        ("action.bias", FLOATS, Discrete(2), "a Box of floats, got Discrete"),
        ("action.noise", FLOATS, Box(0, 9, (2,), np.int64), "Discrete, or a Box of floats, got Box"),
        ("action.delay", FLOATS, Dict({"a": FLOATS}), "Discrete, or a Box of floats, got Dict"),
        ("action.permute", FLOATS, Box(np.zeros(2, np.float32), np.array([1, 2], np.float32)), "the same bounds"),
        ("action.permute", FLOATS, Box(-1, 1, (1,)), "more than one"),
        ("action.permute", FLOATS, Box(-np.inf, np.inf, (2,)), None),
        ("action.permute", FLOATS, Discrete(2), None),
    ],
)
def test_misfit_of_an_unsupported_space_gives_the_reason(target, observations, actions, needed):
    reason = parse_target(target).misfit(observations, actions)
    assert reason is None if needed is None else needed in reason


@pytest.mark.parametrize(
    ("target", "value", "actions"),
    [
        ("observation.mask", 1.1, FLOATS),
        ("reward.noise", -0.1, FLOATS),
        ("action.noise", 1.5, Discrete(2)),
        ("action.delay", 1001, FLOATS),
        ("observation.permute", np.array([1.0, -1.0]), FLOATS),
        ("observation.noise", np.nan, FLOATS),
    ],
)
def test_value_out_of_range_raises(target, value, actions):
    with pytest.raises(ValueError, match=naming(target, "[0")):
        check_value(target, value, parse_target(target).bounds(actions))
    check_value("action.noise", 1.5, parse_target("action.noise").bounds(FLOATS))
    assert parse_target("observation.offset").bounds(FLOATS) is None
