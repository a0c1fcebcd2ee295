import json
from pathlib import Path

import numpy as np
import pytest

from rl_rms.agents.rollout import Episode

PATH = Path(__file__).parents[2] / "benchmarks" / "trainings.py"


def test_bin_scores_of_empty_bins_are_those_of_the_bin_before(benchmark):
    episodes = [Episode(0.0, length, 0, at) for length, at in ((4, 11), (6, 20), (9, 41), (3, 55))]
    # Bins have ten env steps. The first, third and fourth bins are empty. The last bin includes later episodes.
    scores = benchmark.bin_scores(episodes, lambda one: one.length, 10, 5)
    assert scores == [5.0, 5.0, 5.0, 5.0, 6.0]


def test_records_train_once_and_keep_scores_and_seconds(benchmark, tmp_path):
    trained = []

    def train(*key):
        trained.append(key)
        return [1.0, 3.0]

    for _ in range(2):
        records = benchmark.Records(tmp_path / "runs.jsonl", train)
        assert records.mean("task", "contender", 0.1, (4, 5)) == 2.0
    assert trained == [("task", "contender", 0.1, 4), ("task", "contender", 0.1, 5)]
    first, _ = map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines())
    assert first[:5] == ["task", "contender", 0.1, 4, [1.0, 3.0]]
    assert first[5] == records.seconds["task", "contender", 0.1, 4] >= 0.0


def test_records_read_lines_without_seconds(benchmark, tmp_path):
    (tmp_path / "runs.jsonl").write_text('["task","contender",0.1,4,[2.0]]\n')
    records = benchmark.Records(tmp_path / "runs.jsonl", None)
    assert records.get("task", "contender", 0.1, 4) == [2.0]
    assert not records.seconds


@pytest.mark.parametrize("power", [-4, -1, 0, 3])
def test_climb_finds_the_best_rate_and_tries_both_neighbors(benchmark, power):
    tried = []

    def score(rate):
        tried.append(round(np.log(rate) / np.log(3.0)))
        return -abs(tried[-1] - power)

    assert benchmark.climb(score, 1.0, 3.0) == pytest.approx(3.0**power, rel=1e-5)
    assert {power - 1, power + 1} <= set(tried)
    assert len(tried) == len(set(tried))


def test_stretches_equal_hand_computed_values(benchmark):
    # Five regimes of eight bins; the first quarter of a regime is its first two bins.
    scores = np.zeros((1, 40))
    scores[0, :2] = 7.0  # the first regime follows no change
    scores[0, 8:10] = 4.0
    scores[0, 38:] = 10.0
    found = benchmark.stretches(scores)
    assert found["whole life"] == pytest.approx([(14 + 8 + 20) / 40])
    assert found["after changes"] == pytest.approx([8 / 8])
    assert found["late"] == pytest.approx([20 / 10])


def test_best_rates_needs_all_seeds(benchmark, tmp_path):
    records = benchmark.Records(tmp_path / "runs.jsonl", lambda task, contender, rate, seed: [rate, float(seed)])
    for rate, seeds in ((1.0, benchmark.SEEDS), (2.0, benchmark.SEEDS), (3.0, benchmark.SEEDS[:9])):
        records.mean("task", "contender", rate, seeds)
    rate, scores = benchmark.best_rates(records)["task"]["contender"]
    assert rate == 2.0
    assert scores.tolist() == [[2.0, float(seed)] for seed in benchmark.SEEDS]


def test_bootstrap_of_a_difference_in_every_seed_is_above_0(benchmark):
    low, high = benchmark.bootstrap(np.array([3.0, 5.0, 4.0, 6.0, 2.0]))
    assert 2.0 <= low < 4.0 < high <= 6.0


def test_ratio_is_the_geometric_mean_over_tasks_and_pairs_seeds(benchmark):
    theirs = np.array([10.0, 20.0, 400.0])
    # Every seed has the same ratio, so the interval has no width although the seeds differ.
    assert benchmark.ratio({"a": (8.0 * theirs, theirs), "b": (theirs / 2.0, theirs)}) == pytest.approx((2.0,) * 3)
    middle, low, high = benchmark.ratio({"a": (theirs[::-1], theirs)})
    assert middle == pytest.approx(1.0)
    assert low < 0.5
    assert high > 2.0


def test_ratio_of_scores_below_1_is_finite(benchmark):
    assert benchmark.ratio({"a": (np.array([5.0, 5.0]), np.zeros(2))}) == pytest.approx((5.0,) * 3)
