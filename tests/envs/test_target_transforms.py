"""Transforms of one environment, made from the names of targets."""

import pickle

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from rl_rms.envs.target_transforms import TargetTransforms
from tests.naming import naming

FLOATS = Box(-1.0, 1.0, (2,), np.float32)


def test_without_targets_nothing_is_transformed():
    transforms = TargetTransforms(["length", "Wrapper.factor"], FLOATS, FLOATS)
    assert not transforms
    assert "length" not in transforms
    assert (transforms.reward, transforms.observation, transforms.action) == (None, None, None)
    assert (transforms.delayed, transforms.has_noise, transforms.is_drawn) == (None, False, False)


def test_setter_sets_the_value_of_its_target():
    space = Dict({"a": FLOATS, "b": FLOATS})
    targets = ["observation.a.offset", "observation.b.offset", "reward.offset", "length"]
    transforms = TargetTransforms(targets, space, FLOATS)
    for number, target in enumerate(targets[:3]):
        assert transforms.value(target) == 0.0
        transforms.setter(target)(number + 1.0)
        assert transforms.value(target) == number + 1.0
    moved = transforms.observation({key: np.zeros(2, np.float32) for key in "ab"})
    assert {key: part.tolist() for key, part in moved.items()} == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert transforms.reward(0.0) == 3.0


@pytest.mark.parametrize(
    ("target", "has_noise", "is_drawn"),
    [("action.noise", True, True), ("observation.mask", False, True), ("observation.gain", False, False)],
)
def test_random_numbers_are_needed_by_their_targets(target, has_noise, is_drawn):
    transforms = TargetTransforms([target], FLOATS, FLOATS)
    assert (transforms.has_noise, transforms.is_drawn) == (has_noise, is_drawn)


def test_restored_delay_gives_the_same_actions():
    transforms, other = (TargetTransforms(["action.delay"], FLOATS, FLOATS) for _ in range(2))
    for one in (transforms, other):
        one.setter("action.delay")(1.0)
    transforms.action(np.full(2, 0.25, np.float32))
    other.delayed = transforms.delayed
    copied = pickle.loads(pickle.dumps(transforms))
    for one in (other, copied):
        assert one.action(np.zeros(2, np.float32)).tolist() == [0.25, 0.25]
    transforms.begin()
    assert transforms.action(np.ones(2, np.float32)).tolist() == [0.0, 0.0]


def test_value_out_of_bounds_names_target_and_value():
    transforms = TargetTransforms(["observation.mask"], FLOATS, FLOATS)
    with pytest.raises(ValueError, match=naming("observation.mask", "[0, 1]", "1.5")):
        transforms.setter("observation.mask")(1.5)


@pytest.mark.parametrize(
    ("target", "space", "named"),
    [
        ("observation.gain", Discrete(3), ["'observation.gain'", "Box of floats"]),
        ("observation.permute", Box(0.0, 1.0, (1,)), ["'observation.permute'", "more than one"]),
        ("observation.offsets_draw", FLOATS, ["'observation.offsets_draw'", "'observation.offsets'"]),
        (
            "observation.a.offsets_draw",
            Dict({"a": FLOATS}),
            ["observation.a.offsets_draw", "observation.a.offsets'"],
        ),
    ],
)
def test_target_without_effect_names_the_reason(target, space, named):
    with pytest.raises(ValueError, match=naming(*named)):
        TargetTransforms([target], space, FLOATS)


def test_fitting_names_the_targets_of_both_spaces():
    names = TargetTransforms([], Dict({"a": FLOATS, "b": Discrete(2)}), Discrete(2)).fitting()
    assert {"reward.scale", "observation.a.permute", "action.flip"} <= {*names}
    assert not {"observation.gain", "observation.b.gain", "action.gain"} & {*names}
