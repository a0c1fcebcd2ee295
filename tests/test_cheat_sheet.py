"""The names of the cheat sheet exist in rl_rms, Stable-Baselines3 and torch."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import stable_baselines3
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

import rl_rms
from rl_rms.agents import A2C, PPO, EvalCallback
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cheat_sheet.md").read_text()


def column(heading, number):
    """Names in a column of the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")][2:]
    return [one for row in rows for one in re.findall(r"`([^`]+)`", row[number])]


def arguments(function):
    return set(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("heading", "number", "function"),
    [
        ("Arguments of the agent", 0, stable_baselines3.A2C),
        ("Arguments of the agent", 2, A2C),
        ("Further arguments of PPO", 0, stable_baselines3.PPO),
        ("Further arguments of PPO", 2, PPO),
        ("Arguments of the optimizer", 0, torch.optim.RMSprop),
        ("Arguments of the optimizer", 1, RMSpropTFLike),
        ("Arguments of the optimizer", 2, rl_rms.RMSprop),
    ],
)
def test_cheat_sheet_arguments_exist(heading, number, function):
    names = column(heading, number)
    assert len(names) >= 5
    assert set(names) <= arguments(function)


def test_cheat_sheet_names_every_learning_argument_of_other_libraries():
    others = {"policy", "sde_sample_freq", "rollout_buffer_class", "rollout_buffer_kwargs", "stats_window_size"}
    others |= {"verbose", "_init_setup_model"}
    of_a2c, of_ppo = (arguments(one) for one in (stable_baselines3.A2C, stable_baselines3.PPO))
    assert of_a2c - others == set(column("Arguments of the agent", 0))
    assert of_ppo - of_a2c == set(column("Further arguments of PPO", 0))


@pytest.mark.parametrize(
    "name",
    [
        *(f"stable_baselines3.{name}" for name in column("Functions and classes", 1)),
        *column("Functions and classes", 2),
    ],
)
def test_cheat_sheet_functions_exist(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part)
        return
    raise AssertionError(name)


def test_cheat_sheet_tags_are_logged(tmp_path):
    agent = A2C(make_vec("CartPole-v1", 1, {"gravity": Step(9.8, 5.0, at=100)}, seed=0), seed=0)
    agent.learn(500, EvalCallback(every=500, episodes=1), log_dir=tmp_path / "ours", log_interval=10)
    PPO("CartPole-v1", n_steps=64, seed=0).learn(64, log_dir=tmp_path / "ppo")
    written = set()
    for name in ("ours", "ppo"):
        written |= set((tmp_path / name / "metrics.csv").read_text().splitlines()[0].split(","))
    ours = set(column("Tags in TensorBoard", 2)) - {"env/"}
    assert ours <= written

    theirs = set()
    for kind, options in ((stable_baselines3.A2C, {"n_steps": 5}), (stable_baselines3.PPO, {"n_steps": 128})):
        model = kind("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **options)
        folder = tmp_path / kind.__name__
        model.set_logger(configure(str(folder), ["csv"]))
        evaluation = stable_baselines3.common.callbacks.EvalCallback(
            stable_baselines3.common.env_util.make_vec_env("CartPole-v1"),
            eval_freq=400,
            n_eval_episodes=1,
            verbose=0,
        )
        model.learn(500, log_interval=250 // options["n_steps"], callback=evaluation)
        model.logger.close()
        theirs |= set((folder / "progress.csv").read_text().splitlines()[0].split(","))
    assert set(column("Tags in TensorBoard", 0)) <= theirs
