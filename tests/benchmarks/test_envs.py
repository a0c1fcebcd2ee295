import json
import re
import subprocess
import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "envs.py"


def test_table_added_time_is_the_median_difference_within_rounds(benchmark):
    # The machine is twice as slow in the second round, and three times as slow in the fourth. The added times are
    # 1, 2, 1, 3, 1.
    bare, ours = [4.0, 8.0, 4.0, 12.0, 4.0], [5.0, 10.0, 5.0, 15.0, 5.0]
    rows = benchmark.table("single", {"bare": bare, "ours": ours})
    assert rows == [
        "| single | bare | 4.0 |  |  |",
        "| single | ours | 5.0 | 1.00 (1.00 to 2.50) | 25.0% |",
    ]


def test_ratio_to_hand_written_is_of_the_lowest_deciles(benchmark):
    taken = {"bare": [4.0, 4.0, 9.0], benchmark.BY_HAND: [6.0, 6.0, 6.0], benchmark.OURS: [5.0, 5.0, 30.0]}
    assert benchmark.ratio_to_hand_written(taken) == 0.5


def test_main_measures_every_contender(tmp_path, benchmark):
    output = tmp_path / "envs.json"
    command = [sys.executable, "-W", "ignore", str(PATH), "--quick", "--rounds", "2", "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    raw = json.loads(output.read_text())
    assert raw["microseconds"].keys() == benchmark.groups(quick=True).keys()
    for group, (makes, *_) in benchmark.groups(quick=True).items():
        assert raw["microseconds"][group].keys() == makes.keys()
        assert all(len(taken) == 2 and min(taken) > 0 for taken in raw["microseconds"][group].values())
    assert "| native, 4 | rl_rms, one parameter drifts |" in output.with_suffix(".md").read_text()


def test_documentation_has_the_committed_measurements(benchmark):
    measured = json.loads((PATH.parent / "results" / "envs.json").read_text())["microseconds"]
    table = "\n".join(row for group, taken in measured.items() for row in benchmark.table(group, taken))
    text = (PATH.parents[1] / "docs" / "environments.md").read_text()
    section = text.split("## Overhead of the wrappers")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    numbers = [number for row in rows for number in re.findall(r"\d+\.\d+(?= )", row.split("|", 2)[2])]
    numbers += re.findall(r"adds? (\d+\.\d+)|to a single step and (\d+\.\d+)", section)[0][:1]
    assert len(numbers) > 15
    assert [number for number in numbers if number not in table] == []
