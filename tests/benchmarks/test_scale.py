import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def test_in_small_it_writes_what_it_measured(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "command", lambda *_, **__: 2.0)
    output = tmp_path / "scale.json"
    words = ["scale", "--rounds", "1", "--updates", "5", "--sizes", "4x2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    table = output.with_suffix(".md").read_text()
    assert capsys.readouterr().out.strip() in table
    assert "| 4 x 2 | " in table
    assert "| two workers of torchrun | 2.0 |" in table


def test_the_table_by_hand(benchmark):
    rounds = [
        {"one": {"update": 0.010}, "two": {"update": two}, "half": {"update": 0.006}}
        for two in (0.008, 0.010, 0.005)
    ]
    table = benchmark.table({"sizes": {"100x10": rounds}, "commands": {"one process": [3.0, 5.0, 4.0]}})
    assert "| 100 x 10 | 100,000 env steps/s | 125,000 | 1.25 (1.00 to 2.00) | 6.00 ms | 2.00 ms |" in table
    assert "| one process | 4.0 |" in table


def test_the_documentation_shows_the_committed_table():
    committed = (PATH.parent / "results" / "scale.md").read_text()
    rows = [line for line in committed.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3 + 2 + 3
    assert "\n".join(rows[:5]) in (PATH.parents[1] / "docs" / "scale.md").read_text()
