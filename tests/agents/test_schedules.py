"""Learning rates and entropy bonuses on schedules over env steps."""

import gymnasium as gym
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, Reinforce
from rl_rms.agents.config import A2CConfig
from rl_rms.envs.schedules import AdversarialBurst, Constant, Exponential, Linear, Redraw
from tests.naming import naming


def rates(agent):
    return [group["lr"] for group in agent.optimizer.param_groups]


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_learning_rate_schedule_continues_on_resume(optimizer, tmp_path):
    def make():
        return gym.make_vec("CartPole-v1", 2)

    schedule = Linear(start=1e-2, end=0.0, over=400)
    agent = A2C(make(), learning_rate=schedule, optimizer=optimizer, seed=0)
    assert rates(agent) == [1e-2]
    agent.learn(100)
    assert rates(agent) == pytest.approx([1e-2 * (1 - agent.num_timesteps / 400)])
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make()).learn(100)
    assert rates(loaded) == pytest.approx([1e-2 * (1 - loaded.num_timesteps / 400)])
    before = torch.nn.utils.parameters_to_vector(loaded.policy.parameters()).clone()
    loaded.learn(300)
    still = torch.nn.utils.parameters_to_vector(loaded.policy.parameters()).clone()
    assert not torch.equal(before, still)
    loaded.learn(100)  # at rate 0
    assert torch.equal(torch.nn.utils.parameters_to_vector(loaded.policy.parameters()), still)


def test_critic_learning_rate_applies_to_the_critic(tmp_path):
    agent = A2C(
        gym.make_vec("CartPole-v1", 2),
        learning_rate=Linear(start=2e-3, end=1e-3, over=200),
        critic_learning_rate=Exponential(start=8e-3, end=0.0, tau=100),
        seed=0,
    )
    assert rates(agent) == pytest.approx([2e-3, 8e-3])
    agent.learn(300, log_dir=tmp_path)
    assert agent.optimizer.param_groups[1]["lr"] < 1e-3
    events = EventAccumulator(str(tmp_path)).Reload()
    logged = events.Scalars("train/critic_learning_rate")[-1].value
    assert logged == pytest.approx(rates(agent)[1])
    names = {id(param): name for name, param in agent.policy.named_parameters()}
    critic = [names[id(param)] for param in agent.optimizer.param_groups[1]["params"]]
    assert critic
    assert all(name.startswith("critic") for name in critic)


@pytest.mark.parametrize("fused", [True, False])
def test_critic_learning_rate_of_zero_keeps_the_critic(fused):
    def vector(network):
        return torch.nn.utils.parameters_to_vector(network.parameters()).clone()

    schedule = Linear(start=1e-3, end=5e-4, over=200)
    env = gym.make_vec("CartPole-v1", 2)
    agent = A2C(env, learning_rate=schedule, critic_learning_rate=0.0, fused=fused, seed=0)
    actor, critic = vector(agent.policy.actor_network), vector(agent.policy.critic_network)
    agent.learn(100)
    assert torch.equal(vector(agent.policy.critic_network), critic)
    assert not torch.equal(vector(agent.policy.actor_network), actor)


def test_constant_learning_rate_keeps_a_value_set_by_the_user():
    def halve(agent):
        agent.optimizer.param_groups[0]["lr"] = 5e-4

    agent = Reinforce(gym.make_vec("CartPole-v1", 2), learning_rate=1e-3, seed=0).learn(200, callback=halve)
    assert rates(agent) == [5e-4]


def test_entropy_coefficient_follows_its_schedule(tmp_path):
    agent = A2C(gym.make_vec("CartPole-v1", 2), ent_coef=Linear(start=0.1, end=0.0, over=200), seed=0)
    assert agent.learner.coefficients(agent.num_timesteps).ent_coef == 0.1
    agent.learn(100, log_dir=tmp_path)
    assert agent.learner.coefficients(agent.num_timesteps).ent_coef == pytest.approx(
        0.1 * (1 - agent.num_timesteps / 200)
    )
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("train/ent_coef")[-1].value == pytest.approx(agent.learner.ent_coef(agent.num_timesteps))


def test_agent_config_stores_schedules_in_their_yaml_form():
    config = A2CConfig(learning_rate=Linear(start=1.0, end=0.5, over=10), ent_coef=Constant(0.1))
    assert config.learning_rate == {"linear": {"start": 1.0, "end": 0.5, "over": 10.0}}
    assert config.ent_coef == {"constant": {"value": 0.1}}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 0.0}, ["learning_rate", "0"]),
        (
            {"learning_rate": lambda progress: progress},
            ["learning_rate", "schedule"],
        ),
        ({"learning_rate": Linear(start=1.0, end=-1.0, over=5)}, ["learning_rate", "0"]),
        ({"learning_rate": Redraw(low=0.1, high=0.2, every=5)}, ["learning_rate", "Redraw"]),
        ({"ent_coef": AdversarialBurst(0.1, 0.0, 0.2, threshold=9.0, duration=5)}, ["ent_coef", "returns"]),
        ({"ent_coef": {"linaer": {}}}, ["ent_coef", "schedule"]),
        ({"critic_learning_rate": -1.0}, ["critic_learning_rate", "0"]),
    ],
)
def test_wrong_learning_rate_names_it(options, named):
    with pytest.raises(ValueError, match=naming(*named)):
        A2C("CartPole-v1", **options)


def test_critic_learning_rate_without_a_separate_critic_raises():
    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Linear(4, 1)

        def actor(self, observations):
            raise NotImplementedError

        critic = actor

    with pytest.raises(ValueError, match=naming("critic", "Tiny", "body.weight", "body.bias")):
        A2C("CartPole-v1", policy=Tiny(), critic_learning_rate=1e-3)
