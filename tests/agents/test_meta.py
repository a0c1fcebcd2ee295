import dataclasses
import gc
import math
import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms import RMSprop
from rl_rms.agents import A2C, MetaConfig, Reinforce, meta
from rl_rms.agents.description import flat_hyperparameters
from rl_rms.agents.distributions import Categorical
from rl_rms.agents.losses import actor_critic_loss
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Linear, Redraw
from rl_rms.optim.rule import rmsprop_update
from tests.naming import naming

NEGLIGIBLE = 1e-12


class Choice(gym.Env):
    """Each observation shows 0 or 1. The reward is 1 for the action with this number."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right, self.steps = int(self.np_random.integers(2)), 0
        return self.right, {}

    def step(self, action):
        reward = float(action == self.right)
        self.right, self.steps = int(self.np_random.integers(2)), self.steps + 1
        return self.right, reward, False, self.steps == 8, {}


def choices(num_envs=8):
    return SyncVectorEnv([Choice] * num_envs)


def judge(agent):
    """Train until the window of updates is full, and stop before the next evaluation rollout."""
    agent.learn(10**6, callback=lambda one: len(one.meta.state_dict()["window"]) < one.config.meta.window)
    return agent.meta


OPTIONS = {
    "plain": {},
    "unclipped": {"max_grad_norm": None},
    "momentum": {"optimizer_kwargs": {"momentum": 0.5, "weight_decay": 0.01}},
    "optimism": {"optimizer_kwargs": {"optimism": 0.5, "momentum": 0.5}},
    "centered": {"optimizer_kwargs": {"centered": True, "bias_correction": False}},
    "two rates": {"critic_learning_rate": 1e-3},
    "scheduled": {"learning_rate": Linear(1e-2, 1e-3, over=300)},
    "normalized": {"normalize_observation": True, "normalize_reward": True},
    "half-life in env steps": {"half_life": "4_000 steps"},
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_unroll_gives_the_weights_of_the_training(options, fused):
    config = MetaConfig(adapt=["learning_rate", "half_life", "eps"], window=5, rate=0.3)
    env = make_vec("CartPole-v1", 4, {"gravity": Redraw(low=5.0, high=20.0, every=50)}, seed=0)
    plain = {"learning_rate": 3e-3, "n_steps": 5, "normalize_observation": False, "normalize_reward": False}
    agent = A2C(env, **{**plain, **options}, meta=config, seed=0, fused=fused)
    agent.learn(4 * 5 * 12)
    meta = judge(agent)
    assert len(meta.path) > 1
    assert all(abs(math.log(ratio)) > 0.01 for ratio in meta.ratios.values())
    params, losses = meta.unroll({name: torch.tensor(ratio).double() for name, ratio in meta.ratios.items()})
    assert len(losses) == 5
    for name, param in agent.policy.named_parameters():
        torch.testing.assert_close(params[f"policy.{name}"], param, rtol=1e-4, atol=1e-6)


def test_learn_with_ratios_of_one_equals_training_without_meta():
    def train(meta):
        env = make_vec("CartPole-v1", 4, seed=0)
        return A2C(env, learning_rate=1e-2, meta=meta, seed=0).learn(2_000)

    with_meta, without = train(MetaConfig(rate=NEGLIGIBLE)), train(None)
    assert with_meta.num_timesteps == without.num_timesteps
    assert list(with_meta.episodes) == list(without.episodes)


def next_batch(agent):
    """The batch of the agent's next rollout, without an update."""
    rollout, state = agent.make_trainer().collect()
    return agent.learner.batch(rollout, state, agent.num_timesteps).copied()


class DoublePolicy(torch.nn.Module):
    """A policy in double precision, for finite differences."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Linear(4, 2).double()
        self.critic_network = torch.nn.Linear(4, 1).double()

    def actor(self, observations):
        return Categorical(self.network(observations.double()))

    def critic(self, observations):
        return self.critic_network(observations.double()).squeeze(-1)


@pytest.mark.parametrize("fluctuation", [0.0, 0.7])
@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
def test_meta_gradients_equal_finite_differences(fluctuation, max_grad_norm):
    config = MetaConfig(adapt=["learning_rate", "half_life", "eps"], window=3, fluctuation=fluctuation)
    agent = Reinforce(
        make_vec("CartPole-v1", 3, seed=0),
        policy=DoublePolicy(),
        baseline=False,
        ent_coef=0.02,
        learning_rate=0.05,
        half_life=50,
        max_grad_norm=max_grad_norm,
        optimizer_kwargs={"eps": 1e-2},
        meta=config,
        seed=0,
    )
    meta = judge(agent)
    fresh = next_batch(agent)

    def objective(logs):
        params, losses = meta.unroll(dict(zip(config.adapt, logs.exp(), strict=True)))
        coefficients = dataclasses.replace(fresh.coefficients, vf_coef=0.0, normalize_advantage=True)
        own = {name.removeprefix("policy."): value for name, value in params.items()}
        policy = DoublePolicy()
        policy.load_state_dict({name: value.detach() for name, value in own.items()})
        last = actor_critic_loss(policy, dataclasses.replace(fresh, coefficients=coefficients))[0]
        return (last + fluctuation * torch.stack(losses).var()).item()

    nudges = 1e-5 * torch.eye(3, dtype=torch.float64)
    differences = [(objective(nudge) - objective(-nudge)) / 2e-5 for nudge in nudges]
    assert meta.learns_from(fresh)
    assert meta.logs.grad.tolist() == pytest.approx(differences, rel=1e-4, abs=1e-9)


@pytest.mark.slow
def test_learn_with_a_too_small_rate_increases_it_and_the_return():
    def train(meta):
        agent = A2C(choices(), learning_rate=2e-5, gamma=0.0, meta=meta, seed=0).learn(24_000)
        return agent, np.mean([episode.ret for episode in agent.episodes]) / 8

    agent, learned = train(MetaConfig(adapt=["learning_rate"], rate=0.1))
    assert agent.meta.ratios["learning_rate"] > 10.0
    assert learned > 0.9
    assert train(None)[1] < 0.7


def test_unroll_within_memory_mb_truncates_the_gradient():
    def graph(memory_mb):
        agent = A2C(choices(), meta=MetaConfig(window=8, memory_mb=memory_mb), seed=0)
        meta = judge(agent)
        logs = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        ratios = dict(zip(("learning_rate", "half_life"), logs.exp(), strict=True))
        params, _ = meta.unroll(ratios)
        gradient = torch.autograd.grad(sum(param.sum() for param in params.values()), logs, allow_unused=True)[0]
        return meta.saved_bytes / 2**20, params, gradient

    most, params, whole = graph(1_000.0)
    held, same, half = graph(most / 2)
    assert most / 4 < held <= most / 2
    assert all(torch.equal(one, other) for one, other in zip(params.values(), same.values(), strict=True))
    assert not torch.equal(whole, half)
    assert half[0] != 0.0
    # The graph always has the last update, even if memory_mb is too small for one update.
    held, _, last = graph(most / 1_000)
    assert held == pytest.approx(most / 8, rel=0.3)
    assert last[0] != 0.0


def test_learn_within_the_smallest_memory_mb_adapts():
    agent = A2C(choices(), meta=MetaConfig(window=4, memory_mb=1e-6), seed=0).learn(1_000)
    assert all(ratio != 1.0 for ratio in agent.meta.ratios.values())


def test_evaluation_rollouts_count_env_steps_and_no_updates():
    def train(fresh):
        rollouts = []
        agent = A2C(choices(), meta=MetaConfig(window=4, num_eval_rollouts=fresh), seed=0)
        return agent.learn(10**6, callback=lambda one: rollouts.append(one.num_timesteps) or len(rollouts) < 24)

    once, thrice = train(1), train(3)
    assert once.num_timesteps == thrice.num_timesteps
    assert once.num_updates == 24
    # With three instead of one evaluation rollout, two more rollouts without an update follow each window of four
    # updates.
    assert thrice.num_updates == 16
    assert len(thrice.meta.path) == 3
    assert thrice.meta.state_dict()["initial_weight"] == pytest.approx(0.5 ** (9 / 10))


def test_update_spans_the_env_steps_of_the_evaluation_rollouts_before_it():
    meta = MetaConfig(adapt=["learning_rate"], window=2, num_eval_rollouts=3)
    agent = A2C(choices(num_envs=2), half_life="2_000 steps", n_steps=5, meta=meta, seed=0)
    spans, step = [], agent.optimizer.step

    def record():
        spans.append(agent.optimizer.steps_per_update)
        step()

    agent.optimizer.step = record
    agent.learn(10**6, callback=lambda one: one.num_updates < 6)
    assert sum(spans) == agent.num_timesteps
    assert min(spans[2], spans[4]) > 2 * max(spans[0], spans[1], spans[3], spans[5])


def test_update_agreement_is_separate_for_each_hyperparameter():
    meta = A2C(choices(), meta=MetaConfig(), seed=0).meta
    for _ in range(50):
        noisy, agreeing = meta.update_agreement(torch.tensor([[1e3, -0.2], [-1e3, -0.2]], dtype=torch.float64))
    assert abs(noisy) < 0.1
    assert agreeing == pytest.approx(-1.0)
    _, agreeing = meta.update_agreement(torch.tensor([[0.0, -1e3]], dtype=torch.float64))
    assert -0.3 < agreeing < -0.2


def test_nonfinite_meta_gradient_is_skipped(monkeypatch):
    agent = A2C(choices(), meta=MetaConfig(window=2), seed=0)
    judge(agent)
    unroll = agent.meta.unroll
    nan = torch.tensor(float("nan"))
    monkeypatch.setattr(
        agent.meta,
        "unroll",
        lambda ratios: (
            {name: param * ratios["half_life"] * nan for name, param in unroll(ratios)[0].items()},
            [],
        ),
    )
    agent.learn(200)
    assert agent.meta.path == []
    assert all(param.isfinite().all() for param in agent.policy.parameters())


def test_adapted_half_life_stays_within_its_bounds():
    bounds = {"half_life_bounds": (50.0, 60.0)}
    agent = A2C(
        choices(), half_life=20, optimizer_kwargs=bounds, meta=MetaConfig(window=1, rate=1.0, adapt=["half_life"])
    )
    seen = []
    agent.learn(2_000, callback=lambda one: seen.append(one.optimizer.half_life))
    assert min(seen) >= 50.0 - 1e-6
    assert max(seen) <= 60.0 + 1e-6
    assert max(seen) > min(seen)


def test_optimizer_reset_begins_a_new_window():
    env = make_vec("CartPole-v1", 4, {"length": Redraw(low=0.3, high=1.0, every=45)}, seed=0)
    agent = A2C(env, n_steps=5, on_change="reset", meta=MetaConfig(window=6), seed=0)
    windows = []
    agent.learn(1_000, callback=lambda one: windows.append(len(one.meta.state_dict()["window"])))
    # A regime lasts 45 env steps, two or three updates of 20, so no window is full.
    assert max(windows) <= 3
    assert agent.meta.path == []


def test_learn_logs_the_adapted_hyperparameters(tmp_path):
    agent = A2C(choices(), meta=MetaConfig(adapt=["learning_rate", "eps"], window=2), seed=0)
    agent.learn(1_000, log_dir=tmp_path, log_interval=5)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = {"loss", "gradient_norm", "agreement/learning_rate", "agreement/eps", "learning_rate", "eps"}
    assert {f"meta/{name}" for name in tags} <= set(events.Tags()["scalars"])
    last = events.Scalars("meta/learning_rate")[-1].value
    assert events.Scalars("train/learning_rate")[-1].value == pytest.approx(last, rel=1e-6)
    assert last != 7e-4
    assert flat_hyperparameters(agent)["meta.window"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"adapt": []}, ["meta.adapt"]),
        ({"adapt": ["eps", "eps"]}, ["meta.adapt", "once"]),
        ({"adapt": ["rho"]}, ["meta.adapt", "learning_rate", "half_life", "eps", "'rho'"]),
        ({"window": 0}, ["meta.window"]),
        ({"num_eval_rollouts": 1.5}, ["meta.num_eval_rollouts"]),
        ({"rate": 0}, ["meta.rate"]),
        ({"fluctuation": -1}, ["meta.fluctuation"]),
        ({"memory_mb": 0}, ["meta.memory_mb"]),
    ],
)
def test_meta_config_value_out_of_range_names_it(arguments, sentence):
    with pytest.raises(ValueError, match=naming(*sentence)):
        MetaConfig(**arguments)


def test_adapted_rate_with_an_estimated_half_life_is_supported():
    agent = A2C(choices(), half_life="auto", meta=MetaConfig(adapt=["learning_rate"], window=2), seed=0).learn(500)
    assert agent.meta.path
    assert isinstance(agent.optimizer, RMSprop)


def test_window_frees_its_graph(monkeypatch):
    seen = []

    def update(*arguments, **options):
        params, states = rmsprop_update(*arguments, **options)
        seen.extend(weakref.ref(param) for param in params.values())
        return params, states

    monkeypatch.setattr(meta, "rmsprop_update", update)
    agent = A2C(choices(), meta=MetaConfig(window=3), seed=0).learn(1_000)
    assert len(agent.meta.path) > 2
    gc.collect()
    assert seen
    assert not any(ref() is not None for ref in seen)
