"""A2C has the gradients of Stable-Baselines3 for the same rollout and weights."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_rms.agents import A2C
from rl_rms.agents.numpy_backend import NumpyBackend
from rl_rms.agents.rollout import Rollout
from rl_rms.agents.torch_backend import TorchBackend

NAMES = {
    "mlp_extractor.policy_net": "actor_network",
    "mlp_extractor.value_net": "critic_network",
    "action_net": "actor_network.4",
    "value_net": "critic_network.4",
}


def our_name(name):
    """The rl_rms name of a Stable-Baselines3 parameter."""
    part = next(one for one in NAMES if name.startswith(one)) if name != "log_std" else name
    return NAMES.get(part, part) + name[len(part) :]


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("fused", [True, False])
def test_a2c_gradients_equal_those_of_stable_baselines3(id, fused):
    # A time limit truncates episodes after four steps. On CartPole, random actions terminate some earlier.
    env = DummyVecEnv([lambda: gym.make(id, max_episode_steps=4)] * 3)
    options = {"n_steps": 9, "gamma": 0.97, "gae_lambda": 0.9, "ent_coef": 0.01, "vf_coef": 0.4}
    theirs = stable_baselines3.A2C("MlpPolicy", env, seed=0, device="cpu", max_grad_norm=1e9, **options)
    finals = {}

    # Final observations, which the rollout buffer of Stable-Baselines3 does not keep.
    step_wait = env.step_wait
    count = 0

    def watched():
        nonlocal count
        observations, rewards, dones, infos = step_wait()
        for i in np.flatnonzero(dones):
            finals[count, int(i)] = infos[i]["terminal_observation"], infos[i]["TimeLimit.truncated"], rewards[i]
        count += 1
        return observations, rewards, dones, infos

    env.step_wait = watched
    # Stable-Baselines3 has no public name for the set-up and the last observations of a rollout.
    _, callback = theirs._setup_learn(1, None)
    theirs.collect_rollouts(env, callback, theirs.rollout_buffer, 9)
    buffer = theirs.rollout_buffer

    rewards, terminated, truncated = buffer.rewards.copy(), np.zeros((9, 3), bool), np.zeros((9, 3), bool)
    for (t, i), (_, cut, reward) in finals.items():
        rewards[t, i] = reward  # before Stable-Baselines3 added the value of the final observation
        (truncated if cut else terminated)[t, i] = True
    cut_off = [key for key, (_, cut, _) in finals.items() if cut]
    assert cut_off
    actions = buffer.actions.reshape(9, 3, *env.action_space.shape)
    rollout = Rollout(
        observations=np.concatenate((buffer.observations, theirs._last_obs[None])),
        actions=actions.astype(env.action_space.dtype),
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        valid=np.ones((9, 3), bool),
        starts=np.concatenate((buffer.episode_starts, theirs._last_episode_starts[None])).astype(bool),
        action_masks=None,
        final_index=np.array(cut_off),
        final_observations=np.stack([finals[key][0] for key in cut_off]),
        episodes=[],
    )

    ours = A2C(gym.make_vec(id, 3), seed=0, fused=fused, **options)
    weights = {our_name(name): param.detach().clone() for name, param in theirs.policy.named_parameters()}
    ours.policy.load_state_dict(weights)
    backend = ours.make_trainer().backend
    assert isinstance(backend, NumpyBackend if fused else TorchBackend)
    # The numpy backend reuses the activations of acting.
    for t in range(9):
        backend.act(t, rollout.observations[t], rollout.starts[t], None, None, ours.generator)
    backend.gradients(ours.learner.batch(rollout, None, 0), with_metrics=False)

    theirs.train()
    expected = {our_name(name): param.grad for name, param in theirs.policy.named_parameters()}
    for name, param in ours.policy.named_parameters():
        torch.testing.assert_close(param.grad, expected[name], rtol=1e-4, atol=1e-5)
