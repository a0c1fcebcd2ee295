import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common import policies

from rl_rms.agents import ActorCriticPolicy, PolicyConfig
from rl_rms.agents.numpy_backend import supports
from tests.naming import naming

BOX = gym.spaces.Box(-1, 1, (3, 2), np.float32)


@pytest.mark.parametrize("observation_space", [BOX, gym.spaces.Discrete(4, start=2)])
@pytest.mark.parametrize("action_space", [gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (2, 2), np.float32)])
def test_policy_of_every_pair_of_spaces_gives_actions_and_values(observation_space, action_space):
    policy = ActorCriticPolicy(observation_space, action_space)
    batch = torch.as_tensor(np.stack([observation_space.sample() for _ in range(5)]))
    distribution, values = policy(batch)
    actions = distribution.sample(np.random.default_rng(0))
    assert actions.shape == (5, *action_space.shape)
    assert distribution.log_prob(actions).shape == distribution.entropy().shape == values.shape == (5,)


def test_policy_has_the_architecture_and_initialization_of_stable_baselines3():
    space, actions = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2)
    ours = ActorCriticPolicy(space, actions)
    theirs = policies.ActorCriticPolicy(space, actions, lambda _: 1e-3)
    assert sorted(p.shape for p in ours.parameters()) == sorted(p.shape for p in theirs.parameters())
    pairs = [
        (ours.actor_network[0], theirs.mlp_extractor.policy_net[0]),
        (ours.critic_network[2], theirs.mlp_extractor.value_net[2]),
        (ours.actor_network[4], theirs.action_net),
        (ours.critic_network[4], theirs.value_net),
    ]
    for own, other in pairs:
        torch.testing.assert_close(torch.linalg.svdvals(own.weight), torch.linalg.svdvals(other.weight))
        assert own.bias.abs().max() == 0


def test_policy_config_sets_the_network():
    policy = ActorCriticPolicy(
        BOX,
        gym.spaces.Box(-1, 1, (1,), np.float32),
        PolicyConfig(hidden_sizes=[7], log_std_init=-1),  # integers, as YAML may have them
    )
    assert policy.actor_network[0].weight.shape == (7, 6)
    assert policy.log_std.item() == -1.0


def test_policy_with_a_shared_trunk_shares_all_hidden_layers():
    config = PolicyConfig(hidden_sizes=[7, 5], shared_trunk=True)
    policy = ActorCriticPolicy(BOX, gym.spaces.Discrete(3), config)
    shapes = [tuple(one.shape) for one in policy.parameters() if one.ndim == 2]
    assert shapes == [(7, 6), (5, 7), (3, 5), (1, 5)]
    observations = torch.randn(4, 6)
    policy.critic(policy.encode(observations)).sum().backward()
    assert policy.trunk[0].weight.grad.abs().sum() > 0
    assert policy.actor_network[0].weight.grad is None
    assert not supports(policy)


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [(gym.spaces.Text(5), gym.spaces.Discrete(2)), (BOX, gym.spaces.Dict({"a": gym.spaces.Discrete(2)}))],
)
def test_policy_of_an_unsupported_space_names_it(observation_space, action_space):
    with pytest.raises(ValueError, match=r"got (Text|Dict)"):
        ActorCriticPolicy(observation_space, action_space)


@pytest.mark.parametrize("recurrent", ["gru", "lstm"])
def test_recurrent_policy_at_an_episode_start_has_the_initial_state(recurrent):
    policy = ActorCriticPolicy(BOX, gym.spaces.Discrete(2), PolicyConfig(recurrent=recurrent, recurrent_size=5))
    features = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    state = torch.randn(2, policy.state_size, generator=torch.Generator().manual_seed(1))
    start = torch.tensor([True, False])
    seen, kept = policy.remember(features, state, start)
    fresh_seen, fresh_kept = policy.remember(features, torch.zeros_like(state), start)
    for one, fresh in ((seen, fresh_seen), (kept, fresh_kept)):
        assert torch.equal(one[0], fresh[0])
        assert not torch.allclose(one[1], fresh[1])


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            gym.spaces.Box(0, 255, (20, 20, 3), np.uint8),
            ["36 by 36", "Box"],
        ),
        (
            gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(2)}),
            ["Dict", "'action_mask'"],
        ),
    ],
)
def test_policy_of_an_uninformative_observation_space_names_it(space, said):
    with pytest.raises(ValueError, match=naming(*said)):
        ActorCriticPolicy(space, gym.spaces.Discrete(2))
