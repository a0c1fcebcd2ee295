import gymnasium as gym
import numpy as np
import pytest

from rl_rms.agents import A2C
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer
from rl_rms.agents.rollout_scaling import RolloutScaling
from rl_rms.agents.workers import ALONE
from tests.naming import naming


def test_scaled_rollout_has_normalized_rewards_and_observations(rollout_of):
    rollout = rollout_of(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"), 40)
    observation = ObservationNormalizer(gym.spaces.Box(-9, 9, (4,)))
    scaling = RolloutScaling(observation, RewardNormalizer(2, 0.9))
    assert not scaling.update(rollout, ALONE)
    scaled = scaling.scaled(rollout, ALONE)
    np.testing.assert_array_equal(scaled.observations, observation(rollout.observations))
    np.testing.assert_array_equal(scaled.final_observations, observation(rollout.final_observations))
    np.testing.assert_array_equal(
        scaled.rewards, RewardNormalizer(2, 0.9)(rollout.rewards, rollout.valid, rollout.done)
    )


def test_scaling_without_normalizers_returns_the_rollout(rollout_of):
    rollout = rollout_of(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"), 4)
    scaling = RolloutScaling(None, None)
    assert scaling.scaled(rollout, ALONE) is rollout
    assert (scaling.num_jumps, scaling.scalars(), scaling.state_dict()) == (None, {}, {})


@pytest.mark.parametrize(
    ("entry", "value", "names"),
    [
        ("weight", float("nan"), ("reward.weight", "nan")),
        ("returns", [0.0, float("nan")], ("reward.returns[1]", "nan")),
        ("returns", ["0"], ("reward.returns[0]", "'0'")),
    ],
)
def test_check_state_of_damaged_statistics_names_them(entry, value, names):
    scaling = A2C("CartPole-v1", seed=0).learner.scaling
    state = scaling.state_dict()
    state["reward"] = {**state["reward"], entry: value}
    with pytest.raises(ValueError, match=naming(*names)):
        scaling.check_state(state)
