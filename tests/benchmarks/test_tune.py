from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "tune.py"


def test_a_search_by_each_in_small(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "TUNING", benchmark.TuneConfig(lives=2))
    monkeypatch.setattr(benchmark, "GRID", [(1e-3, "20 updates"), (4e-3, "200 updates")])
    result = benchmark.search(3, life=3_000)
    assert len(result["lives"]) == 2
    assert all(rate != 2e-3 / 30 for rate, *_ in result["lives"])
    assert len(result["grid"]) == 2
    best = result["grid"].index(max(result["grid"]))
    assert result["grid_best"] == list(benchmark.GRID[best])
    assert set(result["scores"]) == {"untuned", "tune", "grid"}
    assert all(8 < score < 500 for score in result["scores"].values())


def test_the_table_by_hand(benchmark):
    pytest.importorskip("rliable")
    result = {
        "found": [2e-3, "40 updates", 1e-7],
        "grid_best": [4e-3, "200 updates"],
    }
    scores = [{"untuned": 20.0, "tune": 180.0, "grid": 200.0}, {"untuned": 20.0, "tune": 150.0, "grid": 200.0}]
    table = benchmark.table([{**result, "seed": seed, "scores": one} for seed, one in enumerate(scores)])
    assert "`tune` reaches 82 %" in table
    assert "at least 90 % in 1 of 2 searches" in table
    assert "| 0 | 0.002 | 40 updates | 1e-07 | 0.004, 200 updates | 20 | 180 | 200 |" in table


def test_the_documentation_shows_the_committed_share():
    committed = (PATH.parent / "results" / "tune.md").read_text()
    (share,) = [line for line in committed.splitlines() if line.startswith("Of the grid's mean return")]
    assert share in (PATH.parents[1] / "docs" / "tuning.md").read_text()
