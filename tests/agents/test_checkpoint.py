import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, ActorCriticPolicy, Reinforce, storage
from rl_rms.agents.checkpoint import read, write


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*missing\.safetensors"):
        A2C.load(tmp_path / "missing")
    storage.write(tmp_path / "other", {"some": "thing"})
    with pytest.raises(ValueError, match="not an agent that rl_rms saved"):
        A2C.load(tmp_path / "other")
    path = Reinforce("CartPole-v1").save(tmp_path / "reinforce")
    with pytest.raises(ValueError, match="algorithm 'reinforce', not 'a2c'"):
        A2C.load(path)


def test_another_environment_is_refused(tmp_path):
    path = A2C("CartPole-v1").save(tmp_path / "cartpole")
    with pytest.raises(
        ValueError, match=r"env has observation_space .*, but .* was trained on .*; give such a one"
    ):
        A2C.load(path, env="Pendulum-v1")


def test_an_optimizer_that_only_the_file_names_is_not_imported(tmp_path):
    path = A2C("CartPole-v1", optimizer=torch.optim.SGD).save(tmp_path / "sgd")
    contents = read(path, "a2c")
    contents["config"]["optimizer"] = "antigravity.SGD"
    write(path, contents)
    with pytest.raises(ValueError, match="pass the class as optimizer="):
        A2C.load(path)
    assert isinstance(A2C.load(path, optimizer=torch.optim.SGD).optimizer, torch.optim.SGD)


def test_a_policy_of_ones_own_has_to_be_given_again(tmp_path):
    policy = ActorCriticPolicy(gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2))
    path = A2C("CartPole-v1", policy=policy).save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"was saved with a policy of the user's own; pass it as policy=\.\.\."):
        A2C.load(path)
    assert A2C.load(path, policy=policy).policy is policy
