import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "half_life.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("half_life_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("task", ["reward x100", "curriculum"])
def test_a_training_has_a_score_in_every_bin_and_is_the_same_again(benchmark, task):
    first, again = (benchmark.train(task, "20", 2e-3, seed=3, life=20_000) for _ in range(2))
    assert first == again
    assert len(first) == 4
    assert all(8 <= score <= 500 for score in first)
    assert first != benchmark.train(task, "20", 2e-3, seed=4, life=20_000)


def test_every_contender_and_task_can_be_made(benchmark):
    for task in benchmark.TASKS:
        assert len(benchmark.train(task, "match", 2e-3, seed=0, life=5_000)) == 1
    for contender in benchmark.CONTENDERS:
        assert len(benchmark.train("dynamics jumps", contender, 2e-3, seed=0, life=5_000)) == 1


def told(benchmark, path, best, monkeypatch):
    """Records of trainings that score by how far, in factors of 2, the rate is from the best."""
    calls = []

    def train(task, contender, rate, seed):
        calls.append((rate, seed))
        return [100.0 - 10.0 * abs(float(np.log2(rate / best)))] * 40

    monkeypatch.setattr(benchmark, "train", train)
    monkeypatch.setattr(benchmark, "RUNS", path)
    return calls


@pytest.mark.parametrize("power", [-4, -1, 0, 3])
def test_the_best_rate_is_climbed_to_and_its_neighbours_have_ten_seeds(benchmark, tmp_path, monkeypatch, power):
    best = 2e-3 * 2.0**power
    calls = told(benchmark, tmp_path / "runs.jsonl", best, monkeypatch)
    benchmark.duel("stationary", "69")
    ten = {rate for rate, seed in calls if seed == 9}
    assert ten == {best / 2, best, 2 * best}
    assert not {seed for _, seed in calls if seed not in (*benchmark.SEEDS, *benchmark.SWEEP_SEEDS)}
    done = len(calls)
    assert done == len(set(calls))
    benchmark.duel("stationary", "69")  # all of it stands in the file
    assert len(calls) == done
    (found,) = benchmark.best_rates(benchmark.Records(tmp_path / "runs.jsonl"))["stationary"].values()
    assert found[0] == best
    assert found[1].shape == (10, 40)


def test_stretches_by_hand(benchmark):
    # Five regimes of eight bins; the first quarter of a regime is its first two bins.
    scores = np.zeros((1, 40))
    scores[0, :2] = 7.0  # the first regime's beginning follows no change
    scores[0, 8:10] = 4.0
    scores[0, 38:] = 10.0
    found = benchmark.stretches(scores)
    assert found["whole life"] == pytest.approx([(14 + 8 + 20) / 40])
    assert found["after changes"] == pytest.approx([8 / 8])
    assert found["late"] == pytest.approx([20 / 10])
