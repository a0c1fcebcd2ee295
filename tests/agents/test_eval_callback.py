import csv
import math
import threading
import warnings
from functools import partial
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, EvalCallback
from rl_rms.agents.evaluation import Evaluation
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.schedules import Linear
from tests.naming import naming


def agent():
    return A2C(make_vec("CartPole-v1", num_envs=4), seed=0)


def test_eval_callback_logs_and_keeps_the_training_clock(tmp_path):
    trained = agent()
    callback = EvalCallback(make_vec("CartPole-v1", num_envs=2), every=400, episodes=3, at_end=False)
    trained.learn(1_000, callback, log_dir=tmp_path, log_interval=5)
    assert [(one.num_timesteps // 400, one.clock) for one in callback.results] == [(1, None), (2, None)]
    assert trained.env.clock == trained.num_timesteps
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = [float(row["eval/mean_reward"]) for row in rows if row["eval/mean_reward"]]
    assert logged == pytest.approx([one.evaluation.mean_reward for one in callback.results])
    assert rows[0]["train/policy_gradient_loss"]


@pytest.mark.parametrize("value", ["1", True, math.nan, [1.0]])
def test_eval_callback_with_a_wrong_mean_return_names_it(value):
    with pytest.raises(ValueError, match=naming("stop_at", repr(value))):
        EvalCallback(stop_at=value)


@pytest.mark.parametrize("value", ["3", True, -1, 2.5])
def test_eval_callback_with_a_wrong_clock_names_it(value):
    with pytest.raises(ValueError, match=naming("clocks", repr(value))):
        EvalCallback(clocks=[0, value])


@pytest.mark.parametrize("deterministic", [True, False])
def test_eval_callback_in_the_agents_own_environment_keeps_its_state(tmp_path, deterministic):
    def make():
        changes = {"length": Linear(start=0.2, end=2.0, over=5_000), "observation.noise": 0.01}
        stages = [{"masscart": 1.0}, {"masscart": 2.0}]
        env = make_vec("CartPole-v1", 4, changes, curriculum=Staged(stages, threshold=15, window=5), seed=0)
        return A2C(env, seed=0)

    callback = EvalCallback(every=300, episodes=4, deterministic=deterministic, clocks=[0, 4_000], at_end=False)
    evaluated = make().learn(1_000, callback, log_dir=tmp_path, log_interval=5)
    alone = make().learn(1_000)
    for one, other in zip(evaluated.policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert evaluated.env.state_dict() == alone.env.state_dict()
    assert [(one.num_timesteps // 300, one.clock) for one in callback.results] == [
        (1, 0), (1, 4_000), (2, 0), (2, 4_000), (3, 0), (3, 4_000),
    ]  # fmt: skip
    with (tmp_path / "metrics.csv").open() as file:
        assert {"eval/mean_reward/at_0", "eval/mean_ep_length/at_4000"} <= set(next(csv.reader(file)))


def test_eval_callback_env_that_cannot_be_frozen_raises_at_the_start():
    trained = A2C("CartPole-v1", seed=0)
    with pytest.raises(ValueError, match=naming("EvalCallback", "rl_rms.envs.make_vec")):
        trained.learn(200, EvalCallback(every=100))
    assert trained.num_timesteps == 0


class Told(EvalCallback):
    """Returns given mean returns instead of evaluating the agent."""

    def __init__(self, *returns, **kwargs):
        super().__init__(make_vec("CartPole-v1", 1), every=100, at_end=False, **kwargs)
        self.returns = list(returns)

    def _evaluate(self, agent, clock, deterministic):
        return Evaluation(returns=np.array([self.returns.pop(0)]), lengths=np.array([1]))


def test_eval_callback_keeps_the_best_agent(tmp_path):
    callback = Told(10.0, 30.0, 20.0, 30.0, best_path=tmp_path / "best")
    seen = {}

    def remember(agent):
        seen[agent.num_timesteps] = [one.detach().clone() for one in agent.policy.parameters()]

    trained = A2C("CartPole-v1", seed=0)
    trained.learn(450, [callback, remember])
    assert callback.best_mean_reward == 30.0
    best = A2C.load(tmp_path / "best.safetensors")
    assert best.num_timesteps // 100 == 2
    for one, other in zip(best.policy.parameters(), seen[best.num_timesteps], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("returns", "given", "evaluations"),
    [
        ([1.0, 2.0, 5.0, 9.0], {"stop_at": 5.0}, 3),
        ([1.0, 3.0, 2.0, 3.0, 9.0], {"patience": 2}, 4),  # an equal return is not an improvement
        ([1.0, 3.0, 2.0, 4.0, 3.0, 2.0, 9.0], {"patience": 2}, 6),
        ([1.0, 3.0, 2.0, 8.0, 0.0, 6.0], {"clocks": [0, 5], "stop_at": 5.0}, 4),  # the mean of 2 and 8
    ],
)
def test_eval_callback_stops_at_the_return_or_after_the_patience(returns, given, evaluations):
    callback = Told(*returns, **given)
    trained = A2C("CartPole-v1", seed=0).learn(100_000, callback)
    assert len(callback.results) == evaluations
    assert trained.num_timesteps < 1_000


def test_eval_callback_evaluates_the_end_once():
    for total, evaluated in ((500, [2, 4, 5]), (400, [2, 4])):
        callback = EvalCallback(make_vec("CartPole-v1", 2), every=200, episodes=2)
        A2C(make_vec("CartPole-v1", 1), n_steps=10, seed=0).learn(
            total, [callback, lambda agent: agent.num_timesteps < 10**6]
        )
        assert [one.num_timesteps // 100 for one in callback.results] == evaluated


def test_eval_callback_logs_deterministic_and_sampled_returns(tmp_path):
    callback = EvalCallback(make_vec("CartPole-v1", 2), every=300, episodes=2, deterministic="both")
    trained = agent().learn(300, callback, log_dir=tmp_path)
    assert [one.deterministic for one in callback.results] == [True, False]
    likely, drawn = (one.evaluation.mean_reward for one in callback.results)
    assert callback.best_mean_reward == likely
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["eval/mean_reward"]]
    assert float(row["eval/mean_reward"]) == pytest.approx(likely)
    assert float(row["eval/stochastic/mean_reward"]) == pytest.approx(drawn)
    alone = agent().learn(300)
    for one, other in zip(trained.policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_eval_callback_seed_differs_from_the_training_and_can_be_set():
    class Seeded(gym.Wrapper):
        """Records its seeds."""

        seeds: ClassVar[list[int]] = []

        def reset(self, *, seed=None, options=None):
            self.seeds.append(seed)
            return super().reset(seed=seed, options=options)

    def seeds_of(**options):
        Seeded.seeds.clear()
        env = gym.vector.SyncVectorEnv([lambda: Seeded(gym.make("CartPole-v1"))])
        A2C("CartPole-v1", n_steps=50, seed=3).learn(100, EvalCallback(env, every=50, episodes=1, **options))
        return [seed for seed in Seeded.seeds if seed is not None]

    first, second = seeds_of()
    assert first == second
    assert abs(first - 3) > 1_000_000
    assert seeds_of(seed=np.int64(7)) == [7, 7]
    with pytest.raises(ValueError, match=naming("seed", "0", "-1")):
        EvalCallback(seed=-1)


class Counted(gym.Wrapper):
    """Rewards depend on the number of steps, which is stored only in ``holder``."""

    class Holder:
        count = 0

    def __init__(self, env, lock=None):
        super().__init__(env)
        self.holder, self.lock = self.Holder(), lock

    def step(self, action):
        self.holder.count += 1
        observation, reward, *rest = self.env.step(action)
        return observation, reward / self.holder.count, *rest


class CountedVector(gym.vector.VectorWrapper):
    steps = 0

    def step(self, actions):
        self.steps += 1
        observations, rewards, *rest = self.env.step(actions)
        return observations, rewards / self.steps, *rest


def trained_weights(make, callback):
    agent = A2C(make(), seed=0, n_steps=20).learn(400, callback)
    agent.env.close()
    return torch.cat([one.detach().ravel() for one in agent.policy.parameters()])


@pytest.mark.parametrize(
    ("wrappers", "around", "how"),
    [
        ([Counted], None, "sync"),
        ([partial(gym.wrappers.TimeLimit, max_episode_steps=17)], None, "sync"),
        ([partial(gym.wrappers.TimeLimit, max_episode_steps=17)], None, "async"),
        ([partial(gym.wrappers.FrameStackObservation, stack_size=2)], CountedVector, "async"),
    ],
)
def test_eval_callback_in_the_agents_wrapped_environment_keeps_the_training(wrappers, around, how):
    def make():
        changes = {"g": Linear(8.0, 12.0, over=300)}
        env = make_vec("Pendulum-v1", 2, changes, seed=0, wrappers=wrappers, vectorization_mode=how)
        return env if around is None else around(env)

    callback = EvalCallback(every=100, episodes=2, clocks=[0, 200])
    assert torch.equal(trained_weights(make, callback), trained_weights(make, None))
    assert len(callback.results) >= 8


@pytest.mark.parametrize(("how", "named"), [("sync", "lock"), ("async", "other processes")])
def test_eval_callback_env_cannot_be_restored_or_copied_warns_once(how, named):
    wrapper = Counted if how == "async" else lambda env: Counted(env, threading.Lock())
    env = make_vec("Pendulum-v1", 2, {}, seed=0, wrappers=[wrapper], vectorization_mode=how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        A2C(env, seed=0, n_steps=20).learn(400, EvalCallback(every=100, episodes=2))
    said = [str(one.message) for one in caught if "Counted" in str(one.message) and named in str(one.message)]
    assert len(said) == 1
    env.close()
