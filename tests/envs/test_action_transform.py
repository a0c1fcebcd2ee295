import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.action_transform import ActionTransform
from rl_rms.envs.draws import Draws
from rl_rms.envs.targets import parse_targets

FLOATS = Box(-1.0, 1.0, (2,), np.float32)


def transform_of(values, space=FLOATS, num_envs=None):
    transform = ActionTransform(parse_targets(values), space, Draws(), num_envs)
    transform.values.update(values)
    return transform


def test_delay_executes_earlier_actions_after_idle_ones():
    transform = transform_of({"action.delay": 1.0})
    given = [np.full(2, value, np.float32) for value in (0.25, 0.5)]
    assert [transform(one).tolist() for one in given] == [[0.0, 0.0], [0.25, 0.25]]
    transform.delays.clear([0])
    assert transform(given[0]).tolist() == [0.0, 0.0]


def test_gain_and_bias_stay_within_the_bounds():
    action = np.array([0.25, -0.75], np.float32)
    assert transform_of({"action.gain": 2.0})(action).tolist() == [0.5, -1.0]
    assert transform_of({"action.gain": 2.0, "action.bias": 0.25})(action).tolist() == [0.75, -1.0]


@pytest.mark.parametrize("name", ["flip", "permute", "noise", "delay"])
@pytest.mark.parametrize("space", [FLOATS, Discrete(5, start=2)])
def test_one_action_and_a_batch_of_one_are_equal(name, space):
    values = {f"action.{name}": 1.0}
    single, batch = transform_of(values, space), transform_of(values, space, num_envs=1)
    space.seed(0)
    actions = [space.sample() for _ in range(9)]
    moved = [np.asarray(single(action)) for action in actions]
    assert [one.tolist() for one in moved] == [batch(np.asarray([action]))[0].tolist() for action in actions]
    assert [one.tolist() for one in moved] != [np.asarray(action).tolist() for action in actions]
    assert all(space.contains(one if one.ndim else int(one)) for one in moved)
