import gc

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rl_rms.agents import A2C, A2CConfig, evaluate
from rl_rms.agents.evaluation import evaluation_seed
from rl_rms.envs import ResilientSyncVectorEnv, make_vec
from rl_rms.envs.schedules import Linear
from tests.naming import naming


class Still:
    """An agent that always chooses action 0, and has only the members that `evaluate` uses."""

    config = A2CConfig()
    env = None

    def predict(self, observations, state, episode_start, deterministic, action_masks):
        return np.zeros(len(observations), dtype=np.int64), None


def test_evaluate_each_sub_environment_plays_its_share(counting):
    result = evaluate(Still(), counting([(1, False), (4, True)]), episodes=6)
    assert sorted(result.lengths) == [1, 1, 1, 4, 4, 4]
    assert result.mean_reward == pytest.approx((3 * 10 + 3 * 100) / 6)
    assert result.std_reward == pytest.approx(45)
    assert result.mean_ep_length == pytest.approx(2.5)


def test_evaluate_indivisible_number_of_episodes_plays_all(counting):
    result = evaluate(Still(), counting([(1, False), (4, True)]), episodes=5)
    assert sorted(result.lengths) == [1, 1, 1, 4, 4]


def test_evaluate_calls_progress_after_each_episode(counting):
    calls = []
    evaluate(
        Still(), counting([(1, False), (4, True)]), 3, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_evaluate_with_the_same_seed_gives_the_same_episodes():
    agent = A2C("CartPole-v1", seed=0)
    first, second = (evaluate(agent, "CartPole-v1", 4, seed=9).returns.tolist() for _ in range(2))
    assert first == second


def test_evaluate_zero_episodes_raises():
    with pytest.raises(ValueError, match=naming("episodes", "1")):
        evaluate(Still(), "CartPole-v1", episodes=0)


def test_evaluate_closes_only_environments_that_it_made(monkeypatch):
    gc.collect()  # closes environments of earlier tests
    closed = []

    class Open(gym.Wrapper):
        def close(self):
            closed.append("given")

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


class Numbered(gym.Env):
    """Counts the 10 steps of an episode in observations and rewards."""

    observation_space = gym.spaces.Box(0, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.full(1, self.count, np.float32), float(self.count), self.count == 10, False, {}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("within_learn", [False, True])
def test_evaluate_in_training_environment_continues_the_same_episode(mode, within_learn):
    single = Numbered()
    training = ResilientSyncVectorEnv([lambda: single], autoreset_mode=mode)
    agent = A2C(training, n_steps=4, seed=0)
    if within_learn:
        agent.learn(40, lambda trained: evaluate(trained, training, 1).returns.tolist() == [55.0])
    else:
        agent.learn(4)
        assert evaluate(agent, single, 1).returns.tolist() == [55.0]
        assert evaluate(agent, training, 1).lengths.tolist() == [10]
        agent.learn(36)
    assert {(one.ret, one.length) for one in agent.episodes} == {(55.0, 10)}
    alone = A2C(ResilientSyncVectorEnv([Numbered], autoreset_mode=mode), n_steps=4, seed=0).learn(40)
    assert len(agent.episodes) == len(alone.episodes)


def test_evaluate_in_training_environment_without_state_begins_new_episodes():
    class Native(type(gym.make_vec("CartPole-v1", 2).unwrapped)):
        """CartPole without a registered state."""

    training = Native(num_envs=2)
    agent = A2C(training, n_steps=5, seed=0).learn(20)
    with pytest.warns(UserWarning, match=naming("register_state")):
        evaluate(agent, training, 2)
    assert not agent.session.started
    agent.learn(200)
    # Neither the return nor the length of an episode counts reset frames or steps of the evaluation.
    assert all(one.ret == one.length for one in agent.episodes)


def test_evaluate_in_training_environment_does_not_change_training():
    def make():
        return A2C(make_vec("CartPole-v1", 2, {"length": Linear(start=0.2, end=2.0, over=500)}, seed=0), seed=0)

    evaluated, alone = make().learn(100), make().learn(100)
    with evaluated.actor.undisturbed():
        evaluate(evaluated, evaluated.env, 3, seed=1)
        evaluate(evaluated, evaluated.env, 3, seed=1, clock=400)
    assert evaluated.env.state_dict() == alone.env.state_dict()
    evaluated.learn(100)
    alone.learn(100)
    for one, other in zip(evaluated.policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_evaluation_seed_of_any_training_seed_fits_a_signed_32_bit_integer():
    assert all(0 <= evaluation_seed(seed) + 10_000 < 2**31 for seed in (*range(100), 2**40))
