import json
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "atari.py"


def test_committed_tables_are_those_of_the_committed_numbers(benchmark):
    raw = json.loads((PATH.parent / "results" / "atari.json").read_text())
    assert (PATH.parent / "results" / "atari.md").read_text() == benchmark.table(
        raw["speeds"], raw["curve"]
    ) + "\n"
    assert set(raw["speeds"]) == set(benchmark.TRAININGS)


def test_read_curve_has_the_mean_return_of_each_stretch(benchmark, tmp_path):
    rows = ["time/total_timesteps,info/episode.r", "10000,-21", "20000,", "40000,-19", "60000,-18"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    assert benchmark.read_curve(tmp_path) == [[50_000, -20.0], [60_000, -18.0]]
