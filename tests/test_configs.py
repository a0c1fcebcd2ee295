"""Packaged configurations with environments of other packages. The tests are skipped without the packages."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rl_rms.cli.config import read_config
from rl_rms.cli.main import main
from rl_rms.cli.trust import named_code
from tests.naming import mentions

MODULES = {
    "dmc_cartpole_a2c": "shimmy",
    "dmc_cartpole_ppo": "shimmy",
    "minigrid_empty_a2c": "minigrid",
    "pointmaze_a2c": "gymnasium_robotics",
    "pong_a2c": "ale_py",
    "pong_ppo": "ale_py",
}
EXTRAS = {
    "ale_py": "atari",
    "gymnasium_robotics": "robotics",
    "minigrid": "minigrid",
    "shimmy": "dm-control",
}
# Lower bounds of the mean return of a training run's last 100 episodes.
REACHED = {
    "dmc_cartpole_a2c": 85.0,
    "dmc_cartpole_ppo": 90.0,
    "minigrid_empty_a2c": 0.94,
    "pointmaze_a2c": 150.0,
}
# The native vector environment of ale-py has no state that can be saved.
RESUMED = sorted(set(MODULES) - {"pong_a2c"})
SMALL = ["--env.num_envs=2", "--log_interval=100"]


def train(name, folder, capsys, *words):
    """Train a configuration, and return its folder."""
    assert main(["train", name, f"--runs_dir={folder}", "--progress=none", *words]) == 0
    return Path(capsys.readouterr().out.strip())


@pytest.fixture
def needed(request):
    """The name of a configuration whose package is installed."""
    pytest.importorskip(MODULES[request.param])
    return request.param


@pytest.mark.parametrize("name", MODULES)
def test_named_code_of_a_configuration_of_an_extra_is_empty(name):
    assert named_code(read_config(name)) == {}


@pytest.mark.parametrize("name", MODULES)
def test_train_without_the_package_names_the_extra(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    module = MODULES[name]
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    assert main(["train", name]) == 2
    assert mentions(capsys.readouterr().err, module, f"pip install 'rl_rms[{EXTRAS[module]}]'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("needed", REACHED, indirect=True)
def test_train_reaches_the_stated_return(needed, tmp_path, capsys):
    folder = train(needed, tmp_path, capsys)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final_return"] > REACHED[needed]


def weights(folder):
    """The tensors of the final checkpoint of a run, without byte tensors, which contain wall times of wrappers."""
    tensors = load_file(folder / "checkpoints" / "final.safetensors")
    return {key: tensor for key, tensor in tensors.items() if tensor.dtype != torch.uint8}


@pytest.mark.slow
@pytest.mark.parametrize("needed", RESUMED, indirect=True)
def test_resume_is_bit_identical_to_an_uninterrupted_training(needed, tmp_path, capsys):
    whole = train(needed, tmp_path / "whole", capsys, *SMALL, "--total_timesteps=2000")
    parts = train(needed, tmp_path / "parts", capsys, *SMALL, "--total_timesteps=1000")
    assert main(["resume", str(parts), "--total_timesteps=2000", "--progress=none"]) == 0
    one, other = weights(whole), weights(parts)
    assert one.keys() == other.keys()
    differing = [key for key in one if not torch.equal(one[key], other[key])]
    assert differing == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*AtariVectorEnv")
@pytest.mark.parametrize("needed", MODULES, indirect=True)
def test_train_films_an_episode(needed, tmp_path, capsys):
    pytest.importorskip("moviepy")
    folder = train(needed, tmp_path, capsys, *SMALL, "--total_timesteps=500", "--video_every=500")
    (video,) = (folder / "videos").iterdir()
    assert video.stat().st_size > 1_000
