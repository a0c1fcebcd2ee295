import dataclasses
from concurrent.futures import Future
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "results.py"


@pytest.mark.parametrize("agent", ["rl_rms", "sb3"])
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_training_is_evaluated_ten_times_and_at_the_end(benchmark, monkeypatch, agent, id):
    monkeypatch.setattr(benchmark, "EPISODES", 2)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 10)
    recipe = dataclasses.replace(benchmark.RECIPES[id], steps=1_600)
    on_the_way, last = benchmark.TRAIN[agent](id, 0, recipe)
    assert len(on_the_way) == 10
    assert len(last) == 10
    low, high = (8, 500) if id == "CartPole-v1" else (-2_000, 0)
    assert all(low <= score <= high for score in (*on_the_way, *last))


def test_every_recipe_makes_an_agent(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "EPISODES", 1)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 1)
    monkeypatch.setattr(benchmark, "NUM_EVALUATIONS", 1)
    for id, recipe in benchmark.RECIPES.items():
        assert gym.spec(id) is not None
        if id in ("Acrobot-v1", "Hopper-v5"):
            benchmark.train_ours(id, 0, dataclasses.replace(recipe, steps=recipe.num_envs * 10))


def test_collapses_counts_ends_far_below_the_best(benchmark):
    runs = [([100.0, 500.0], [300.0]), ([100.0, 500.0], [200.0]), ([400.0, 80.0], [90.0])]
    assert benchmark.collapses(runs, random=20.0) == 2


def test_run_skips_finished_runs(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setitem(benchmark.TRAIN, "rl_rms", lambda id, seed, recipe: ([1.0], [float(seed)] * 3))
    benchmark.one("CartPole-v1", "rl_rms", 4)
    assert benchmark.read() == {("CartPole-v1", "rl_rms", 4): ([1.0], [4.0, 4.0, 4.0])}


def test_try_out_prints_scores_of_changed_hyperparameters(benchmark, monkeypatch, capsys):
    asked = []

    def train(id, seed, recipe):
        asked.append((seed, recipe))
        return [1.0, 2.0], [10.0 * seed, 10.0 * seed]

    class Here:
        def __init__(self, processes):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            pass

        def submit(self, function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(benchmark, "train_ours", train)
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Here)
    benchmark.try_out(["Acrobot-v1"], [{"lr": 0.25, "num_envs": 3, "policy": {"log_std_init": 1.0}}], 2, 1)
    assert [seed for seed, _ in asked] == [0, 1]
    changed = asked[0][1]
    assert (changed.ours["lr"], changed.num_envs, changed.policy) == (0.25, 3, {"log_std_init": 1.0})
    assert changed.ours["n_steps"] == benchmark.RECIPES["Acrobot-v1"].ours["n_steps"]
    assert "num_envs" not in changed.ours
    assert "mean 5.0, of 0.0, 10.0; on the way 1, 2" in capsys.readouterr().out


def test_interquartile_mean_equals_hand_computed_values(benchmark):
    pytest.importorskip("rliable")
    middle, low, high = benchmark.interquartile_mean(np.array([0.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 1000.0]))
    assert middle == pytest.approx(12.5)
    assert 0.0 < low < 12.5 < high < 1000.0


def test_report_of_small_trainings_has_a_row_of_their_returns(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("rliable")
    monkeypatch.setattr(benchmark, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(benchmark, "TABLE", tmp_path / "table.md")
    monkeypatch.setattr(benchmark, "EPISODES", 1)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 2)
    recipe = dataclasses.replace(benchmark.RECIPES["CartPole-v1"], steps=1_600)
    monkeypatch.setitem(benchmark.RECIPES, "CartPole-v1", recipe)
    for agent in ("rl_rms", "sb3"):
        for seed in (1, 2):
            benchmark.one("CartPole-v1", agent, seed)
    means = [np.mean(last) for (_, agent, _), (_, last) in benchmark.read().items() if agent == "rl_rms"]
    benchmark.report()
    (row,) = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| CartPole")]
    _, _, steps, ours, theirs, published, _ = row.split("|")
    assert (steps.strip(), published.strip()) == ("1,600", recipe.published)
    assert f"{np.mean(means):.1f} (" in ours
    assert all("2 seeds" in cell for cell in (ours, theirs))


@pytest.mark.slow
def test_report_of_the_committed_returns_is_in_the_documentation(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("rliable")
    monkeypatch.setattr(benchmark, "TABLE", tmp_path / "table.md")
    benchmark.report()
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(benchmark.RECIPES)
    run = [row for row in rows if "not run | not run" not in row]
    assert "\n".join(run) in (PATH.parents[1] / "docs" / "agents.md").read_text()
