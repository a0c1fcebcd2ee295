"""PPO's clipped loss equals hand-computed values."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents import ActorCriticPolicy, PolicyConfig
from rl_rms.agents.clipped_loss import Minibatch, clipped_loss, evaluate
from rl_rms.agents.distributions import Categorical
from rl_rms.agents.losses import Batch, LossCoefficients
from rl_rms.agents.workers import ALONE


class Fixed(torch.nn.Module):
    """A policy with probability 1/2 for each action and the value ``2 * observation``."""

    def __init__(self):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(0.0))
        self.slope = torch.nn.Parameter(torch.tensor(2.0))

    def actor(self, observations):
        zeros = torch.zeros(len(observations))
        return Categorical(torch.stack([zeros, zeros + self.logit], 1))

    def critic(self, observations):
        return self.slope * observations[:, 0]


def batch_of(rollout, state=None, **changed):
    given = {"gamma": 0.5, "gae_lambda": 1.0, "ent_coef": 0.0, "vf_coef": 0.5, "normalize_advantage": False}
    return Batch(rollout, rollout.valid, LossCoefficients(**{**given, **changed}), state)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_evaluate_gives_log_probs_values_and_returns_in_every_autoreset_mode(counting, rollout_of, mode):
    # The rewards are 10 and 20, and the final observation 2 has the value 4. Then a new episode begins.
    steps = 4 if mode is AutoresetMode.NEXT_STEP else 3
    batch = batch_of(rollout_of(counting([(2, True)], mode), steps, action=1))
    played = evaluate(Fixed(), batch)
    rows = np.flatnonzero(batch.loss_mask)
    returns = np.array([10 + 0.5 * (20 + 0.5 * 4), 20 + 0.5 * 4, 10 + 0.5 * 2])
    assert played.values[rows] == pytest.approx([0.0, 2.0, 0.0])
    assert played.returns[rows] == pytest.approx(returns)
    assert played.advantages[rows] == pytest.approx(returns - [0.0, 2.0, 0.0])
    assert played.log_probs[rows] == pytest.approx(np.log(0.5))


def minibatch_of(rollout, ratios, advantages, **changed):
    """A minibatch of all transitions of a rollout. Each action had the probability ``1 / (2 * ratio)``."""
    clip_range, clip_range_vf = changed.pop("clip_range", 0.2), changed.pop("clip_range_vf", None)
    values = changed.pop("values", [0.0] * len(ratios))
    batch = batch_of(rollout, **changed)
    floats = [np.array(one, np.float32) for one in (values, np.log(0.5 / np.array(ratios)), advantages)]
    rows = np.arange(len(ratios))
    returns = np.array([5.0, 1.0, 1.0, 2.0], np.float32)[: len(ratios)]
    return Minibatch(batch, rows, *floats, returns, clip_range, clip_range_vf)


def test_clipped_loss_takes_the_smaller_surrogate(counting, rollout_of):
    rollout = rollout_of(counting([(9, True)]), 4, action=1)
    minibatch = minibatch_of(rollout, [1.5, 0.5, 1.5, 0.5], [1.0, 1.0, -1.0, -1.0], ent_coef=0.1)
    policy = Fixed()
    loss, metrics = clipped_loss(policy, minibatch)
    policy_loss = -(1.2 + 0.5 - 1.5 - 0.8) / 4
    value_loss = ((5 - 0) ** 2 + (1 - 2) ** 2 + (1 - 4) ** 2 + (2 - 6) ** 2) / 4
    found = {name: metric.item() for name, metric in metrics.items()}
    kl = np.mean([ratio - 1 - np.log(ratio) for ratio in (1.5, 0.5, 1.5, 0.5)])
    assert found == pytest.approx(
        {
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": -np.log(2),
            "train/loss": policy_loss + 0.5 * value_loss - 0.1 * np.log(2),
            "train/approx_kl": kl,
            "train/clip_fraction": 1.0,
        },
        rel=1e-5,
    )
    loss.backward()
    # The first and the last surrogate are clipped, so they have no gradient. The second and the third have the
    # gradient ratio * advantage * d log_prob.
    assert policy.logit.grad.item() == pytest.approx(-(0.5 * 1.0 - 1.5 * 1.0) * 0.5 / 4, rel=1e-5)


def test_clipped_loss_clips_the_change_of_the_values(counting, rollout_of):
    rollout = rollout_of(counting([(9, True)]), 3, action=1)
    policy = Fixed()
    minibatch = minibatch_of(rollout, [1.0] * 3, [0.0] * 3, clip_range_vf=0.5, values=[0.2, 0.0, 3.8])
    loss, metrics = clipped_loss(policy, minibatch)
    # The new values are 0, 2 and 4, and the old values 0.2, 0 and 3.8. The change from 0 to 2 is clipped to 0.5.
    assert metrics["train/value_loss"].item() == pytest.approx((5**2 + 0.5**2 + 3**2) / 3)
    loss.backward()
    assert policy.slope.grad.item() == pytest.approx(0.5 * 2 * 3 * 2 / 3)


def test_minibatch_standardizes_only_its_own_advantages(counting, rollout_of):
    rollout = rollout_of(counting([(9, True)]), 6, action=1)
    batch = batch_of(rollout, normalize_advantage=True)
    played = evaluate(Fixed(), batch)
    minibatch = Minibatch.of(batch, played, np.array([4, 1, 2]), 0.2, None, ALONE)
    assert minibatch.advantages.mean() == pytest.approx(0.0, abs=1e-6)
    assert minibatch.advantages.std(ddof=1) == pytest.approx(1.0, rel=1e-5)
    single = Minibatch.of(batch, played, np.array([4]), 0.2, None, ALONE)
    assert single.advantages == pytest.approx(played.advantages[4:5])


@pytest.mark.parametrize("recurrent", ["gru", "lstm"])
def test_clipped_loss_recurrent_policy_resets_at_episode_starts(recurrent, counting, rollout_of):
    env = counting([(3, True), (9, True), (4, False)])
    rollout = rollout_of(env, 8, action=1)
    starts = rollout.starts.copy()
    starts[0] = False
    rollout = dataclasses.replace(rollout, starts=starts)
    torch.manual_seed(0)
    policy = ActorCriticPolicy(
        env.single_observation_space,
        env.single_action_space,
        PolicyConfig(recurrent=recurrent, recurrent_size=4, hidden_sizes=()),
    )
    state = torch.randn(3, policy.state_size)
    batch = batch_of(rollout, state)
    played = evaluate(policy, batch)
    rows = np.flatnonzero(batch.loss_mask & np.array([True, False, True]))
    minibatch = Minibatch.of(batch, played, rows, 0.2, None, ALONE)
    # The weights have not changed, so all ratios are 1, and the new values equal the old values.
    _, metrics = clipped_loss(policy, minibatch)
    assert metrics["train/approx_kl"].item() == pytest.approx(0.0, abs=1e-6)
    errors = played.values[rows] - played.returns[rows]
    assert metrics["train/value_loss"].item() == pytest.approx(np.square(errors).mean(), rel=1e-5)
    other = dataclasses.replace(minibatch, batch=dataclasses.replace(batch, state=state + 1.0))
    _, changed = clipped_loss(policy, other)
    assert changed["train/value_loss"].item() != pytest.approx(metrics["train/value_loss"].item(), rel=1e-5)
