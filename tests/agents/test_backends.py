"""The numpy backend draws the actions of the torch backend, and computes equal gradients up to rounding."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_rms.agents import A2C, PPO, A2CConfig, ActorCriticPolicy, PolicyConfig, Reinforce
from rl_rms.agents.backends import choose_device
from rl_rms.agents.clipped_loss import Minibatch
from rl_rms.agents.numpy_backend import NumpyBackend, supports
from rl_rms.agents.torch_backend import TorchBackend
from rl_rms.agents.transfers import to_floats
from rl_rms.agents.workers import ALONE


def _gradient(param):
    return torch.zeros_like(param) if param.grad is None else param.grad.clone()


def both_ways(agent):
    """Gradients and metrics of one rollout with the numpy and the torch backend."""
    agent.learn(1).learn(1)
    trainer = agent.make_trainer()
    assert isinstance(trainer.backend, NumpyBackend)
    batch = agent.learner.batch(*trainer.collect(), agent.num_timesteps)
    found = []
    for backend in (trainer.backend, TorchBackend(agent.policy, agent.device)):
        metrics = backend.gradients(batch, with_metrics=True)
        found.append((metrics, [_gradient(param) for param in agent.policy.parameters()]))
    return found


def check(agent):
    check_alike(both_ways(agent))


def check_alike(found):
    (fused_metrics, fused), (metrics, expected) = found
    assert fused_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-5)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected)
    for one, other in zip(fused, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_fused_gradients_in_every_autoreset_mode_equal_autograd(mode, id, activation):
    def make():
        return gym.make(id, max_episode_steps=4)

    env = SyncVectorEnv([make] * 3, autoreset_mode=mode)
    policy = PolicyConfig(hidden_sizes=(7, 5), activation=activation, log_std_init=-0.5)
    agent = A2C(env, n_steps=9, gae_lambda=0.9, ent_coef=0.3, vf_coef=0.7, policy=policy, seed=0)
    with torch.no_grad():
        agent.policy.actor_network[-1].weight.mul_(50.0)
    check(agent)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("clip_range_vf", [None, 0.05])
def test_fused_clipped_gradients_in_every_autoreset_mode_equal_autograd(mode, id, clip_range_vf):
    env = SyncVectorEnv([lambda: gym.make(id, max_episode_steps=4)] * 3, autoreset_mode=mode)
    policy = PolicyConfig(hidden_sizes=(7, 5), critic_hidden_sizes=(9,), log_std_init=-0.5)
    agent = PPO(env, n_steps=9, ent_coef=0.3, vf_coef=0.7, policy=policy, seed=0)
    with torch.no_grad():
        agent.policy.actor_network[-1].weight.mul_(50.0)
    trainer = agent.make_trainer()
    backends = trainer.backend, TorchBackend(agent.policy, agent.device)
    assert isinstance(backends[0], NumpyBackend)
    batch = agent.learner.batch(*trainer.collect(), 0)
    played, expected = (backend.evaluate(batch) for backend in backends)
    for name in ("values", "log_probs", "advantages", "returns"):
        own, other = (getattr(one, name)[batch.loss_mask.reshape(-1)] for one in (played, expected))
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)
    torch.manual_seed(0)
    with torch.no_grad():
        for param in agent.policy.parameters():
            param.add_(0.2 * torch.randn_like(param))
    rows = np.flatnonzero(batch.loss_mask)[::2]
    minibatch = Minibatch.of(batch, expected, rows, 0.1, clip_range_vf, ALONE)
    found = []
    for backend in backends:
        metrics = backend.clipped_gradients(minibatch, with_metrics=True)
        found.append((to_floats([metrics])[0], [_gradient(param) for param in agent.policy.parameters()]))
    assert 0.0 < found[0][0]["train/clip_fraction"] < 1.0
    check_alike(found)


@pytest.mark.parametrize(
    "options",
    [
        {"normalize_advantage": True},
        {"baseline": False},
        {"normalize_observation": True, "normalize_reward": False},
        {"policy": PolicyConfig(hidden_sizes=())},
        {"policy": PolicyConfig(hidden_sizes=(), critic_hidden_sizes=(7, 5))},
        {"policy": PolicyConfig(hidden_sizes=(9,), critic_hidden_sizes=())},
    ],
)
def test_fused_gradients_of_reinforce_equal_autograd(options, counting):
    env = counting([(3, False), (5, True)], AutoresetMode.SAME_STEP)
    check(Reinforce(env, seed=0, episodes_per_env=2, ent_coef=0.1, **options))


@pytest.mark.parametrize("fused", [True, False])
def test_reinforce_without_baseline_leaves_the_critic_unchanged_with_weight_decay(fused, counting):
    options = {"baseline": False, "optimizer_kwargs": {"weight_decay": 0.1}, "fused": fused}
    agent = Reinforce(counting([(3, False)]), seed=0, **options)
    before = [param.detach().clone() for param in agent.policy.parameters()]
    agent.learn(10)
    assert agent.num_updates > 1
    changed = {
        name.split("_")[0]
        for (name, param), old in zip(agent.policy.named_parameters(), before, strict=True)
        if not torch.equal(param, old)
    }
    assert changed == {"actor"}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(5, start=3),
        gym.spaces.MultiDiscrete([3, 2]),
        gym.spaces.Box(0, 255, (3, 3, 1), np.uint8),
    ],
)
def test_fused_gradients_of_categories_and_flat_images_equal_autograd(space):
    class Categories(gym.Env):
        observation_space = space
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.observation_space.seed(1)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), float(action), False, False, {}

    check(A2C(SyncVectorEnv([Categories] * 2), ent_coef=0.1, seed=0, policy=PolicyConfig(encoder="mlp")))


def test_fused_backend_draws_the_actions_of_autograd():
    def actions(fused):
        env = gym.make_vec("CartPole-v1", 4)
        agent = A2C(env, seed=0, fused=fused, n_steps=20).learn(1)
        trainer = agent.make_trainer()
        assert isinstance(trainer.backend, NumpyBackend if fused else TorchBackend)
        return trainer.collect()[0].actions.copy()

    assert (actions(True) == actions(False)).all()
    assert 0.2 < actions(True).mean() < 0.8


def test_fused_training_equals_autograd_training():
    def trained(fused):
        agent = A2C(gym.make_vec("CartPole-v1", 4), seed=0, fused=fused).learn(400)
        return torch.nn.utils.parameters_to_vector(agent.policy.parameters())

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-3, atol=1e-4)


SPACES = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(2)


def test_supports_plain_network_is_true():
    assert supports(ActorCriticPolicy(*SPACES))


class Own(ActorCriticPolicy):
    """A user's subclass of ActorCriticPolicy."""


@pytest.mark.parametrize(
    "policy",
    [
        Own(*SPACES),
        ActorCriticPolicy(*SPACES, PolicyConfig(norm="layer")),
        ActorCriticPolicy(*SPACES, PolicyConfig(recurrent="gru")),
        ActorCriticPolicy(*SPACES, PolicyConfig(activation="silu")),
        ActorCriticPolicy(gym.spaces.Box(0, 255, (3, 3, 1), np.uint8), SPACES[1]),
        ActorCriticPolicy(*SPACES, PolicyConfig(hidden_sizes=(512, 512))),
        ActorCriticPolicy(SPACES[0], gym.spaces.MultiBinary(3)),
        ActorCriticPolicy(SPACES[0], SPACES[0], PolicyConfig(squash_actions=True)),
        ActorCriticPolicy(*SPACES).double(),
    ],
)
def test_supports_unsupported_network_is_false(policy):
    assert not supports(policy)


def test_supports_hooks_or_frozen_parameters_is_false():
    hooked, frozen, parametrized = (ActorCriticPolicy(*SPACES) for _ in range(3))
    hooked.actor_network[0].register_forward_hook(lambda *_: None)
    frozen.critic_network[0].weight.requires_grad_(False)
    torch.nn.utils.parametrizations.weight_norm(parametrized.actor_network[0])
    assert not any(supports(policy) for policy in (hooked, frozen, parametrized))


def _tie_layers(policy):
    policy.critic_network[0] = policy.actor_network[0]


def _tie_layers_of_the_actor(policy):
    policy.actor_network[2] = policy.actor_network[0] = torch.nn.Linear(3, 3)
    policy.actor_network[4] = torch.nn.Linear(3, 3)


def _tie_weights(policy):
    policy.critic_network[0].weight = policy.actor_network[0].weight


def _hook_a_weight(policy):
    policy.actor_network[0].weight.register_hook(torch.zeros_like)


def _hook_an_accumulated_gradient(policy):
    policy.actor_network[0].weight.register_post_accumulate_grad_hook(lambda param: param.grad.zero_())


def _end_with_an_activation(policy):
    policy.actor_network.append(torch.nn.Tanh())


def _mix_activations(policy):
    policy.actor_network[1] = torch.nn.ReLU()


def _change_alpha(policy):
    for i in (1, 3):
        policy.actor_network[i] = torch.nn.ELU(alpha=0.3)


def _leave_out_an_activation(policy):
    del policy.actor_network[1]


def _leave_out_a_bias(policy):
    policy.actor_network[0].bias = None


def _replace_encode(policy):
    policy.encode = lambda observations: 0.1 * policy.encoder(observations)


def _replace_forward_of_a_layer(policy):
    policy.actor_network[1].forward = torch.sin


def _share_the_standard_deviation(policy):
    policy.log_std = torch.nn.Parameter(torch.zeros(1))


def _fix_the_standard_deviation(policy):
    del policy.log_std
    policy.register_buffer("log_std", torch.zeros(3))


def _add_a_parameter(policy):
    policy.temperature = torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    "change",
    [
        _tie_layers,
        _tie_layers_of_the_actor,
        _tie_weights,
        _hook_a_weight,
        _hook_an_accumulated_gradient,
        _end_with_an_activation,
        _mix_activations,
        _change_alpha,
        _leave_out_an_activation,
        _leave_out_a_bias,
        _replace_encode,
        _replace_forward_of_a_layer,
        _share_the_standard_deviation,
        _fix_the_standard_deviation,
        _add_a_parameter,
    ],
)
def test_supports_changed_policy_is_false(change):
    policy = ActorCriticPolicy(SPACES[0], SPACES[0])
    assert supports(policy)
    change(policy)
    assert not supports(policy)


@pytest.mark.parametrize("make", [A2C, PPO])
def test_learn_changed_policy_trains_as_without_fused(make):
    def trained(fused):
        torch.manual_seed(0)
        policy = ActorCriticPolicy(gym.spaces.Box(-np.inf, np.inf, (4,), np.float32), gym.spaces.Discrete(2))
        _tie_layers(policy)
        _mix_activations(policy)
        agent = make("CartPole-v1", policy=policy, fused=fused, seed=0).learn(100)
        return torch.nn.utils.parameters_to_vector(agent.policy.parameters())

    torch.testing.assert_close(trained(True), trained(False), rtol=0, atol=0)


def test_fused_backend_replaced_weights_are_used():
    agent = A2C(gym.make_vec("CartPole-v1", 2), seed=0).learn(20)
    before = agent.policy.actor_network[0].weight.detach().clone()
    for param in agent.policy.parameters():
        param.data, param.grad = param.data.clone(), None
    agent.learn(20)
    assert not torch.equal(agent.policy.actor_network[0].weight, before)
    check(agent)


def test_fused_backend_parameters_frozen_later_stay_unchanged():
    agent = A2C(gym.make_vec("CartPole-v1", 2), seed=0).learn(20)
    agent.policy.actor_network[0].weight.requires_grad_(False)
    before = agent.policy.actor_network[0].weight.detach().clone()
    last = agent.policy.actor_network[-1].weight.detach().clone()
    agent.policy.actor_network[0].weight.grad = None
    agent.learn(20)
    assert torch.equal(agent.policy.actor_network[0].weight, before)
    assert not torch.equal(agent.policy.actor_network[-1].weight, last)


def test_numpy_backend_noncontiguous_gradients_equal_autograd():
    agent = A2C(gym.make_vec("CartPole-v1", 2), seed=0).learn(20)
    for param in agent.policy.parameters():
        if param.ndim == 2:
            param.grad = torch.zeros(param.T.shape).T
    check(agent)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, "cpu"),
        ({"fused": False}, "cuda"),
        ({"policy": PolicyConfig(hidden_sizes=(1_024, 1_024))}, "cuda"),
        ({"policy": PolicyConfig(recurrent="gru")}, "cuda"),
    ],
)
def test_choose_device_auto_with_cuda_and_a_numpy_network_is_the_cpu(options, chosen, monkeypatch):
    agent = A2C("CartPole-v1", seed=0, **options)
    assert agent.device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(agent.policy, agent.config).type == chosen


def test_choose_device_explicit_device_is_used():
    agent = A2C("CartPole-v1", seed=0, fused=False)
    assert choose_device(agent.policy, A2CConfig(device="meta")) == torch.device("meta")
