from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "results.py"


@pytest.mark.parametrize("agent", ["rl_rms", "sb3"])
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_a_training_is_evaluated_ten_times_on_the_way_and_at_the_end(benchmark, monkeypatch, agent, id):
    monkeypatch.setattr(benchmark, "EPISODES", 2)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 10)
    on_the_way, last = benchmark.TRAIN[agent](id, 0, 1_600)
    assert len(on_the_way) == 10
    assert len(last) == 10
    low, high = (8, 500) if id == "CartPole-v1" else (-2_000, 0)
    assert all(low <= score <= high for score in (*on_the_way, *last))


def test_every_recipe_makes_an_agent_of_ours(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "EPISODES", 1)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 1)
    monkeypatch.setattr(benchmark, "NUM_EVALUATIONS", 1)
    for id, recipe in benchmark.RECIPES.items():
        assert gym.spec(id) is not None
        if id in ("Acrobot-v1", "Hopper-v5"):
            benchmark.train_ours(id, 0, recipe.num_envs * 10)


def test_a_collapse_is_an_end_far_below_the_best(benchmark):
    runs = [([100.0, 500.0], [300.0]), ([100.0, 500.0], [200.0]), ([400.0, 80.0], [90.0])]
    assert benchmark.collapses(runs, random=20.0) == 2


def test_finished_trainings_are_not_done_again(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setitem(benchmark.TRAIN, "rl_rms", lambda id, seed, steps: ([1.0], [float(seed)] * 3))
    benchmark.one("CartPole-v1", "rl_rms", 4)
    assert benchmark.read() == {("CartPole-v1", "rl_rms", 4): ([1.0], [4.0, 4.0, 4.0])}


def test_interquartile_means(benchmark):
    pytest.importorskip("rliable")
    middle, low, high = benchmark.interquartile_mean(np.array([0.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 1000.0]))
    assert middle == pytest.approx(12.5)
    assert 0.0 < low < 12.5 < high < 1000.0
