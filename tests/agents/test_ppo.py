import copy
import csv
import math

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents import PPO, PolicyConfig
from rl_rms.agents.rollout import RolloutTotals
from rl_rms.envs import ResilientAsyncVectorEnv
from rl_rms.envs.schedules import Linear
from tests.agents.sb3_rollouts import act_on, collected, our_weights, short_episodes
from tests.naming import naming


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()


def beside(id, fused, monkeypatch, **options):
    """A PPO agent of each library after the updates on one rollout, and the log of rl_rms.

    The rollout has 27 transitions, so the last of the four minibatches has 3 instead of 8.
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
    # Stable-Baselines3's PPO uses Adam with eps=1e-5.
    ours = PPO(
        gym.make_vec(id, 3),
        seed=0,
        fused=fused,
        optimizer=torch.optim.Adam,
        optimizer_kwargs={"eps": 1e-5},
        normalize_observation=False,
        normalize_reward=False,
        **options,
    )
    ours.policy.load_state_dict(our_weights(theirs))
    backend = ours.make_trainer().backend
    act_on(backend, rollout, ours.generator)

    generator = copy.deepcopy(ours.generator)

    def permutation(num):
        # Stable-Baselines3's buffer is ordered by sub-environment.
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
    del their_log["train/n_updates"]  # Stable-Baselines3 counts epochs
    their_log.pop("train/std", None)
    for tag in [tag for tag in their_log if tag.startswith("train/")]:
        assert log[tag] == pytest.approx(their_log[tag], rel=1e-3, abs=1e-5), tag


@pytest.mark.parametrize("fused", [True, False])
def test_update_above_target_kl_stops_where_stable_baselines3_stops(fused, monkeypatch):
    norms, clip = [], torch.nn.utils.clip_grad_norm_

    def noting(*args):
        norms.append(float(clip(*args)))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noting)
    ours, theirs, log = beside("CartPole-v1", fused, monkeypatch, target_kl=2e-3)
    assert 1 < ours.num_updates < 12
    expected = our_weights(theirs)
    for name, weight in ours.policy.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-6)
    assert log["train/approx_kl"] == pytest.approx(theirs.logger.name_to_value["train/approx_kl"], rel=1e-3)
    # PPO takes no optimizer step on the minibatch whose KL divergence is above the limit.
    assert len(norms) == ours.num_updates
    assert log["optim/gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-3)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_updates_on_a_rollout_together_span_its_env_steps(mode, counting):
    env = counting([(3, True), (5, False), (7, True)], mode)
    agent = PPO(env, n_steps=9, batch_size=8, n_epochs=3, half_life="1_000 steps", seed=0)
    decay = []
    agent.optimizer.register_step_post_hook(lambda optimizer, *_: decay.append(optimizer.param_groups[0]["alpha"]))
    agent.learn(60)
    assert np.prod(decay) == pytest.approx(2.0 ** (-agent.num_timesteps / 1_000), rel=1e-9)
    assert len(decay) == agent.num_updates > 20
    assert len({round(one, 9) for one in decay}) > 1
    assert agent.learner.steps_per_update == pytest.approx(8 / 3)
    # optimizer.half_life assumes minibatches of full size.
    assert agent.optimizer.half_life == pytest.approx(1_000 / agent.learner.steps_per_update)
    assert "2.67 env steps per update" in agent.describe_half_life()


def test_steps_per_update_of_a_recurrent_policy_counts_whole_rollouts():
    policy = PolicyConfig(recurrent="gru")
    agent = PPO(gym.make_vec("CartPole-v1", 4), n_steps=16, batch_size=40, n_epochs=4, policy=policy, seed=0)
    assert agent.learner.steps_per_update == 2 * 16 / 4
    assert PPO("CartPole-v1", n_steps=16, n_epochs=4, seed=0).learner.steps_per_update == 16 / 4
    assert PPO(gym.make_vec("CartPole-v1", 4), n_steps=16, n_epochs=4, seed=0).learner.steps_per_update == 64 / 4


@pytest.mark.parametrize(("num_envs", "n_steps"), [(1, 256), (3, 85), (16, 16), (300, 1)])
def test_rollout_without_n_steps_has_256_env_steps(num_envs, n_steps):
    agent = PPO(gym.make_vec("CartPole-v1", num_envs), seed=0).learn(1)
    assert agent.num_timesteps == pytest.approx(num_envs * n_steps, abs=n_steps)
    assert agent.training.num_rollouts == 1


@pytest.mark.parametrize("fused", [True, False])
def test_update_ignores_reset_frames(fused, counting):
    def updated(change):
        agent = PPO(
            counting([(3, True), (4, False)], AutoresetMode.NEXT_STEP),
            n_steps=12,
            batch_size=5,
            n_epochs=2,
            fused=fused,
            seed=0,
        )
        trainer = agent.make_trainer()
        rollout, state = trainer.collect()
        assert not rollout.valid.all()
        if change:
            rollout.rewards[~rollout.valid] = 1e6
            rollout.actions[~rollout.valid] = 1 - rollout.actions[~rollout.valid]
        totals = RolloutTotals(rollout.env_steps)
        agent.learner.update(trainer.backend, rollout, state, totals, 0, with_metrics=True)
        assert agent.num_updates == 2 * math.ceil(rollout.env_steps / 5)
        return weights(agent)

    assert torch.equal(updated(False), updated(True))


class Shelves(gym.Env):
    """An environment with Dict observations and actions of two components, some of which are masked."""

    observation_space = gym.spaces.Dict({"at": gym.spaces.Discrete(4), "load": gym.spaces.Box(0, 9, (2,))})
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.draw(), {"action_mask": self.mask()}

    def draw(self):
        self.at = int(self.np_random.integers(4))
        return {"at": self.at, "load": self.np_random.uniform(0, 9, 2).astype(np.float32)}

    def mask(self):
        return np.array([1, self.at > 1, 1, 1, self.at < 3], np.int8)

    def step(self, action):
        assert self.mask()[:3][action[0]]
        assert self.mask()[3:][action[1]]
        reward = float(action[0] == 2 * (self.at % 2))
        return self.draw(), reward, bool(self.np_random.random() < 0.1), False, {"action_mask": self.mask()}


@pytest.mark.parametrize(
    ("mode", "recurrent"),
    [(AutoresetMode.NEXT_STEP, "none"), (AutoresetMode.SAME_STEP, "lstm"), (AutoresetMode.DISABLED, "none")],
)
def test_training_with_masks_dictionaries_and_two_choices_learns(mode, recurrent):
    env = ResilientAsyncVectorEnv([Shelves] * 4, autoreset_mode=mode)
    policy = PolicyConfig(hidden_sizes=(16,), recurrent=recurrent, recurrent_size=16)
    agent = PPO(
        env,
        n_steps=32,
        batch_size=64,
        n_epochs=4,
        learning_rate=1e-2,
        gamma=0.0,
        mask_actions=True,
        normalize_observation=True,
        policy=policy,
        seed=0,
    ).learn(1_500)
    env.close()
    returns = np.array([(episode.ret, episode.length) for episode in agent.episodes]).sum(0)
    # Random valid actions get 0.42 per step.
    assert returns[0] / returns[1] > 0.8


def test_log_has_the_current_clip_ranges(tmp_path):
    agent = PPO(
        "CartPole-v1",
        n_steps=50,
        n_epochs=2,
        clip_range=Linear(start=0.2, end=0.0, over=200),
        clip_range_vf=0.3,
        seed=0,
    )
    agent.learn(200, log_dir=tmp_path, log_interval=2)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + agent.training.num_rollouts // 2 + agent.training.num_rollouts % 2
    for row in rows:
        expected = max(0.2 * (1 - float(row["time/total_timesteps"]) / 200), 0.0)
        assert float(row["train/clip_range"]) == pytest.approx(expected, abs=1e-6)
        assert float(row["train/clip_range_vf"]) == pytest.approx(0.3)
        assert float(row["train/approx_kl"]) >= 0.0
    assert float(rows[-1]["train/n_updates"]) == agent.num_updates > agent.training.num_rollouts


def test_nonfinite_gradients_of_one_minibatch_skip_only_its_update(counting):
    agent = PPO(counting([(9, True)]), n_steps=8, batch_size=3, n_epochs=1, on_nonfinite="skip", seed=0)
    backend, calls = agent.make_trainer().backend, []
    rollout, state = agent.make_trainer().collect()
    act_on(backend, rollout, agent.generator)
    gradients = backend.clipped_gradients

    def spoiled(minibatch, *, with_metrics):
        metrics = gradients(minibatch, with_metrics=with_metrics)
        calls.append(len(minibatch.rows))
        if len(calls) == 2:
            next(agent.policy.parameters()).grad.fill_(float("nan"))
        return metrics

    backend.clipped_gradients = spoiled
    totals = RolloutTotals(rollout.env_steps)
    update = agent.learner.update(backend, rollout, state, totals, 0, with_metrics=False)
    assert calls == [3, 3, 2]
    assert update.num_nonfinite == 1
    assert weights(agent).isfinite().all()


def test_batch_norm_takes_a_last_minibatch_of_one_transition():
    policy = PolicyConfig(norm="batch")
    agent = PPO(gym.make_vec("CartPole-v1", 3), n_steps=3, batch_size=4, n_epochs=2, policy=policy, seed=0)
    agent.learn(9)
    assert agent.num_updates == 2 * 3
    with pytest.raises(ValueError, match=naming("norm", "batch_size")):
        PPO("CartPole-v1", batch_size=1, normalize_advantage=False, policy=policy)


def test_ppo_learns_cartpole():
    agent = PPO(gym.make_vec("CartPole-v1", 8), seed=0).learn(15_000)
    # A random policy has a mean return of about 22. Training runs with the seeds 0, 1 and 2 had the
    # mean returns 151, 163 and 192.
    assert np.mean([episode.ret for episode in agent.episodes]) > 120


def test_ppo_learns_pendulum():
    env = gym.make_vec("Pendulum-v1", 8)
    options = {"n_steps": 128, "batch_size": 128, "n_epochs": 10, "gamma": 0.9, "learning_rate": 2e-3}
    agent = PPO(env, seed=0, **options).learn(40_000)
    # A random policy has a mean return of about -1,200. Training runs with the seeds 0, 1 and 2 had the
    # mean returns -482, -527 and -317.
    assert np.mean([episode.ret for episode in agent.episodes]) > -700
