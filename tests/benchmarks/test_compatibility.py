import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "compatibility.py"


def cells_of(benchmark, monkeypatch, capfd, row):
    monkeypatch.setattr(benchmark, "ROWS", {"one": row})
    benchmark.run_row("one")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    return {cell: value for line in lines for cell, value in line.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_run_row_of_cartpole_passes_all_cells(benchmark, monkeypatch, capfd):
    row = benchmark.Row(["gymnasium"], "CartPole-v1", targets=["length"])
    assert cells_of(benchmark, monkeypatch, capfd, row) == {
        "trains": "yes",
        "drifts": "`length`",
        "resumes": "bit-identical",
        "films": "yes",
        "Stable-Baselines3 trains": "yes",
    }


def test_run_row_of_a_missing_environment_names_the_error_in_each_cell(benchmark, monkeypatch, capfd):
    cells = cells_of(benchmark, monkeypatch, capfd, benchmark.Row(["gymnasium"], "Nowhere-v0"))
    assert set(cells.values()) == {"no: NameNotFound"}
    assert set(cells) == set(benchmark.CELLS)


def test_committed_page_has_the_table_of_the_committed_measurement(benchmark):
    raw = json.loads((PATH.parent / "results" / "compatibility.json").read_text())
    page = PATH.parents[1] / "docs" / "compatibility.md"
    assert benchmark.table(raw["cells"]) in page.read_text()
    assert list(raw["cells"]) == list(benchmark.ROWS)
