"""For the same rollout and weights, A2C's gradients equal the gradients of Stable-Baselines3's A2C."""

import gymnasium as gym
import pytest
import stable_baselines3
import torch

from rl_rms.agents import A2C
from rl_rms.agents.numpy_backend import NumpyBackend
from rl_rms.agents.torch_backend import TorchBackend
from tests.agents.sb3_rollouts import act_on, collected, our_name, our_weights, short_episodes


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("fused", [True, False])
def test_a2c_gradients_equal_stable_baselines3(id, fused):
    options = {"n_steps": 9, "gamma": 0.97, "gae_lambda": 0.9, "ent_coef": 0.01, "vf_coef": 0.4}
    theirs = stable_baselines3.A2C(
        "MlpPolicy", short_episodes(id), seed=0, device="cpu", max_grad_norm=1e9, **options
    )
    rollout = collected(theirs)
    normalizers = {"normalize_observation": False, "normalize_reward": False}
    ours = A2C(gym.make_vec(id, 3), seed=0, fused=fused, **normalizers, **options)
    ours.policy.load_state_dict(our_weights(theirs))
    backend = ours.make_trainer().backend
    assert isinstance(backend, NumpyBackend if fused else TorchBackend)
    act_on(backend, rollout, ours.generator)
    backend.gradients(ours.learner.batch(rollout, None, 0), with_metrics=False)

    theirs.train()
    expected = {our_name(name): param.grad for name, param in theirs.policy.named_parameters()}
    for name, param in ours.policy.named_parameters():
        torch.testing.assert_close(param.grad, expected[name], rtol=1e-4, atol=1e-5)
