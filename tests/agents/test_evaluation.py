import gc

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorEnv

from rl_rms.agents import A2C, A2CConfig, evaluate


class Still:
    """Any agent that only predicts."""

    config = A2CConfig()

    def predict(self, observations, state, episode_start, deterministic, action_masks):
        return np.zeros(len(observations), dtype=np.int64), None


def test_every_world_plays_its_share_so_short_episodes_are_not_preferred(counting):
    result = evaluate(Still(), counting([(1, False), (4, True)]), episodes=6)
    assert sorted(result.lengths) == [1, 1, 1, 4, 4, 4]
    assert result.mean_reward == pytest.approx((3 * 10 + 3 * 100) / 6)
    assert result.std_reward == pytest.approx(45)
    assert result.mean_ep_length == pytest.approx(2.5)


def test_what_does_not_divide_is_played_too(counting):
    result = evaluate(Still(), counting([(1, False), (4, True)]), episodes=5)
    assert sorted(result.lengths) == [1, 1, 1, 4, 4]


def test_the_same_seed_plays_the_same_episodes():
    agent = A2C("CartPole-v1", seed=0)
    first, second = (evaluate(agent, "CartPole-v1", 4, seed=9).returns.tolist() for _ in range(2))
    assert first == second


def test_episodes_are_counted_from_one():
    with pytest.raises(ValueError, match="episodes must be >= 1"):
        evaluate(Still(), "CartPole-v1", episodes=0)


def test_what_is_made_for_it_is_closed_and_what_is_given_is_not(monkeypatch):
    closed = []

    class Open(gym.Wrapper):
        def close(self):
            closed.append("given")

    # As before Gymnasium 1.3.
    monkeypatch.setattr(VectorEnv, "__del__", lambda env: None if env.closed else env.close(), raising=False)

    def close(env):
        closed.append(env.num_envs)
        env.closed = True

    monkeypatch.setattr(VectorEnv, "close", close)
    evaluate(Still(), "MountainCar-v0", episodes=1)
    assert closed == [1]
    several = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
    evaluate(Still(), several, episodes=1)
    evaluate(Still(), Open(gym.make("CartPole-v1")), episodes=1)
    gc.collect()
    assert closed == [1]
