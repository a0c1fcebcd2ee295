"""A finished training run, a sweep and a federation for the tests of several commands."""

import subprocess
import sys

import gymnasium as gym
import pytest

from tests.cli.runs import FEDERATION, command, run_folder
from tests.cli.sweeps import SWEEP

QUICK = ["--total_timesteps", "3000", "--env.num_envs", "4", "--log_interval", "10"]


STRANGERS = """
from pathlib import Path
import gymnasium as gym

Path("imported").touch()
gym.register("Mine-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a short run of the configuration ``drifting_cartpole``, and the completed process."""
    base = tmp_path_factory.mktemp("trained")
    words, options = command(
        "train",
        "drifting_cartpole",
        *QUICK,
        "--checkpoint_every=1000",
        "--keep_checkpoints=2",
        "--eval_every=1500",
        cwd=base,
    )
    done = subprocess.run(words, **options, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return run_folder(base, "drifting_cartpole"), done


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    """A function that writes a sweep file into the working folder of the test."""
    monkeypatch.chdir(tmp_path)

    def write(text=SWEEP):
        (tmp_path / "mine.yaml").write_text(text)
        return "mine.yaml"

    return write


@pytest.fixture
def federation_folder(tmp_path, monkeypatch):
    """A working folder with the federation ``mine.yaml``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(FEDERATION)
    return tmp_path


@pytest.fixture
def strangers(federation_folder, monkeypatch):
    """A working folder with a federation whose clients' environments come from a module in this folder."""
    monkeypatch.setattr(sys, "path", [str(federation_folder), *sys.path])
    (federation_folder / "strangers.py").write_text(STRANGERS)
    (federation_folder / "mine.yaml").write_text(
        FEDERATION.replace("fix: {", "fix: {env.id: 'strangers:Mine-v0', ")
    )
    registered = dict(gym.registry)
    yield federation_folder
    sys.modules.pop("strangers", None)
    gym.registry.clear()
    gym.registry.update(registered)
