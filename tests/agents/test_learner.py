import csv
import dataclasses
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents import A2C, Reinforce
from rl_rms.agents.losses import actor_critic_loss
from rl_rms.agents.rollout import Episode, RolloutTotals
from rl_rms.agents.workers import Workers


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


def update(agent, totals=None):
    """Make an update with the agent's next rollout; return the result and the rollout."""
    trainer = agent.make_trainer()
    rollout, state = trainer.collect()
    totals = totals or RolloutTotals(rollout.env_steps)
    result = agent.learner.update(trainer.backend, rollout, state, totals, 0, with_metrics=True)
    return result, rollout


@pytest.mark.parametrize("fused", [True, False])
def test_update_takes_one_step_down_the_gradient_of_the_loss(fused):
    agent = A2C(
        gym.make_vec("CartPole-v1", 3),
        optimizer=torch.optim.SGD,
        learning_rate=0.1,
        max_grad_norm=None,
        normalize_reward=False,
        fused=fused,
        seed=0,
    )
    before = weights(agent)
    trainer = agent.make_trainer()
    rollout, state = trainer.collect()
    loss, metrics = actor_critic_loss(agent.policy, agent.learner.batch(rollout, state, 0))
    gradient = torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(agent.policy.parameters()))])
    result = agent.learner.update(
        trainer.backend, rollout, state, RolloutTotals(rollout.env_steps), 0, with_metrics=True
    )
    torch.testing.assert_close(weights(agent), before - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    assert agent.learner.num_updates == 1
    assert result.num_nonfinite == 0
    assert result.metrics["train/policy_gradient_loss"] == pytest.approx(
        metrics["train/policy_gradient_loss"], rel=1e-4, abs=1e-6
    )


def test_update_without_data_takes_no_step_but_counts_the_observations():
    agent = A2C(gym.make_vec("CartPole-v1", 2), normalize_observation=True, seed=0)
    before = weights(agent)
    result, rollout = update(agent, RolloutTotals(10, has_data=False))
    assert torch.equal(weights(agent), before)
    assert agent.learner.num_updates == 0
    assert result.metrics == {}
    assert agent.observation_normalizer.state_dict()["parts"][0]["weight"] == rollout.env_steps


def test_update_sets_steps_per_update_over_all_workers():
    agent = A2C(gym.make_vec("CartPole-v1", 2), half_life="4_000 steps", seed=0)
    update(agent, RolloutTotals(400))
    assert agent.optimizer.half_life == pytest.approx(10)


def test_batch_has_the_normalizers_statistics_before_the_rollout(counting):
    agent = A2C(counting([(9, True)]), n_steps=4, normalize_observation=True, normalize_reward=True, seed=0)
    update(agent)
    rollout, state = agent.make_trainer().collect()
    expected = agent.observation_normalizer(rollout.observations)
    batch = agent.learner.batch(rollout, state, 0)
    np.testing.assert_array_equal(batch.rollout.observations, expected)
    assert not np.array_equal(batch.rollout.rewards, rollout.rewards)


def test_copied_batch_stays_when_the_collector_reuses_its_arrays(counting):
    agent = A2C(counting([(9, True)]), n_steps=3, normalize_observation=False, seed=0)
    trainer = agent.make_trainer()
    rollout, state = trainer.collect()
    batch = agent.learner.batch(rollout, state, 0)
    kept, before = batch.copied(), batch.rollout.observations.copy()
    trainer.collect()
    np.testing.assert_array_equal(kept.rollout.observations, before)
    assert not np.array_equal(batch.rollout.observations, before)


def test_a2c_rollout_has_n_steps_and_its_loss_omits_reset_frames(counting):
    agent = A2C(counting([(2, True)], AutoresetMode.NEXT_STEP), n_steps=4, seed=0)
    assert [agent.learner.rollout_done(steps, []) for steps in (3, 4)] == [False, True]
    rollout, _ = agent.make_trainer().collect()
    assert agent.learner.loss_mask(rollout)[:, 0].tolist() == [True, True, False, True]


def test_reinforce_rollout_is_done_when_every_sub_environment_has_its_episodes():
    learner = Reinforce(gym.make_vec("CartPole-v1", 2), episodes_per_env=2, seed=0).learner
    first, second = (Episode(1.0, 1, env_index, 1) for env_index in (0, 1))
    assert not learner.rollout_done(9, [first] * 5 + [second])
    assert learner.rollout_done(9, [first] * 2 + [second] * 2)


def test_steps_per_update_counts_all_workers():
    agent = A2C(gym.make_vec("CartPole-v1", 2), n_steps=5, seed=0)
    assert agent.learner.steps_per_update == 10
    assert agent.join(Workers(0, 3)).learner.steps_per_update == 30
    assert Reinforce("CartPole-v1", seed=0).learner.steps_per_update is None


def test_load_state_dict_of_another_policy_keeps_the_weights():
    agent = A2C("CartPole-v1", seed=0)
    before = weights(agent)
    state = A2C("CartPole-v1", seed=1).learner.state_dict()
    state["policy"] = {name: weight[..., :1] for name, weight in state["policy"].items()}
    with pytest.raises(ValueError, match="policy"):
        agent.learner.load_state_dict(state)
    assert torch.equal(weights(agent), before)


def test_coefficients_follow_the_schedule_of_the_entropy_bonus():
    schedule = {"linear": {"start": 0.2, "end": 0.0, "over": 100}}
    learner = A2C("CartPole-v1", ent_coef=schedule, gae_lambda=0.9, vf_coef=0.7, seed=0).learner
    found = dataclasses.asdict(learner.coefficients(50))
    assert found["ent_coef"] == pytest.approx(0.1)
    assert (found["gae_lambda"], found["vf_coef"], found["baseline"]) == (0.9, 0.7, True)


@pytest.mark.parametrize("options", [{"normalize_reward": 20}, {"normalize_observation": "20 updates"}])
def test_learn_rollout_of_reset_frames_only_keeps_the_statistics(options):
    def moments(agent):
        one = agent.reward_normalizer if "normalize_reward" in options else agent.observation_normalizer
        return one.state_dict()

    # With one step in a rollout, the rollout after the end of an episode contains only the reset frame.
    agent = A2C("CartPole-v1", n_steps=1, seed=0, **options)
    kept = []

    def keep(trained):
        kept.append((trained.num_timesteps, repr(moments(trained))))

    agent.learn(200, keep)
    repeated = [(one, other) for one, other in pairwise(kept) if one[0] == other[0]]
    assert repeated
    assert all(one == other for one, other in repeated)


def test_loaded_agent_rollout_of_reset_frames_only_logs_no_half_life(tmp_path):
    agent = A2C("CartPole-v1", n_steps=1, normalize_reward=20, seed=0)
    agent.learn(200, lambda trained: not trained.new_episodes)
    agent.save(tmp_path / "agent")
    loaded = A2C.load(tmp_path / "agent", env="CartPole-v1")
    loaded.learn(1, log_dir=tmp_path / "log", log_interval=1)
    assert loaded.num_timesteps == agent.num_timesteps + 1
    with open(tmp_path / "log" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["half_life/reward"] == "20.0"
    assert not rows[0].get("half_life/reward")
