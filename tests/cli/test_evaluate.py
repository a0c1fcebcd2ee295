"""`rl-rms evaluate`, as a user runs it."""

import os
import shutil

from rl_rms.agents import storage
from rl_rms.cli.main import main


def test_evaluate_of_a_run_plays_its_saved_agent(trained, capsys):
    folder, _ = trained
    assert main(["evaluate", str(folder), "--episodes", "4"]) == 0
    first = capsys.readouterr().out
    assert "mean return" in first
    assert "4 episodes" in first
    assert main(["evaluate", str(folder), "--episodes", "4"]) == 0
    assert capsys.readouterr().out == first


def test_evaluate_of_several_runs_plays_the_newest(trained, tmp_path, capsys):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "runs" / "new")
    shutil.copytree(folder, tmp_path / "runs" / "old")
    os.utime(tmp_path / "runs" / "old" / "config.yaml", (0, 0))
    (tmp_path / "runs" / "old" / "checkpoints" / "final.safetensors").unlink()
    for words in (["runs"], ["runs/new", "runs/old"]):
        assert main(["evaluate", *(str(tmp_path / word) for word in words), "--episodes=1"]) == 0
        assert str(tmp_path / "runs" / "new") in capsys.readouterr().err


def test_evaluate_of_weights_that_are_nan_names_the_parameter(trained, tmp_path, capsys):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    final = tmp_path / "run" / "checkpoints" / "final.safetensors"
    contents = storage.read(final)
    name = next(iter(contents["policy"]))
    contents["policy"][name].fill_(float("nan"))
    storage.write(final, contents)
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "4"]) == 2
    error = capsys.readouterr().err
    assert f"final.safetensors holds a policy whose {name} is nan or infinite" in error
    assert error.count("\n") == 1
