import json
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def run(benchmark, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["scale", *map(str, words)])
    benchmark.main()


@pytest.mark.slow
def test_speed_of_small_runs_has_every_part(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "command", lambda *_, **__: 2.0)
    output = tmp_path / "scale.json"
    run(benchmark, monkeypatch, "speed", "--rounds", 1, "--updates", 5, "--sizes", "4x2", "--output", output)
    table = output.with_suffix(".md").read_text()
    assert capsys.readouterr().out.strip() in table
    assert "| 4 x 2 | " in table
    assert "| two workers of torchrun | 2.0 |" in table


@pytest.mark.slow
def test_returns_of_small_runs_keep_the_other_parts(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "TOTAL_TIMESTEPS", 3_000)
    monkeypatch.setattr(benchmark, "TORCHRUN", ())
    output = tmp_path / "scale.json"
    output.write_text(json.dumps({"federation": {"4": [0.5, 1.5, 1.0]}}))
    run(benchmark, monkeypatch, "returns", "--seeds", 2, "--output", output)
    returns = json.loads(output.read_text())["returns"]
    assert returns["1"] == returns["2"]
    assert returns["1"][0] != returns["1"][1]
    assert all(10 < of_all < 100 for of_all, _ in returns["1"])
    assert "| 4 | 1.00 (0.50 to 1.50) | 4.0 |" in output.with_suffix(".md").read_text()


def test_tables_equal_hand_computed_values(benchmark):
    rounds = [
        {"one": {"update": 0.010}, "two": {"update": two}, "half": {"update": 0.006}}
        for two in (0.008, 0.010, 0.005)
    ]
    table = benchmark.speed_table({"sizes": {"100x10": rounds}, "commands": {"one process": [3.0, 5.0, 4.0]}})
    assert "| 100 x 10 | 100,000 env steps/s | 125,000 | 1.25 (1.00 to 2.00) | 6.00 ms | 2.00 ms |" in table
    assert "| one process | 4.0 |" in table
    table = benchmark.returns_table({"2": [(100.0, 500.0), (200.0, 500.0), (210.0, 500.0), (900.0, 500.0)]})
    assert "| 2 | 205 (" in table
    assert "| 500 (500 to 500) |" in table


@pytest.mark.slow
def test_federation_of_few_clients_has_rates(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("flwr")
    monkeypatch.setattr(benchmark, "CLIENTS", (2,))
    monkeypatch.setattr(benchmark, "ROUNDS", 3)
    output = tmp_path / "scale.json"
    run(benchmark, monkeypatch, "federation", "--rounds", 1, "--output", output)
    (rate,) = json.loads(output.read_text())["federation"]["2"]
    assert rate > 0
    assert f"| 2 | {rate:.2f} (" in output.with_suffix(".md").read_text()


def test_tables_of_the_committed_measurements_are_in_the_documentation(benchmark):
    pytest.importorskip("rliable")
    measured = json.loads((PATH.parent / "results" / "scale.json").read_text())
    shown = (PATH.parents[1] / "docs" / "scale.md").read_text()
    for part, table in benchmark.TABLES.items():
        rows = [line for line in table(measured[part]).splitlines() if line.startswith("|")]
        assert len(rows) > 3
        assert [row for row in rows if row not in shown] == []
