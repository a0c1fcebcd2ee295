import json
import subprocess
import sys
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.make import find_spec, make_from_config, make_vec
from rl_rms.envs.schedules import Constant, Sinusoid

STAGED = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400}}


def test_it_holds_schedules_and_a_curriculum_in_their_yaml_form():
    config = EnvConfig(
        changes={"gravity": {"sinusoid": {"mean": 9.8, "amplitude": 4, "period": 20_000}}, "reward.scale": 2},
        curriculum=STAGED,
    )
    assert config.schedules() == {"gravity": Sinusoid(9.8, 4, 20_000), "reward.scale": Constant(2)}
    first, second = config.make_curriculum(), config.make_curriculum()
    assert first is not second
    assert first.targets == ("length",)
    assert EnvConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert EnvConfig().make_curriculum() is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"changes": {"gravity": {"sinusoid": {"ampltude": 4}}}},
            "env.changes.gravity: sinusoid has no argument 'ampltude'; it takes mean, amplitude, period, phase",
        ),
        ({"changes": {"gravity": {"sinusiod": {}}}}, "env.changes.gravity: a schedule must be one of .*sinusoid"),
        (
            {"changes": {"length": {"redraw": {"low": 1, "high": 2, "every": 0}}}},
            "env.changes.length: Redraw: every must be a whole number >= 1 env steps, got 0",
        ),
        ({"changes": [1]}, "env.changes must hold keys"),
        ({"curriculum": {"stagd": {}}}, "env.curriculum: a curriculum must be one of .*staged"),
        (
            {"curriculum": STAGED, "changes": {"length": 1}},
            "'length' is set by both env.changes and env.curriculum",
        ),
        (
            {"curriculum": STAGED, "vectorization_mode": "async", "autoreset_mode": "SameStep"},
            "env.curriculum cannot be with env.vectorization_mode async and env.autoreset_mode SameStep",
        ),
        ({"num_envs": 0}, "env.num_envs must be a whole number >= 1, got 0"),
        ({"drift_seed": -1}, "env.drift_seed must be a whole number >= 0, got -1"),
        ({"sharing": "both"}, "env.sharing must be one of shared, phase, independent, got 'both'"),
        (
            {"vectorization_mode": "fast"},
            "env.vectorization_mode must be one of vector_entry_point, sync, async, null",
        ),
        ({"autoreset_mode": "Never"}, "env.autoreset_mode must be one of NextStep, SameStep, Disabled, null"),
        (
            {"autoreset_mode": "SameStep", "vectorization_mode": "vector_entry_point"},
            "set env.vectorization_mode to sync or async",
        ),
    ],
)
def test_what_is_wrong_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        EnvConfig(**arguments)


def test_the_world_is_made_as_it_says():
    config = EnvConfig(
        id="Pendulum-v1",
        num_envs=3,
        autoreset_mode="SameStep",
        changes={"g": {"redraw": {"low": 1, "high": 9, "every": 10}}},
        sharing="independent",
        kwargs={"render_mode": "rgb_array"},
    )
    env = make_from_config(config, seed=5)
    assert (env.num_envs, env.render_mode, env.metadata["autoreset_mode"].value) == (3, "rgb_array", "SameStep")
    env.reset(seed=0)
    state = env.state_dict()
    assert {name: state[name] for name in ("clocks", "seed", "sharing")} == {
        "clocks": [0, 0, 0],
        "seed": 5,
        "sharing": "independent",
    }
    assert make_from_config(EnvConfig(drift_seed=8), seed=5).state_dict()["seed"] == 8
    assert make_from_config(EnvConfig(curriculum=STAGED), seed=5).curriculum.stage == 0


def test_configurations_and_schedules_load_without_gymnasium():
    program = "import sys, rl_rms.envs.config, rl_rms.envs.drift; print('gymnasium' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"frame_stack": 0}, "env.frame_stack must be a whole number >= 1"),
        ({"frame_stack": 2, "vectorization_mode": "vector_entry_point"}, "env.frame_stack cannot be with"),
        ({"frame_stack": 2, "id": "rl_rms/DriftingCartPole-v0"}, "env.frame_stack cannot be with the ready-made"),
    ],
)
def test_frames_that_cannot_be_stacked_are_named(given, named):
    with pytest.raises(ValueError, match=named):
        EnvConfig(**given)


def test_stacked_frames_show_the_last_observations():
    env = make_from_config(EnvConfig(id="CartPole-v1", num_envs=2, frame_stack=3), seed=0)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.zeros(2, dtype=int))
    assert first.shape == (2, 3, 4)
    assert np.array_equal(second[:, 1], first[:, 2])
    assert not np.array_equal(second[:, 2], second[:, 1])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_frame_stack_takes_an_id_with_a_module(mode, tmp_path, monkeypatch):
    (tmp_path / "breezy.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Breezy-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = EnvConfig(id="breezy:Breezy-v0", num_envs=2, frame_stack=3, vectorization_mode=mode)
    env = make_from_config(config, seed=0)
    assert env.single_observation_space.shape == (3, 4)
    env.close()


def test_frame_stack_of_an_id_without_a_version_takes_the_highest():
    spec = find_spec("CartPole")
    assert spec == gym.spec("CartPole-v1")
    assert make_from_config(EnvConfig(id="CartPole", num_envs=1, frame_stack=2), seed=0).spec.id == "CartPole-v1"


def test_frame_stack_of_an_unknown_id_names_it():
    with pytest.raises(gym.error.Error, match="Windless"):
        find_spec("Windless-v0")
    with pytest.raises(gym.error.Error, match="Windless"):
        find_spec("Windless")


def test_ready_made_world_with_its_module_is_that_world():
    env = make_vec("rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0", 2, seed=0)
    assert set(env.parameters) == set(make_vec("rl_rms/DriftingCartPole-v0", 2, seed=0).parameters)
    with pytest.raises(ValueError, match=r"env.frame_stack cannot be with the ready-made"):
        EnvConfig(id="rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0", frame_stack=2)


@pytest.mark.parametrize("name", ["seed", "sharing", "num_envs"])
def test_kwargs_argument_of_make_vec_is_named(name):
    with pytest.raises(ValueError, match=rf"env.kwargs cannot have the key '{name}'.*; leave it out"):
        make_from_config(EnvConfig(kwargs={name: 3}), seed=0)
