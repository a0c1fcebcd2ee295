import os
import re
import shutil
from pathlib import Path

import pytest

from rl_rms.agents import A2C, evaluate, storage
from rl_rms.cli.main import main
from rl_rms.cli.runs import read_run
from rl_rms.envs.make import make_from_config


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


def test_evaluate_of_fewer_episodes_than_independent_clocks_gives_each_clock_its_share(tmp_path, capsys):
    changes = "--env.changes.reward.scale={step: {before: 1, after: 100, at: 4000}}"
    words = ["--total_timesteps=200", "--progress=none", f"--runs_dir={tmp_path}", "--env.num_envs=4", changes]
    assert main(["train", "cartpole_a2c", *words, "--env.sharing=independent"]) == 0
    folder = capsys.readouterr().out.strip()
    assert main(["evaluate", folder, "--episodes=1", "--clock=8000"]) == 0
    mean_return, mean_length = re.findall(r"mean (?:return|length) ([\d.]+)", capsys.readouterr().out)
    assert float(mean_return) == float(mean_length) > 0


def test_evaluate_continues_the_curriculum_of_the_run(tmp_path, capsys):
    stages = "[{reward.scale: 1}, {reward.scale: 100}]"
    curriculum = f"--env.curriculum={{staged: {{stages: {stages}, threshold: 0, window: 1}}}}"
    words = ["--total_timesteps=200", "--env.num_envs=2", "--progress=none", f"--runs_dir={tmp_path}", curriculum]
    assert main(["train", "cartpole_a2c", *words]) == 0
    assert main(["evaluate", capsys.readouterr().out.strip(), "--episodes=2"]) == 0
    mean_return, mean_length = re.findall(r"mean (?:return|length) ([\d.]+)", capsys.readouterr().out)
    assert float(mean_return) == pytest.approx(100 * float(mean_length))


def test_evaluate_continues_the_running_statistics_of_wrappers(tmp_path, capsys):
    words = ["--total_timesteps=600", "--env.num_envs=2", "--progress=none", f"--runs_dir={tmp_path}"]
    assert main(["train", "cartpole_a2c", *words, "--env.wrappers=[NormalizeObservation]"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert main(["evaluate", str(folder), "--episodes=4"]) == 0
    said = capsys.readouterr().out
    config = read_run(folder).config
    agent = A2C.load(folder / "checkpoints" / "final.safetensors")
    means = []
    for is_lent in (True, False):
        env = make_from_config(config.env, config.seed)
        if is_lent:
            agent.session.lend_wrapper_states(env)
        result = evaluate(agent, env, 4, seed=1_000_000, clock=agent.num_timesteps)
        means.append(f"mean return {result.mean_reward:.1f} ")
    assert means[0] != means[1]
    assert means[0] in said


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
