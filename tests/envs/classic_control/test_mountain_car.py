import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from tests.envs.classic_control.pairs import pair, states

# Positions and velocities at both ends of the valley and around the goal.
STATES = np.array([[-1.2, 0.599, 0.499, 0.44, 0.1], [-0.07, 0.07, 0.002, 0.03, -0.05]])


@pytest.mark.parametrize("id", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_step_at_the_ends_and_at_the_goal_equals_sync(id):
    ours, theirs = pair(id, "SameStep", num_envs=5)
    for env in (ours, theirs):
        env.reset(seed=0)
        env.step(env.action_space.sample())
    for action in (0, 2) if id == "MountainCar-v0" else (-1.5, 0.3, 1.5):
        ours.state = STATES.astype(np.float32 if "Continuous" in id else np.float64).astype(np.float64)
        for row, env in enumerate(theirs.envs):
            env.unwrapped.state = STATES[:, row].astype(np.float32 if "Continuous" in id else np.float64)
        actions = np.full(ours.action_space.shape, action, ours.action_space.dtype)
        mine, other = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine, other)
        assert mine[2].any()
        assert np.array_equal(ours.state, states(theirs))


def test_continuous_state_is_in_single_precision_after_the_first_step():
    ours, _ = pair("MountainCarContinuous-v0")
    ours.reset(seed=0)
    assert not np.array_equal(ours.state, ours.state.astype(np.float32))
    ours.step(np.ones((3, 1), np.float32))
    assert np.array_equal(ours.state, ours.state.astype(np.float32))


def test_goal_velocity_is_an_argument():
    ours, theirs = pair("MountainCar-v0", goal_velocity=0.05)
    assert ours.goal_velocity == theirs.envs[0].unwrapped.goal_velocity == 0.05
