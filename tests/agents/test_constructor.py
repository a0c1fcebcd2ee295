"""Constructors accept and document the fields of their configurations."""

import dataclasses
import inspect
import re

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rl_rms.agents import A2C, PPO, A2CConfig, PolicyConfig, PPOConfig, Reinforce, ReinforceConfig
from tests.naming import naming

AGENTS = pytest.mark.parametrize(
    ("agent", "config"), [(A2C, A2CConfig), (PPO, PPOConfig), (Reinforce, ReinforceConfig)]
)
OWN = {"env", "config", "policy", "optimizer", "seed", "observation_space", "action_space"}


@AGENTS
def test_signature_has_every_field_with_its_default(agent, config):
    parameters = inspect.signature(agent).parameters
    fields = {field.name: field for field in dataclasses.fields(config)}
    assert fields.pop("algorithm").default == agent.algorithm
    assert set(parameters) == OWN | set(fields)
    for name in set(fields) - OWN:
        field = fields[name]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        assert parameters[name].default == default, name


@AGENTS
def test_docstring_explains_every_argument_once(agent, config):
    section = re.search(r"Args:\n(.*?)\n\n", inspect.getdoc(agent), re.DOTALL).group(1)
    explained = re.findall(r"^    (\w+): \S", section, re.MULTILINE)
    assert sorted(explained) == sorted(inspect.signature(agent).parameters)


@AGENTS
def test_docstring_has_the_constants_of_python(agent, config):
    assert not re.findall(r"\b(?:null|true|false)\b", inspect.getdoc(agent))


@AGENTS
def test_constructor_with_every_field_makes_that_configuration(agent, config):
    wanted = config(gamma=0.5, half_life="20_000 steps", policy=PolicyConfig(hidden_sizes=(3,)))
    fields = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(config)}
    del fields["algorithm"]
    assert agent("CartPole-v1", **fields).config == agent("CartPole-v1", config=wanted).config == wanted


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gama", "gamma"), ("learning_rates", "learning_rate"), ("lr", "learning_rate"), ("xyzzy", None)],
)
def test_unknown_hyperparameter_raises_a_type_error_that_names_the_nearest(name, meant):
    with pytest.raises(TypeError, match=naming("A2C", f"'{name}'")) as raised:
        A2C("CartPole-v1", **{name: 0.5})
    assert f"'{meant}'" in str(raised.value) if meant else "learning_rate, " in str(raised.value)


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("n_envs", ["rl_rms.envs.make_vec", "num_envs=8"]),
        ("policy_kwargs", ["PolicyConfig", "optimizer_kwargs"]),
        ("tensorboard_log", ["learn", "log_dir"]),
        ("verbose", ["learn", "progress_bar"]),
        ("squash_actions", ["policy=PolicyConfig(squash_actions=...)"]),
        ("rms_prop_eps", ["optimizer_kwargs", "eps"]),
    ],
)
def test_argument_of_stable_baselines3_raises_a_type_error_with_the_replacement(name, remedy, agent):
    with pytest.raises(TypeError, match=naming(agent.__name__, f"'{name}'", *remedy)):
        agent("CartPole-v1", **{name: 4})


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
@pytest.mark.parametrize(
    ("positional", "named"),
    [
        (("MlpPolicy", gym.make("CartPole-v1")), {}),
        (("MlpPolicy", "CartPole-v1"), {}),
        (("CartPole-v1",), {"policy": "MlpPolicy"}),
    ],
    ids=["env", "id", "by name"],
)
def test_policy_by_name_raises_a_type_error_with_the_replacement(positional, named, agent):
    with pytest.raises(TypeError, match=naming("'MlpPolicy'", f"{agent.__name__}(env)", "PolicyConfig")):
        agent(*positional, **named)


def test_second_positional_argument_raises_a_type_error_that_names_it():
    with pytest.raises(TypeError, match=naming("0.01", "learning_rate")):
        A2C("CartPole-v1", 0.01)


def test_policy_of_another_type_raises_a_type_error():
    with pytest.raises(TypeError, match=naming("policy", "{'hidden_sizes': [3]}", "PolicyConfig")):
        A2C("CartPole-v1", policy={"hidden_sizes": [3]})


@pytest.mark.parametrize("agent", [A2C, PPO, Reinforce])
def test_vec_env_of_stable_baselines3_raises_a_type_error_with_the_replacement(agent):
    with pytest.raises(TypeError, match=naming("VecEnv", "rl_rms.envs.make_vec", "num_envs")):
        agent(make_vec_env("CartPole-v1", n_envs=2))


def test_hyperparameter_of_another_algorithm_raises_a_type_error():
    with pytest.raises(TypeError, match=naming("Reinforce", "'n_steps'")):
        Reinforce("CartPole-v1", n_steps=5)


@pytest.mark.parametrize("both", [{"gamma": 0.5}, {"policy": PolicyConfig()}])
def test_configuration_beside_hyperparameters_raises_a_type_error(both):
    with pytest.raises(TypeError, match=naming(next(iter(both)))):
        A2C("CartPole-v1", config=A2CConfig(), **both)


def test_configuration_of_another_algorithm_raises_a_type_error():
    with pytest.raises(TypeError, match=naming("config", "A2C", "A2CConfig", "PPOConfig")):
        A2C("CartPole-v1", config=PPOConfig())


def test_optimizer_class_is_stated_in_the_configuration():
    assert A2C("CartPole-v1", optimizer=torch.optim.Adam).config.optimizer == "torch.optim.adam.Adam"


def test_subclass_with_its_own_constructor_keeps_its_signature():
    class Own(A2C):
        def __init__(self, env, speed):
            super().__init__(env, learning_rate=speed)

    assert set(inspect.signature(Own).parameters) == {"env", "speed"}


def test_signature_of_an_agent_has_one_positional_argument():
    for shown in (A2C, A2C.__init__):
        kinds = [
            parameter.kind for name, parameter in inspect.signature(shown).parameters.items() if name != "self"
        ]
        assert inspect.Parameter.VAR_POSITIONAL not in kinds
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 1
