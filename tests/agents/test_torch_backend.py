import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_rms.agents import A2C, PPO, PolicyConfig, Reinforce
from rl_rms.agents.rollout import RolloutTotals
from tests.agents.counted_gpu import CountedGpu

READ, COPY = "aten._local_scalar_dense.default", "copy to the CPU"
GRU, LSTM = PolicyConfig(recurrent="gru"), PolicyConfig(recurrent="lstm")
PPO_OPTIONS = {"n_steps": 8, "n_epochs": 2, "batch_size": 16}


class Masked(gym.Env):
    """Dict observations with a mask of the valid actions."""

    observation_space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (3, 3, 3), np.uint8),
        number=gym.spaces.Discrete(3),
        action_mask=gym.spaces.MultiBinary(3),
    )
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        return self._observation(), float(action), self.np_random.random() < 0.2, False, {}

    def _observation(self):
        return {
            "image": self.np_random.integers(0, 256, (3, 3, 3), dtype=np.uint8),
            "number": self.np_random.integers(3),
            "action_mask": np.array([1, 1, self.np_random.integers(2)], np.int8),
        }


def agent_of(algorithm, env="CartPole-v1", *, mode=AutoresetMode.NEXT_STEP, length=None, **options):
    make = Masked if env is Masked else lambda: gym.make(env, max_episode_steps=length)
    envs = SyncVectorEnv([make] * 4, autoreset_mode=mode)
    return algorithm(envs, seed=0, mask_actions=env is Masked, **options)


def update(agent, gpu, *, with_metrics=False):
    """Make an update with the agent's next rollout, and count only the transfers and waits of the update."""
    trainer = agent.make_trainer()
    rollout, state = trainer.collect()
    gpu.restart()
    totals = RolloutTotals(rollout.env_steps)
    agent.learner.update(trainer.backend, rollout, state, totals, 0, with_metrics=with_metrics)
    return rollout


@pytest.mark.parametrize(
    ("algorithm", "options", "uploads"),
    [
        # Uploads: observations, actions, rows of the loss, and advantages with the critic's targets.
        (A2C, {}, 4),
        (Reinforce, {}, 4),
        (Reinforce, {"baseline": False}, 4),
        (A2C, {"optimizer": torch.optim.Adam}, 4),
        # One more upload: the final observations of truncated episodes.
        (A2C, {"mode": AutoresetMode.SAME_STEP, "length": 3}, 5),
        # One more upload: the starts of episodes.
        (A2C, {"policy": GRU}, 5),
        # Uploads: three parts of the observation and the mask, instead of one array of observations.
        (A2C, {"env": Masked}, 7),
        (Reinforce, {"env": Masked, "policy": LSTM}, 8),
        # One more upload: the nodes of the quadrature that computes the entropy.
        (A2C, {"env": "Pendulum-v1", "policy": PolicyConfig(squash_actions=True)}, 5),
    ],
)
@pytest.mark.parametrize("with_metrics", [False, True])
def test_update_on_a_gpu_copies_each_array_once_and_waits_for_values_metrics_and_norm(
    algorithm, options, uploads, with_metrics
):
    with CountedGpu() as gpu:
        agent = agent_of(algorithm, device="cuda", **options)
        rollout = update(agent, gpu, with_metrics=with_metrics)
        assert len(gpu.uploads) == uploads
        values = [] if options.get("baseline") is False else [COPY]
        assert gpu.waits == [*values, *([COPY] if with_metrics else []), READ]
        if "mode" in options:
            assert len(rollout.final_index) > 0


@pytest.mark.parametrize(
    ("options", "uploads", "per_minibatch"),
    [
        # Uploads of a rollout: observations and actions. Uploads of a minibatch: rows, and one array with old
        # values, old log-probabilities, advantages and returns.
        ({}, 2, 2),
        # More uploads: for a rollout, episode starts; for a minibatch, its sub-environments and their rows.
        ({"policy": GRU}, 3, 4),
        ({"env": Masked}, 5, 2),
        ({"env": Masked, "policy": LSTM}, 6, 4),
    ],
)
@pytest.mark.parametrize("with_metrics", [False, True])
def test_ppo_update_on_a_gpu_copies_observations_once_and_waits_once_per_minibatch(
    options, uploads, per_minibatch, with_metrics
):
    with CountedGpu() as gpu:
        agent = agent_of(PPO, device="cuda", **PPO_OPTIONS, **options)
        update(agent, gpu, with_metrics=with_metrics)
        num = agent.learner.num_updates
        assert num == 4
        assert len(gpu.uploads) == uploads + per_minibatch * num
        assert gpu.waits == [COPY, COPY, *[READ] * num, *([COPY] if with_metrics else [])]


def test_ppo_update_with_target_kl_waits_for_the_divergence_of_each_minibatch():
    with CountedGpu() as gpu:
        agent = agent_of(PPO, device="cuda", **PPO_OPTIONS, target_kl=100.0)
        update(agent, gpu)
        assert gpu.waits == [COPY, COPY, *[READ, READ] * agent.learner.num_updates]


@pytest.mark.parametrize("options", [{}, {"policy": GRU}, {"env": Masked}, {"env": "Pendulum-v1"}])
def test_rollout_on_a_gpu_waits_only_for_the_actions(options):
    with CountedGpu() as gpu:
        trainer = agent_of(A2C, device="cuda", **options).make_trainer()
        gpu.restart()
        rollout, _ = trainer.collect()
        assert gpu.waits == [COPY] * len(rollout.rewards)


@pytest.mark.parametrize(("algorithm", "settings"), [(A2C, {}), (PPO, PPO_OPTIONS), (Reinforce, {})])
@pytest.mark.parametrize(
    "options",
    [{}, {"policy": LSTM}, {"env": Masked}, {"mode": AutoresetMode.SAME_STEP, "length": 5}],
)
def test_training_on_a_gpu_equals_training_on_the_cpu(algorithm, settings, options):
    # With these options, both devices take the optimizer's step with the same kernel.
    kernel = {"fused": False, "foreach": False}

    def trained(device):
        agent = agent_of(
            algorithm, device=device, fused=False, optimizer_kwargs=kernel, **settings, **options
        ).learn(64)
        assert agent.num_updates > 0
        return torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().cpu()

    on_cpu = trained("cpu")
    with CountedGpu() as gpu:
        on_gpu = trained("cuda")
        assert gpu.uploads
    assert torch.equal(on_gpu, on_cpu)
