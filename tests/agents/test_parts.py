import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, A2CConfig, PolicyConfig
from tests.naming import naming


def test_constructor_with_an_unknown_device_names_it():
    with pytest.raises(ValueError, match="device"):
        A2C("CartPole-v1", device="gpu")


class OnlyActor(torch.nn.Module):
    def actor(self, observations):
        raise NotImplementedError


SPACES = {"observation_space": gym.spaces.Box(-1, 1, (4,), np.float32), "action_space": gym.spaces.Discrete(2)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, ["env", "observation_space", "action_space", "None"]),
        (
            {**SPACES, "policy": OnlyActor()},
            ["policy", "OnlyActor", "critic"],
        ),
    ],
)
def test_constructor_with_a_wrong_argument_names_it(arguments, said):
    with pytest.raises(ValueError, match=naming(*said)):
        A2C(None, config=A2CConfig(), **arguments)


def test_environment_that_cannot_restart_raises():
    with pytest.raises(ValueError, match=naming("on_env_error", "restart", "ResilientSyncVectorEnv")):
        A2C(gym.make("CartPole-v1"), on_env_error="restart")


def test_batch_normalization_of_one_transition_raises():
    with pytest.raises(ValueError, match=naming('norm="batch"', "n_steps")):
        A2C("CartPole-v1", n_steps=1, policy=PolicyConfig(norm="batch"))
