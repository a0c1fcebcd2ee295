"""PPO beside Stable-Baselines3's, and the parts of its updates."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch

from rl_rms.agents import PPO
from rl_rms.agents.learner import RolloutTotals
from tests.agents.sb3_rollouts import act_on, collected, our_weights, short_episodes


def beside(id, fused, monkeypatch, **options):
    """An agent of each library after the updates on one rollout, with our log of them.

    The rollout has 27 transitions, so a minibatch of 8 leaves a smaller last one.
    """
    options = {
        "n_steps": 9,
        "batch_size": 8,
        "n_epochs": 3,
        "learning_rate": 3e-3,
        "gamma": 0.97,
        "gae_lambda": 0.9,
        "ent_coef": 0.01,
        "vf_coef": 0.4,
        **options,
    }
    with pytest.warns(UserWarning, match="mini-batch"):
        theirs = stable_baselines3.PPO("MlpPolicy", short_episodes(id), seed=0, device="cpu", **options)
    rollout = collected(theirs)
    # Adam with the epsilon of theirs is their optimizer.
    ours = PPO(
        gym.make_vec(id, 3),
        seed=0,
        fused=fused,
        optimizer=torch.optim.Adam,
        optimizer_kwargs={"eps": 1e-5},
        **options,
    )
    ours.policy.load_state_dict(our_weights(theirs))
    backend = ours.make_trainer().backend
    act_on(backend, rollout, ours.generator)

    generator = copy.deepcopy(ours.generator)

    def permutation(num):
        # Their buffer has the transitions of one sub-environment after the other.
        steps, envs = np.divmod(generator.permutation(num), 3)
        return envs * 9 + steps

    totals = RolloutTotals(rollout.env_steps)
    update = ours.learner.update(backend, rollout, None, totals, rollout.env_steps, with_metrics=True)
    with monkeypatch.context() as patched:
        patched.setattr(np.random, "permutation", permutation)
        theirs.train()
    return ours, theirs, {**ours.learner.scalars(rollout.env_steps), **update.metrics}


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"clip_range": 0.01, "clip_range_vf": 0.02}, {"normalize_advantage": False, "max_grad_norm": 0.1}],
)
def test_update_of_whole_rollout_gives_the_weights_and_log_of_stable_baselines3(id, fused, options, monkeypatch):
    ours, theirs, log = beside(id, fused, monkeypatch, **options)
    assert ours.num_updates == 3 * 4
    expected = our_weights(theirs)
    for name, weight in ours.policy.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-6)
    their_log = dict(theirs.logger.name_to_value)
    del their_log["train/n_updates"]  # they count epochs
    their_log.pop("train/std", None)  # they log it after the last step
    for tag in [tag for tag in their_log if tag.startswith("train/")]:
        assert log[tag] == pytest.approx(their_log[tag], rel=1e-3, abs=1e-5), tag


@pytest.mark.parametrize("fused", [True, False])
def test_update_above_target_kl_stops_where_stable_baselines3_stops(fused, monkeypatch):
    ours, theirs, log = beside("CartPole-v1", fused, monkeypatch, target_kl=2e-3)
    assert 1 < ours.num_updates < 12
    expected = our_weights(theirs)
    for name, weight in ours.policy.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-6)
    assert log["train/approx_kl"] == pytest.approx(theirs.logger.name_to_value["train/approx_kl"], rel=1e-3)
