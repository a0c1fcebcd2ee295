import os
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, ActorCriticPolicy, Reinforce
from rl_rms.agents.checkpoint import read, write


class Payload:
    """What a malicious file would hold: unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_with_code_in_it_is_refused_and_runs_nothing(tmp_path, how):
    evil = {"format": "rl_rms agent", "version": 1, "algorithm": "a2c", "config": Payload(tmp_path / "owned")}
    path = tmp_path / "evil.pt"
    if how == "torch":
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match="not an agent that rl_rms saved"):
        A2C.load(path)
    assert not (tmp_path / "owned").exists()


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*missing\.pt"):
        A2C.load(tmp_path / "missing")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match="not an agent"):
        A2C.load(tmp_path / "text.pt")
    torch.save({"some": "thing"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not an agent"):
        A2C.load(tmp_path / "other.pt")
    path = Reinforce("CartPole-v1").save(tmp_path / "reinforce")
    with pytest.raises(ValueError, match="algorithm 'reinforce', not 'a2c'"):
        A2C.load(path)
    torch.save({**torch.load(path), "version": 99}, path)
    with pytest.raises(
        ValueError, match=r"has format version 99, this rl_rms reads \d; load it with the one that saved it"
    ):
        Reinforce.load(path)


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


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = write(tmp_path / "agent.pt", {"value": 1})
    with pytest.raises(TypeError):
        write(path, {"value": (i for i in range(3))})
    assert torch.load(path)["value"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["agent.pt"]


def test_a_policy_of_ones_own_has_to_be_given_again(tmp_path):
    policy = ActorCriticPolicy(gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2))
    path = A2C("CartPole-v1", policy=policy).save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"was saved with a policy of the user's own; pass it as policy=\.\.\."):
        A2C.load(path)
    assert A2C.load(path, policy=policy).policy is policy
