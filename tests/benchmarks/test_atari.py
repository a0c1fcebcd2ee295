import json
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "atari.py"


def test_committed_tables_are_those_of_the_committed_numbers(benchmark):
    raw = json.loads((PATH.parent / "results" / "atari.json").read_text())
    assert (PATH.parent / "results" / "atari.md").read_text() == benchmark.table(
        raw["speeds"], raw["curve"]
    ) + "\n"
    assert set(raw["speeds"]) == set(benchmark.TRAININGS)
