import csv
import math

import gymnasium as gym
import pytest

from rl_rms.agents import A2C
from rl_rms.agents.env_state import change_scalars, find_changing
from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.curricula import Staged, SuccessGated
from rl_rms.envs.schedules import Linear

CHANGES = {"gravity": Linear(start=9.8, end=19.8, over=1_000)}


def test_find_changing_in_a_wrapped_environment_finds_it_and_save_keeps_its_clock(tmp_path):
    env = NonStationary(gym.make("CartPole-v1"), CHANGES)
    agent = A2C(gym.wrappers.TimeAwareObservation(env), seed=0).learn(300)
    assert find_changing(agent.env) is env
    assert env.clock == agent.num_timesteps
    assert change_scalars(env) == {
        "env/gravity": pytest.approx(9.8 + env.clock / 100),
        "env/regime": 0.0,
        "env/timescale": 1_000.0,
    }
    path = agent.save(tmp_path / "agent")
    again = NonStationary(gym.make("CartPole-v1"), CHANGES)
    loaded = A2C.load(path, env=gym.wrappers.TimeAwareObservation(again)).learn(50)
    assert again.clock == loaded.num_timesteps > 300


def test_find_changing_in_a_wrapped_vector_finds_it():
    curriculum = Staged([{"length": 0.5}, {"length": 0.25}], threshold=400)
    changing = make_vec("CartPole-v1", 3, CHANGES, curriculum=curriculum, sharing="independent")
    assert find_changing(gym.wrappers.vector.RecordEpisodeStatistics(changing)) is changing
    assert set(change_scalars(changing)) == {
        "env/gravity",
        "env/length",
        "env/regime",
        "env/timescale",
        "curriculum/stage",
        "curriculum/difficulty",
    }


def test_load_restores_the_curriculum_and_the_log_has_its_stage(tmp_path):
    def make():
        levels = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]
        curriculum = SuccessGated(levels, success_return=10, min_episodes=5, cooldown=5, window=20)
        return make_vec("CartPole-v1", 4, CHANGES, curriculum=curriculum, seed=0)

    agent = A2C(make(), seed=0).learn(2_000, log_dir=tmp_path / "run", log_interval=1)
    curriculum = agent.env.curriculum
    assert curriculum.stage_changes >= 2
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make())
    loaded.learn(20)
    again = loaded.env.curriculum
    assert (again.stage, again.stage_changes) == (curriculum.stage, curriculum.stage_changes)
    assert again.timescale >= curriculum.timescale * 0.7
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["curriculum/stage"] for row in rows} >= {"0.0", "1.0"}
    assert "curriculum/success_rate" in rows[-1]


def test_matched_half_life_uses_the_timescale_of_the_curriculum():
    levels = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]
    env = make_vec("CartPole-v1", 4, curriculum=Staged(levels, threshold=0, window=5), seed=0)
    agent = A2C(env, half_life="match", seed=0)
    assert agent.optimizer.timescale.value == math.inf
    agent.learn(1_000)
    assert env.curriculum.stage == 2
    assert agent.optimizer.timescale.value == pytest.approx(env.timescale, rel=0.1)


def test_find_changing_in_a_stationary_environment_is_none():
    assert find_changing(gym.make_vec("CartPole-v1", 2)) is None
    assert find_changing(gym.make_vec("CartPole-v1", 1, vectorization_mode="sync")) is None
