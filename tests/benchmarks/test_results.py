import dataclasses
from concurrent.futures import Future
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "results.py"


@pytest.mark.parametrize("agent", ["rl_rms", "sb3", "rl_rms PPO", "sb3 PPO"])
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_training_is_evaluated_ten_times_and_at_the_end(benchmark, monkeypatch, agent, id):
    monkeypatch.setattr(benchmark, "EPISODES", 2)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 10)
    monkeypatch.setattr(benchmark, "EVAL_ENVS", 2)
    algorithm, train = benchmark.AGENTS[agent]
    recipe = benchmark.RECIPES[algorithm][id]
    short = {"n_steps": 256 // recipe.num_envs}
    recipe = dataclasses.replace(recipe, steps=2_560, ours=recipe.ours | short, zoo=recipe.zoo | short)
    on_the_way, last = train(algorithm, id, 0, recipe)
    assert len(on_the_way) == len(last) == 10
    low, high = (8, 500) if id == "CartPole-v1" else (-2_000, 0)
    assert all(low <= score <= high for score in (*on_the_way, *last))


def test_every_recipe_makes_an_agent(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "EPISODES", 1)
    monkeypatch.setattr(benchmark, "LAST_EPISODES", 1)
    monkeypatch.setattr(benchmark, "NUM_EVALUATIONS", 1)
    for algorithm, recipes in benchmark.RECIPES.items():
        for id, recipe in recipes.items():
            assert gym.spec(id) is not None
            if id in ("Acrobot-v1", "Hopper-v5"):
                benchmark.train_ours(algorithm, id, 0, dataclasses.replace(recipe, steps=recipe.num_envs * 10))


def test_collapses_counts_ends_far_below_the_best(benchmark):
    runs = [([100.0, 500.0], [300.0]), ([100.0, 500.0], [200.0]), ([400.0, 80.0], [90.0])]
    assert benchmark.collapses(runs, random=20.0) == 2


def test_run_skips_finished_runs(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setitem(
        benchmark.AGENTS, "rl_rms", ("A2C", lambda algorithm, id, seed, recipe: ([1.0], [float(seed)] * 3))
    )
    benchmark.one("CartPole-v1", "rl_rms", 4)
    assert benchmark.read() == {("CartPole-v1", "rl_rms", 4): ([1.0], [4.0, 4.0, 4.0])}


def test_try_out_prints_scores_of_changed_hyperparameters(benchmark, monkeypatch, capsys):
    asked = []

    def train(algorithm, id, seed, recipe):
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
    benchmark.try_out("A2C", ["Acrobot-v1"], [{"lr": 0.25, "num_envs": 3, "policy": {"log_std_init": 1.0}}], 2, 1)
    assert [seed for seed, _ in asked] == [0, 1]
    changed = asked[0][1]
    assert (changed.ours["lr"], changed.num_envs, changed.policy) == (0.25, 3, {"log_std_init": 1.0})
    assert changed.ours["n_steps"] == benchmark.A2C_RECIPES["Acrobot-v1"].ours["n_steps"]
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
    monkeypatch.setattr(benchmark, "EVAL_ENVS", 2)
    recipe = dataclasses.replace(benchmark.A2C_RECIPES["CartPole-v1"], steps=1_600)
    monkeypatch.setitem(benchmark.RECIPES, "A2C", {"CartPole-v1": recipe})
    monkeypatch.delitem(benchmark.RECIPES, "PPO")
    for agent, seeds in (("rl_rms", (1, 2, 3)), ("sb3", (1, 2))):
        for seed in seeds:
            benchmark.one("CartPole-v1", agent, seed)
    means = [np.mean(last) for (_, agent, _), (_, last) in benchmark.read().items() if agent == "rl_rms"]
    benchmark.report()
    (row,) = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| CartPole")]
    _, _, steps, ours, theirs, published, _ = row.split("|")
    assert (steps.strip(), published.strip()) == ("1,600", recipe.published)
    low, high = min(means), max(means)
    middle, interval = ours.split("(")
    assert low <= float(middle) + 0.05
    assert float(middle) - 0.05 <= high
    assert "), 3 seeds" in interval
    # Two seeds have no interval.
    assert ", 2 seeds" in theirs
    assert "(" not in theirs


@pytest.mark.slow
def test_report_of_the_committed_returns_is_in_the_documentation(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("rliable")
    monkeypatch.setattr(benchmark, "TABLE", tmp_path / "table.md")
    benchmark.report()
    documented = (PATH.parents[1] / "docs" / "agents.md").read_text()
    _, *sections = (tmp_path / "table.md").read_text().split("## ")
    for section, recipes in zip(sections, benchmark.RECIPES.values(), strict=True):
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) == 2 + len(recipes)
        trained = [row for row in rows if "not run | not run" not in row]
        assert "\n".join(trained) in documented
