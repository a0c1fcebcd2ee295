import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TransformReward

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.make import make_from_config, make_vec
from tests.naming import naming

STAGED = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400}}


def test_make_from_config_has_the_configured_environment():
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


def test_frame_stack_shows_the_last_observations():
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
    assert make_from_config(EnvConfig(id="CartPole", num_envs=1, frame_stack=2), seed=0).spec.id == "CartPole-v1"


def test_make_vec_of_a_task_id_with_its_module_makes_that_task():
    env = make_vec("rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0", 2, seed=0)
    assert set(env.parameters) == set(make_vec("rl_rms/DriftingCartPole-v0", 2, seed=0).parameters)
    with pytest.raises(ValueError, match=naming("env.frame_stack", "ready-made")):
        EnvConfig(id="rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0", frame_stack=2)


@pytest.mark.parametrize("name", ["seed", "sharing", "num_envs"])
def test_kwargs_argument_of_make_vec_is_named(name):
    with pytest.raises(ValueError, match=naming("env.kwargs", f"'{name}'", "leave it out")):
        make_from_config(EnvConfig(kwargs={name: 3}), seed=0)


def test_make_vec_wrappers_are_around_the_changing_environment():
    env = make_vec(
        "Pendulum-v1", 2, {"reward.scale": 0.0}, wrappers=[lambda env: TransformReward(env, lambda r: r + 1)]
    )
    assert isinstance(env.unwrapped, SyncVectorEnv)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1].tolist() == [1.0, 1.0]


def test_make_vec_indivisible_sub_environments_names_the_numbers():
    with pytest.raises(ValueError, match=naming("num_envs", "3 workers", "8")):
        make_from_config(EnvConfig(num_envs=8), seed=0, shard=(0, 3))
