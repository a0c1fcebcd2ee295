import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rl_rms.envs import transforms
from rl_rms.envs.targets import NEUTRAL

FLOATS = Box(-2.0, 2.0, (2,), np.float32)


def test_reward_transform_of_one_and_of_a_batch_are_equal():
    assert transforms.reward(3.0, 2.0, -1.0) == 5.0
    assert transforms.reward(np.array([1.0, 2.0]), np.array([10.0, 100.0]), 0.5).tolist() == [10.5, 200.5]


def test_observation_transform_of_one_and_of_a_batch_are_equal():
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


def test_gain_clips_actions_at_the_bounds():
    action = np.array([0.5, -1.5], np.float32)
    assert transforms.action(action, FLOATS, 0.0, 2.0).tolist() == [1.0, -2.0]
    assert transforms.action(action, FLOATS, 1.0, 2.0).tolist() == [-1.0, 2.0]
    batch = transforms.action(np.stack([action, action]), FLOATS, 0.0, np.array([1.0, 0.0]))
    assert batch.tolist() == [[0.5, -1.5], [0.0, 0.0]]


@pytest.mark.parametrize("target", NEUTRAL)
def test_neutral_values_change_nothing(target):
    values = NEUTRAL
    action = np.array([0.3, -2.0], np.float32)
    assert transforms.reward(3.3, values["reward.scale"], values["reward.offset"]) == 3.3
    assert transforms.observation(action, values["observation.gain"], values["observation.offset"]).tolist() == (
        action.tolist()
    )
    assert (
        transforms.action(action, FLOATS, values["action.flip"], values["action.gain"]).tolist() == action.tolist()
    )


def test_permutation_reorders_components():
    batch = np.arange(8.0).reshape(2, 2, 2)
    orders = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    assert transforms.permute(batch, orders).tolist() == [[[0, 1], [2, 3]], [[7, 6], [5, 4]]]
    assert transforms.permute(batch, orders[1:]).tolist() == [[[3, 2], [1, 0]], [[7, 6], [5, 4]]]


def test_mask_hides_the_lowest_ranks_first():
    batch = np.full((2, 4), 7.0, np.float32)
    hidden = transforms.hide(batch, np.array([[2, 0, 3, 1]]), np.array([0.5, 0.25]))
    assert (hidden.tolist(), hidden.dtype) == ([[7, 0, 7, 0], [7, 0, 7, 7]], np.float32)
    assert transforms.hide(batch, np.array([[2, 0, 3, 1]]), 1.0).tolist() == np.zeros((2, 4)).tolist()


def test_discrete_actions_are_permuted_and_randomly_replaced():
    space = Discrete(3, start=5)
    actions = np.array([5, 6, 7])
    assert transforms.relabel(actions, space, np.array([[2, 0, 1]])).tolist() == [7, 5, 6]
    assert transforms.relabel(actions, space, np.array([[0, 1, 2], [2, 0, 1], [0, 2, 1]])).tolist() == [5, 5, 6]
    uniforms = np.array([[0.0, 0.99], [0.3, 0.0], [0.5, 0.0]])
    assert transforms.replace(actions, space, 0.3, uniforms).tolist() == [7, 6, 7]
    assert transforms.replace(actions, space, np.array([0.0, 1.0, 1.0]), uniforms).tolist() == [5, 5, 5]
