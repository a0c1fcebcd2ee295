"""Packaged configurations with environments of other packages. The tests are skipped without the packages."""

import filecmp
import importlib.util
import json
from pathlib import Path

import pytest

from rl_rms.cli.config import read_config
from rl_rms.cli.main import main
from rl_rms.cli.trust import named_code
from tests.naming import mentions

MODULES = {"minigrid_empty_a2c": "minigrid"}
EXTRAS = {"minigrid": "minigrid"}
# The mean return of the last 100 episodes that a training reaches, which the first line of the file states.
REACHED = {"minigrid_empty_a2c": 0.94}


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


@pytest.mark.slow
@pytest.mark.parametrize("needed", MODULES, indirect=True)
def test_resume_is_bit_identical_to_an_uninterrupted_training(needed, tmp_path, capsys):
    whole = train(needed, tmp_path / "whole", capsys, "--total_timesteps=4000")
    parts = train(needed, tmp_path / "parts", capsys, "--total_timesteps=2000")
    assert main(["resume", str(parts), "--total_timesteps=4000", "--progress=none"]) == 0
    final = "checkpoints/final.safetensors"
    assert filecmp.cmp(whole / final, parts / final, shallow=False)


@pytest.mark.slow
@pytest.mark.parametrize("needed", MODULES, indirect=True)
def test_train_films_an_episode(needed, tmp_path, capsys):
    pytest.importorskip("moviepy")
    folder = train(needed, tmp_path, capsys, "--total_timesteps=500", "--video_every=500")
    (video,) = (folder / "videos").iterdir()
    assert video.stat().st_size > 1_000
