import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from rl_rms.envs import transforms

FLOATS = Box(-2.0, 2.0, (2,), np.float32)


def test_reward_of_one_and_of_a_batch():
    assert transforms.reward(3.0, 2.0, -1.0) == 5.0
    assert transforms.reward(np.array([1.0, 2.0]), np.array([10.0, 100.0]), 0.5).tolist() == [10.5, 200.5]


def test_observation_of_one_and_of_a_batch():
    one = np.array([1.0, -2.0], np.float32)
    moved = transforms.observation(one, 2.0, 0.5)
    assert (moved.tolist(), moved.dtype) == ([2.5, -3.5], np.float32)
    batch = transforms.observation(np.stack([one, one]), np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    assert (batch.tolist(), batch.dtype) == ([[1.0, -2.0], [2.5, -3.5]], np.float32)
    image = transforms.observation(np.ones((2, 3, 4)), np.array([1.0, 5.0]), 0.0)
    assert image[1].tolist() == np.full((3, 4), 5.0).tolist()


@pytest.mark.parametrize(
    ("space", "action", "mirrored"),
    [(Discrete(2), 0, 1), (Discrete(3), 1, 1), (Discrete(3, start=5), 5, 7), (FLOATS, [1.0, -0.5], [-1.0, 0.5])],
)
def test_flip_mirrors_actions(space, action, mirrored):
    assert np.asarray(transforms.action(action, space, 1.0, 1.0)).tolist() == mirrored
    assert np.asarray(transforms.action(action, space, 0.5, 1.0)).tolist() == mirrored
    assert np.asarray(transforms.action(action, space, 0.49, 1.0)).tolist() == action
    assert space.contains(transforms.action(action, space, 1.0, 1.0))
    batch = transforms.action(np.array([action, action]), space, np.array([0.0, 1.0]), 1.0)
    assert batch.tolist() == [action, mirrored]


def test_gain_saturates_at_the_bounds():
    action = np.array([0.5, -1.5], np.float32)
    assert transforms.action(action, FLOATS, 0.0, 2.0).tolist() == [1.0, -2.0]
    assert transforms.action(action, FLOATS, 1.0, 2.0).tolist() == [-1.0, 2.0]
    batch = transforms.action(np.stack([action, action]), FLOATS, 0.0, np.array([1.0, 0.0]))
    assert batch.tolist() == [[0.5, -1.5], [0.0, 0.0]]


@pytest.mark.parametrize("target", transforms.NEUTRAL)
def test_neutral_values_leave_everything_as_it_is(target):
    values = transforms.NEUTRAL
    action = np.array([0.3, -2.0], np.float32)
    assert transforms.reward(3.3, values["reward.scale"], values["reward.offset"]) == 3.3
    assert transforms.observation(action, values["observation.gain"], values["observation.offset"]).tolist() == (
        action.tolist()
    )
    assert (
        transforms.action(action, FLOATS, values["action.flip"], values["action.gain"]).tolist() == action.tolist()
    )


@pytest.mark.parametrize(
    ("target", "observations", "actions", "needed"),
    [
        ("observation.offset", Discrete(3), Discrete(2), "a Box of floats, got Discrete"),
        ("observation.gain", Box(0, 255, (3,), np.uint8), Discrete(2), "a Box of floats, got Box"),
        ("observation.gain", Dict({"a": FLOATS}), Discrete(2), "a Box of floats, got Dict"),
        ("action.gain", FLOATS, Discrete(2), "a Box of floats, got Discrete"),
        ("action.flip", FLOATS, Box(0.0, 1.0, (1,)), "symmetric about 0"),
        ("action.flip", FLOATS, Box(-1, 1, (1,), np.int64), "a Box of floats symmetric"),
        ("action.flip", FLOATS, Discrete(2), None),
        ("action.flip", FLOATS, FLOATS, None),
        ("reward.scale", Discrete(3), Discrete(2), None),
    ],
)
def test_targets_that_do_not_fit_the_spaces(target, observations, actions, needed):
    reason = transforms.misfit(target, observations, actions)
    assert reason is None if needed is None else needed in reason
