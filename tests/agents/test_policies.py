import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common import policies

from rl_rms.agents import A2C, PPO, ActorCriticPolicy, PolicyConfig, Reinforce
from rl_rms.agents.numpy_backend import supports
from rl_rms.envs import make_vec
from tests.agents import networks
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
        PolicyConfig(hidden_sizes=[7], log_std_init=-1),
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
            gym.spaces.Dict({"image": BOX, "mission": gym.spaces.Text(5)}),
            ["observation_space['mission']", "Text", "FilterObservation"],
        ),
        (
            gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(2)}),
            ["Dict", "'action_mask'"],
        ),
    ],
)
def test_policy_of_a_dict_with_an_unsupported_part_names_it(space, said):
    with pytest.raises(ValueError, match=naming(*said)):
        ActorCriticPolicy(space, gym.spaces.Discrete(2))


def test_policy_with_critic_hidden_sizes_uses_them_for_the_critic():
    policy = ActorCriticPolicy(
        BOX, gym.spaces.Discrete(3), PolicyConfig(hidden_sizes=[7], critic_hidden_sizes=[5, 4])
    )
    shapes = [tuple(one.shape) for one in policy.parameters() if one.ndim == 2]
    assert shapes == [(7, 6), (3, 7), (5, 6), (4, 5), (1, 4)]


def test_policy_with_an_encoder_object_trains_it():
    spaces = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(2)
    encoder = networks.Encoder(spaces[0])
    policy = ActorCriticPolicy(*spaces, encoder=encoder)
    assert policy.actor_network[0].in_features == 4
    distribution, values = policy(torch.randn(5, 3))
    (distribution.log_prob(torch.zeros(5, dtype=torch.int64)).sum() + values.sum()).backward()
    assert encoder.layer.weight.grad.abs().sum() > 0
    assert not supports(policy)


def test_policy_with_an_encoder_of_plain_layers_runs_in_torch():
    spaces = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(2)
    policy = ActorCriticPolicy(*spaces, encoder=torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()))
    assert not supports(policy)


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
@pytest.mark.parametrize(("field", "name"), [("encoder", "Encoder"), ("module", "Policy"), ("module", "Derived")])
def test_agent_with_a_class_by_import_path_learns(agent, field, name):
    config = PolicyConfig(**{field: f"{networks.__name__}.{name}"})
    options = {"n_steps": 8} if agent is PPO else {}
    trained = agent("CartPole-v1", policy=config, seed=0, **options)
    again = agent("CartPole-v1", policy=config, seed=0, **options)
    before = torch.nn.utils.parameters_to_vector(trained.policy.parameters()).detach()
    assert torch.equal(before, torch.nn.utils.parameters_to_vector(again.policy.parameters()))
    trained.learn(8)
    assert not torch.equal(before, torch.nn.utils.parameters_to_vector(trained.policy.parameters()))
    found = trained.policy if field == "module" else trained.policy.encoder.module
    assert type(found).__name__ == name


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
def test_agent_with_a_distribution_of_torch_resumes_bit_identically(agent, tmp_path):
    config = PolicyConfig(module=f"{networks.__name__}.BetaPolicy")
    options = {"n_steps": 8, "batch_size": 4} if agent is PPO else {}

    def make():
        return make_vec("Pendulum-v1", 2, {}, seed=0, max_episode_steps=5)

    whole = agent(make(), policy=config, seed=0, **options).learn(40).learn(40)
    half = agent(make(), policy=config, seed=0, **options).learn(40).save(tmp_path / "half")
    torch.manual_seed(1)
    resumed = agent.load(half, make(), policy=config).learn(40)
    for one, two in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(one, two)
    assert 0.0 <= resumed.predict(np.zeros(3, np.float32), deterministic=True)[0].item() <= 1.0


@pytest.mark.parametrize("name", ["Narrow", "Encoder", "Absent"])
def test_agent_with_a_wrong_class_names_the_field(name):
    with pytest.raises(ValueError, match=naming("policy.module", f"{networks.__name__}.{name}")):
        A2C("CartPole-v1", policy=PolicyConfig(module=f"{networks.__name__}.{name}"))


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
@pytest.mark.parametrize("encoder", ["small_cnn", "impala", "mlp"])
def test_agent_with_images_of_7_by_7_learns_and_loads(agent, encoder, tmp_path):
    class Room(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return self._image(), {}

        def _image(self):
            return self.np_random.integers(0, 255, (7, 7, 3), np.uint8)

        def step(self, action):
            self.steps += 1
            return self._image(), float(action), self.steps == 4, False, {}

    config = PolicyConfig(encoder=encoder, image_features=8, hidden_sizes=())
    options = {"n_steps": 8} if agent is PPO else {}
    trained = agent(Room(), policy=config, seed=0, **options).learn(16)
    loaded = agent.load(trained.save(tmp_path / "agent"), Room())
    assert loaded.config.policy == config
    image = Room().reset(seed=1)[0]
    for policy in (trained.policy, loaded.policy):
        policy.eval()
    one, two = (policy(torch.as_tensor(image)[None])[1] for policy in (trained.policy, loaded.policy))
    assert torch.equal(one, two)
    before = [param.clone() for param in loaded.policy.encoder.parameters()]
    loaded.learn(16)
    pairs = zip(before, loaded.policy.encoder.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)
