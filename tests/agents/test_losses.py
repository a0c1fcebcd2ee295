import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents import A2C, ActorCriticPolicy, PolicyConfig
from rl_rms.agents.losses import Batch, LossCoefficients, actor_critic_loss, targets


def batch_of(rollout, state=None, **changed):
    """A batch of all transitions of a rollout, with default coefficients except for ``changed``."""
    given = {"gamma": 0.99, "gae_lambda": 1.0, "ent_coef": 0.0, "vf_coef": 0.5, "normalize_advantage": False}
    return Batch(rollout, rollout.valid, LossCoefficients(**{**given, **changed}), state)


class Fixed(torch.nn.Module):
    """A policy with a fixed log-odds of action 1 and values proportional to the observed count."""

    def __init__(self, log_odds=0.4, slope=2.0):
        super().__init__()
        self.log_odds = torch.nn.Parameter(torch.tensor(log_odds))
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def actor(self, observations):
        from rl_rms.agents.distributions import Categorical

        return Categorical(
            torch.stack([torch.zeros(len(observations)), self.log_odds.expand(len(observations))], 1)
        )

    def critic(self, observations):
        return self.slope * observations[:, 0]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a2c_loss_in_every_autoreset_mode_equals_hand_computed_values(counting, rollout_of, mode):
    # The rewards are 10 and 20, and the final observation 2 has the value 4. Then a new episode begins. The reset
    # frame of next-step autoreset must not count.
    steps = 4 if mode is AutoresetMode.NEXT_STEP else 3
    rollout = rollout_of(counting([(2, True)], mode), steps, action=1)
    loss, metrics = actor_critic_loss(Fixed(), batch_of(rollout, gamma=0.5, ent_coef=0.1))

    returns = np.array([10 + 0.5 * (20 + 0.5 * 4), 20 + 0.5 * 4, 10 + 0.5 * 2])
    values = np.array([0.0, 2.0, 0.0])
    p = 1 / (1 + np.exp(-0.4))
    policy_loss = -np.mean(returns - values) * np.log(p)
    value_loss = np.mean((returns - values) ** 2)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert metrics["train/policy_gradient_loss"] == pytest.approx(policy_loss, rel=1e-5)
    assert metrics["train/value_loss"] == pytest.approx(value_loss, rel=1e-5)
    assert metrics["train/entropy_loss"] == pytest.approx(-entropy, rel=1e-5)
    assert loss.item() == pytest.approx(policy_loss + 0.5 * value_loss - 0.1 * entropy, rel=1e-5)


def test_a2c_loss_terminated_episode_bootstraps_from_zero(counting, rollout_of):
    rollout = rollout_of(counting([(2, False)]), 2, action=1)
    _, metrics = actor_critic_loss(Fixed(), batch_of(rollout, gamma=0.5))
    errors = np.array([10 + 0.5 * 20 - 0, 20 - 2])
    assert metrics["train/value_loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)


def test_a2c_loss_advantages_have_no_gradient(counting, rollout_of):
    rollout = rollout_of(counting([(9, True)]), 3, action=1)
    policy = Fixed()
    loss, _ = actor_critic_loss(policy, batch_of(rollout, vf_coef=0.0))
    loss.backward()
    assert policy.slope.grad is None or policy.slope.grad.item() == 0.0
    assert policy.log_odds.grad.item() != 0.0


def test_normalized_advantages_have_mean_zero_and_deviation_one(counting, rollout_of):
    rollout = rollout_of(counting([(9, True), (3, False)]), 6, action=1)
    _, metrics = actor_critic_loss(Fixed(), batch_of(rollout, normalize_advantage=True))
    assert metrics["train/policy_gradient_loss"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_normalized_advantages_of_equal_returns_are_zero(counting, rollout_of, shift):
    rollout = rollout_of(counting([(90, True)]), 70, action=1)
    # Differences of one rounding error of float32 count as equal.
    noise = np.random.default_rng(0).choice([-1, 0, 1], rollout.rewards.shape) * np.spacing(np.float32(shift))
    equal = dataclasses.replace(rollout, rewards=np.full_like(rollout.rewards, 0.1 + shift) + noise.astype("f4"))
    policy = Fixed()
    loss, metrics = actor_critic_loss(policy, batch_of(equal, gamma=0.0, baseline=False, normalize_advantage=True))
    loss.backward()
    assert metrics["train/policy_gradient_loss"] == 0.0
    assert policy.log_odds.grad.item() == 0.0


def test_normalized_advantages_of_a_small_spread_have_deviation_one(counting, rollout_of):
    rollout = rollout_of(counting([(90, True)]), 70, action=1)
    rewards = np.full_like(rollout.rewards, 1.0)
    rewards[::2] += 1e-4
    changed = dataclasses.replace(rollout, rewards=rewards)
    found = targets(batch_of(changed, gamma=0.0, baseline=False, normalize_advantage=True), None, None)
    assert found[0].std(ddof=1) == pytest.approx(1.0, rel=1e-3)


def test_reinforce_loss_without_baseline_uses_returns_and_no_critic(counting, rollout_of):
    rollout = rollout_of(counting([(2, False)]), 2, action=1)
    policy = Fixed()
    loss, metrics = actor_critic_loss(policy, batch_of(rollout, gamma=0.5, baseline=False))
    loss.backward()
    assert policy.slope.grad is None
    p = 1 / (1 + np.exp(-0.4))
    assert metrics["train/policy_gradient_loss"] == pytest.approx(-np.mean([20.0, 20.0]) * np.log(p), rel=1e-5)


def test_loss_metrics_of_a_gaussian_policy_have_the_standard_deviation(target, rollout_of):
    rollout = rollout_of(target(2), 2, action=0.25)
    policy = ActorCriticPolicy(target(1).single_observation_space, target(1).single_action_space)
    _, metrics = actor_critic_loss(policy, batch_of(rollout))
    assert metrics["train/std"] == pytest.approx(1.0)


def test_batch_norm_of_a_shared_trunk_has_the_mean_of_the_observations_with_an_action(counting, rollout_of):
    # The observations are 0 1 2. No action follows the last observation.
    env = counting([(9, True)])
    rollout = rollout_of(env, 2, action=1)
    config = PolicyConfig(hidden_sizes=(1,), shared_trunk=True, norm="batch")
    policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, config).train()
    linear, norm, _ = policy.trunk
    torch.nn.init.ones_(linear.weight)
    actor_critic_loss(policy, batch_of(rollout))
    assert norm.running_mean.item() == pytest.approx(norm.momentum * 0.5)
    assert policy.training


class Tally(torch.nn.Module):
    """A recurrent policy that sums the observations of an episode, with values proportional to the sum."""

    state_size = 1

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(1.0))

    def encode(self, observations):
        return observations

    def remember(self, features, state, start):
        state = state.masked_fill(start.unsqueeze(-1), 0.0) + features
        return state, state

    def actor(self, features):
        from rl_rms.agents.distributions import Categorical

        return Categorical(torch.stack([torch.zeros(len(features)), self.slope.expand(len(features))], 1))

    def critic(self, features):
        return self.slope * features[:, 0]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_recurrent_loss_resets_the_state_and_values_final_observations(counting, mode):
    # The observations are 0 1 2 | 0 1 and the states 0 1 3 | 0 1. The state 3 belongs to the final observation.
    agent = A2C(counting([(2, True)], mode), policy=Tally(), n_steps=1, seed=0)
    trainer, collector = agent.make_trainer(), agent.session.collector
    trainer.start()
    steps = 4 if mode is AutoresetMode.NEXT_STEP else 3
    act = partial(agent.actor.act, trainer.backend)
    rollout = collector.collect(act, lambda num_steps, _: num_steps == steps)
    _, metrics = actor_critic_loss(agent.policy, batch_of(rollout, torch.zeros(1, 1), gamma=0.5))
    values = np.array([0.0, 1.0, 0.0])
    returns = np.array([10 + 0.5 * (20 + 0.5 * 3), 20 + 0.5 * 3, 10 + 0.5 * 1])
    assert metrics["train/value_loss"] == pytest.approx(np.mean((returns - values) ** 2), rel=1e-5)
    assert agent.actor.state.item() == 0.0


def test_recurrent_rollout_continues_the_state_of_the_last_one(counting):
    agent = A2C(counting([(9, True)]), policy=Tally(), n_steps=3, normalize_observation=False, seed=0)
    agent.learn(3)
    assert agent.actor.state.item() == sum(range(3))
    _, state = agent.make_trainer().collect()
    assert state.item() == sum(range(3))
    assert agent.actor.state.item() == sum(range(6))
