import sys

import pytest

from rl_rms.cli.config import parse_config, read_config
from rl_rms.cli.main import main
from rl_rms.cli.trust import check_folder, named_code

MODULE = """
from pathlib import Path
import gymnasium as gym
from rl_rms.agents import ActorCriticPolicy
from torch import nn
from torch.optim import RMSprop

Path("imported").touch()
gym.register("Mine-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)


class Mine(RMSprop):
    pass


class Damp(gym.ActionWrapper):
    def action(self, action):
        return 0 * action


class Encoder(nn.Flatten):
    def __init__(self, observation_space):
        super().__init__()


class Policy(ActorCriticPolicy):
    pass


def choose(history, random):
    return {"length": 0.5}
"""
TEACHER = {"teacher": {"targets": ["length"], "choose": "strangers:choose"}}
NAMED = {
    "env.id": {"env": {"id": "strangers:Mine-v0"}},
    "agent.policy.encoder": {"agent": {"policy": {"encoder": "strangers.Encoder"}}},
    "agent.policy.module": {"agent": {"policy": {"module": "strangers.Policy"}}},
    "agent.optimizer": {"agent": {"optimizer": "strangers.Mine"}},
    "env.curriculum.teacher.choose": {"env": {"curriculum": TEACHER}},
    "env.wrappers.1": {"env": {"wrappers": ["FlattenObservation", {"strangers:Damp": {}}]}},
    "callbacks.0.env": {"callbacks": [{"EvalCallback": {"env": "strangers:Mine-v0"}}]},
    "env.kwargs.inner.0": {"env": {"kwargs": {"inner": ["strangers:Mine-v0"]}}},
    "env.kwargs.no_id": {"env": {"kwargs": {"no_id": "strangers:$"}}},
    "env.kwargs.by_id": {"env": {"kwargs": {"by_id": {"strangers:Mine-v0": 1}}}},
}
METRICS = "time/total_timesteps,rollout/ep_rew_mean\n100,1\n200,2\n"


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A working folder with a module, which is removed from ``sys.modules`` at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "strangers.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("strangers", None)


def write_run(folder, tree):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(parse_config(tree).to_yaml())
    (folder / "metrics.csv").write_text(METRICS)


@pytest.mark.parametrize("key", NAMED)
def test_named_code_finds_the_key_of_user_code(key):
    assert list(named_code(parse_config(NAMED[key]))) == [key]


@pytest.mark.parametrize("name", ["drifting_cartpole", "mastery_cartpole", "pendulum_a2c"])
def test_named_code_of_a_packaged_configuration_is_empty(name):
    assert named_code(read_config(name)) == {}


@pytest.mark.parametrize("key", NAMED)
@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_run_folder_that_names_code_without_trust_raises(command, key, working_folder, capsys):
    sys.path.insert(0, str(working_folder))
    write_run(working_folder / "run", NAMED[key])
    assert main([command, "run"]) == 2
    said = capsys.readouterr().err
    assert "strangers" in said
    for named in (key, "run names code that may be imported and run: ", f"rl-rms {command} run --trust"):
        assert named in said
    assert not (working_folder / "imported").exists()


@pytest.mark.parametrize(
    "callback",
    [
        {"CheckpointCallback": {"folder": "victim", "every": 100, "keep": 1}},
        {"EvalCallback": {"best_path": "victim/final"}},
        "WandbCallback",
        {"MLflowCallback": {"run_name": "stranger"}},
    ],
    ids=str,
)
def test_resume_with_a_callback_that_writes_elsewhere_without_trust_raises(callback, working_folder, capsys):
    write_run(working_folder / "run", {"callbacks": [callback]})
    (working_folder / "victim").mkdir()
    (working_folder / "victim" / "final.safetensors").write_text("precious")
    assert main(["resume", "run"]) == 2
    said = capsys.readouterr().err
    name = callback if isinstance(callback, str) else next(iter(callback))
    for named in (name, "outside of the folder", "rl-rms resume run --trust"):
        assert named in said
    assert [path.name for path in (working_folder / "victim").iterdir()] == ["final.safetensors"]
    assert (working_folder / "victim" / "final.safetensors").read_text() == "precious"


def test_check_folder_callbacks_without_effects_elsewhere_are_accepted(tmp_path):
    callbacks = ["AdaptationCallback", {"EvalCallback": {"every": 100}}, {"HistogramCallback": {"every": 100}}]
    check_folder(parse_config({"callbacks": callbacks}), tmp_path, "resume", trust=False)


def test_check_folder_callbacks_that_write_elsewhere_are_accepted_by_evaluate(tmp_path):
    check_folder(parse_config({"callbacks": ["WandbCallback"]}), tmp_path, "evaluate", trust=False)


@pytest.mark.parametrize("key", NAMED)
@pytest.mark.parametrize("command", ["report", "plot"])
def test_report_and_plot_do_not_import_code_of_a_run_folder(command, key, working_folder):
    sys.path.insert(0, str(working_folder))
    write_run(working_folder / "run", NAMED[key])
    assert main([command, "run"]) == 0
    assert not (working_folder / "imported").exists()


def test_train_imports_code_of_the_working_folder(working_folder, capsys):
    words = ["--total_timesteps=200", "--env.num_envs=2", "--progress=none", "--runs_dir=runs"]
    words += ["--env.id=strangers:Mine-v0", "--env.wrappers=['strangers:Damp']"]
    words += ["--agent.optimizer=strangers.Mine", "--agent.half_life=null"]
    words += ["--agent.policy.encoder=strangers.Encoder", "--agent.policy.module=strangers.Policy"]
    assert main(["train", "cartpole_a2c", *words]) == 0
    folder = capsys.readouterr().out.strip()
    assert (working_folder / "imported").exists()
    assert main(["evaluate", folder, "--episodes=1"]) == 2
    assert main(["evaluate", folder, "--episodes=1", "--trust"]) == 0
    assert main(["resume", folder, "--total_timesteps=400"]) == 2
    assert main(["resume", folder, "--total_timesteps=400", "--trust"]) == 0


@pytest.mark.parametrize("planted", ["checkpoints", "metrics.csv", "videos"])
def test_run_folder_with_a_link_without_trust_raises(planted, working_folder, capsys):
    write_run(working_folder / "run", {})
    (working_folder / "victim").mkdir()
    (working_folder / "run" / planted).unlink(missing_ok=True)
    (working_folder / "run" / planted).symlink_to(working_folder / "victim")
    if planted == "metrics.csv":
        (working_folder / "run" / planted).unlink()
        (working_folder / "victim.csv").write_text(METRICS)
        (working_folder / "run" / planted).symlink_to(working_folder / "victim.csv")
    assert main(["resume", "run"]) == 2
    said = capsys.readouterr().err
    for named in (planted, "victim", "is a link", "--trust"):
        assert named in said
    assert list((working_folder / "victim").iterdir()) == []


def test_scale_address_in_a_run_folder_names_the_option(working_folder, capsys):
    write_run(working_folder / "run", {})
    (working_folder / "run" / "config.yaml").write_text("scale: {engine: ray, address: 'ray://elsewhere:1'}\n")
    for command in ("resume", "evaluate", "report", "plot"):
        assert main([command, "run"]) == 2
        assert "--scale.address" in capsys.readouterr().err
