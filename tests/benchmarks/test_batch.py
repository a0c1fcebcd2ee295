from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "batch.py"


def test_train_of_every_contender_is_reproducible(benchmark):
    for contender, (workers, half_life, rates) in benchmark.CONTENDERS.items():
        first, again = (benchmark.train(contender, rates[0], seed=1, total_timesteps=12_000) for _ in range(2))
        assert first == again
        assert 8 < first <= 500
        # 12,800 env steps are 200 updates of one worker, each with 64 env steps.
        if isinstance(half_life, str):
            env_steps = float(half_life.split()[0].replace("_", ""))
            assert env_steps == 200 * benchmark.NUM_ENVS * benchmark.N_STEPS
            assert workers == 64


def test_run_skips_finished_runs_and_table_shows_the_best_rate(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("rliable")
    monkeypatch.setattr(benchmark, "RUNS", tmp_path / "runs.jsonl")
    contenders = {"one": (1, 200, (1e-3, 2e-3)), "many": (64, 200, (8e-3, 1.6e-2))}
    monkeypatch.setattr(benchmark, "CONTENDERS", contenders)
    calls = []

    def train(contender, rate, seed):
        calls.append((contender, rate, seed))
        return 100.0 + 1e4 * rate + seed

    monkeypatch.setattr(benchmark, "train", train)
    for _ in range(2):
        for contender, (_, _, rates) in contenders.items():
            for rate in rates:
                for seed in range(4):
                    if (contender, rate, seed) not in benchmark.read():
                        benchmark.one(contender, rate, seed)
    assert len(calls) == len(set(calls)) == 16
    table = benchmark.table(benchmark.read())
    assert "| one | 0.002 | 122 (" in table
    assert "| 0.001: 112 |" in table
    assert "| many | 0.016 | 262 (" in table
