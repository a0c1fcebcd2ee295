from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[2] / "benchmarks" / "jumps.py"


def test_jumps_of_a_known_stream_are_found_by_both_rules(benchmark):
    observations = np.random.default_rng(0).normal(size=(800, 16, 3))
    observations[400:] += 9.0
    stream = benchmark.Stream(observations, np.ones((800, 16), bool))
    assert benchmark.jumps(stream, slice(None), 8) == {"simple": [400 * 16], "detector": [400 * 16]}


def test_delays_ignore_the_change_at_the_end_of_the_training(benchmark, monkeypatch):
    # A regime is 2,500 vector steps. The last rollout of 8 vector steps contains the start of the sixth regime.
    observations = np.random.default_rng(0).normal(size=(12_504, 16, 3))
    observations[2_500:] += 9.0
    observations[12_500:] += 30.0
    stream = benchmark.Stream(observations, np.ones((12_504, 16), bool))
    monkeypatch.setattr(benchmark, "record", lambda *args, **kwargs: stream)
    measured = benchmark.delays(0)
    assert measured["8 simple"] == measured["8 detector"] == {"delays": [1, None, None, None], "others": 0}


def test_report_has_a_row_for_each_shape_and_rule(benchmark):
    alarms = benchmark.false_alarms("CartPole-v1", 2_000, learns=False)
    delays = {"seed": 0, "8 simple": {"delays": [1, 2, None, 11], "others": 1}}
    report = benchmark.report({"false_alarms": [alarms], "delays": [delays]})
    for num_envs, n_steps in benchmark.SHAPES:
        assert f"\n| {num_envs} | {n_steps} | " in report
    assert "\n| 8 | simple | 25 % | 50 % | 50 % | 5.0 |" in report
