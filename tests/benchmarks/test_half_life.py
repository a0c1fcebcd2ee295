from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "half_life.py"


@pytest.mark.parametrize("task", ["reward x100", "curriculum"])
def test_training_is_reproducible_and_has_a_score_in_every_bin(benchmark, task):
    first, again = (benchmark.train(task, "20", 2e-3, seed=3, life=20_000) for _ in range(2))
    assert first == again
    assert len(first) == 4
    assert all(8 <= score <= 500 for score in first)
    assert first != benchmark.train(task, "20", 2e-3, seed=4, life=20_000)


def test_every_contender_and_task_can_be_made(benchmark):
    for task in benchmark.TASKS:
        bins = benchmark.train(task, "match", 2e-3, seed=0, life=5_000)
        assert len(bins) == (2 if task.startswith("lake") else 1)
    for contender in benchmark.CONTENDERS:
        assert len(benchmark.train("dynamics jumps", contender, 2e-3, seed=0, life=5_000)) == 1


def test_score_on_frozen_lake_is_independent_of_the_reward_scale(benchmark):
    paid = [benchmark.Episode(ret, 9, 0, 90) for ret in (0.0, 1.0, 100.0)]
    assert [benchmark.TASKS["lake, reward x100"].score(one) for one in paid] == [0.0, 100.0, 100.0]
    assert benchmark.TASKS["reward x100"].score(paid[2]) == 9


def replace_training(benchmark, path, best, monkeypatch):
    """Replace training by a score that falls by 10 for each factor of 2 between the rate and the best rate."""
    calls = []

    def train(task, contender, rate, seed):
        calls.append((rate, seed))
        return [100.0 - 10.0 * abs(float(np.log2(rate / best)))] * 40

    monkeypatch.setattr(benchmark, "train", train)
    monkeypatch.setattr(benchmark, "RUNS", path)
    return calls


@pytest.mark.parametrize("power", [-4, -1, 0, 3])
def test_duel_trains_the_best_rate_and_its_neighbors_with_ten_seeds(benchmark, tmp_path, monkeypatch, power):
    best = 2e-3 * 2.0**power
    calls = replace_training(benchmark, tmp_path / "runs.jsonl", best, monkeypatch)
    benchmark.duel("stationary", "69")
    ten = {rate for rate, seed in calls if seed == 9}
    assert ten == {best / 2, best, 2 * best}
    assert not {seed for _, seed in calls if seed not in (*benchmark.SEEDS, *benchmark.SWEEP_SEEDS)}
    done = len(calls)
    assert done == len(set(calls))
    benchmark.duel("stationary", "69")
    assert len(calls) == done
    (found,) = benchmark.best_rates(benchmark.Records(tmp_path / "runs.jsonl", None))["stationary"].values()
    assert found[0] == best
    assert found[1].shape == (10, 40)


def test_report_shows_the_tasks_on_which_all_contenders_are_trained(benchmark, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rliable")
    for name, file in (("RUNS", "runs.jsonl"), ("TABLE", "table.md"), ("FIGURE", "figure.png")):
        monkeypatch.setattr(benchmark, name, tmp_path / file)

    def train(task, contender, rate, seed):
        return [float(seed + 10 * (contender == "200"))] * 40

    records = benchmark.Records(tmp_path / "runs.jsonl", train)
    for task, contenders in (("stationary", benchmark.CONTENDERS), ("curriculum", ["69", "200"])):
        for contender in contenders:
            records.mean(task, contender, 1e-3, benchmark.SEEDS)
    benchmark.report()
    table = (tmp_path / "table.md").read_text()
    assert "stationary" in table
    assert "curriculum" not in table
    assert "| 200 | **+10 (+10 to +10)** | **+10 (+10 to +10)** |" in table
    assert "| 69 | +0 (+0 to +0) | +0 (+0 to +0) |" in table
    assert "| 200 | **14 (" in table
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_documentation_shows_the_committed_differences():
    committed = (PATH.parent / "results" / "half_life.md").read_text()
    section = committed[committed.index("difference from") : committed.index("## Learning rates")]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 19
    shown = (PATH.parents[1] / "docs" / "half_life.md").read_text().splitlines()
    assert [row for row in rows if row not in shown] == []
