import json
import sys

import pytest

from rl_rms.cli.main import main
from tests.cli.runs import write_events, write_run
from tests.naming import mentions

# Mean returns at env steps 100, 200 and 300, by seed.
FIRST = {0: [0.0, 2.0, 10.0], 1: [2.0, 4.0, 20.0], 2: [4.0, 6.0, 30.0], 3: [6.0, 8.0, 40.0]}
SECOND = {0: [1.0, 3.0, 15.0], 1: [4.0, 6.0, 25.0], 2: [6.0, 8.0, 45.0], 5: [0.0, 2.0, 99.0]}


def write_groups(folder, **groups):
    """Write runs by group and seed."""
    for number, (name, seeds) in enumerate(groups.items()):
        for seed, returns in seeds.items():
            write_run(folder / name / str(seed), returns, agent={"half_life": number + 5}, seed=seed)


def compared(tmp_path, *words):
    """The JSON that a comparison writes."""
    output = tmp_path / "out.json"
    assert main(["compare", *map(str, words), "--output", str(output)]) == 0
    return json.loads(output.read_text())


def test_compare_two_groups_has_interquartile_means_differences_and_improvement(tmp_path):
    pytest.importorskip("rliable")
    write_groups(tmp_path, a=FIRST, b=SECOND)
    result = compared(tmp_path, tmp_path / "a", tmp_path / "b")
    assert (result["first_step"], result["last_step"]) == (100, 300)
    first, second = result["groups"]
    assert (first["name"], second["name"]) == ("half-life 5 updates", "half-life 6 updates")
    assert (first["seeds"], second["seeds"]) == ([0, 1, 2, 3], [0, 1, 2, 5])
    assert second["folders"][0] == str(tmp_path / "b" / "0")
    # By the trapezoidal rule, the mean returns of the four seeds are (1 + 6) / 2, (3 + 12) / 2, (5 + 18) / 2 and
    # (7 + 24) / 2. The interquartile mean is the mean of the middle two.
    assert first["whole_run"]["return"]["middle"] == pytest.approx((7.5 + 11.5) / 2)
    assert first["end"]["return"]["middle"] == pytest.approx(25.0)
    assert first["end"]["return"]["low"] < 25.0 < first["end"]["return"]["high"]
    assert first["end"]["difference"] is None
    assert first["end"]["probability_of_improvement"] is None
    # Seeds 0, 1 and 2 are in both groups. The mean of their differences 5, 5 and 15 is not trimmed.
    assert second["end"]["pairs"] == 3
    assert second["end"]["difference"]["middle"] == pytest.approx(25 / 3)
    assert (second["end"]["difference"]["low"], second["end"]["difference"]["high"]) == (5.0, 15.0)
    # Of the first group's returns 10, 20, 30 and 40, one is below 15, two are below 25, and all four are below 45
    # and 99. So 1 + 2 + 4 + 4 = 11 of 16 pairs are improvements.
    assert second["end"]["probability_of_improvement"]["middle"] == pytest.approx(11 / 16)
    low, high = (second["end"]["probability_of_improvement"][end] for end in ("low", "high"))
    assert low < 11 / 16 < high


def test_compare_two_seeds_has_no_interval(tmp_path, capsys):
    pytest.importorskip("rliable")
    two = {seed: FIRST[seed] for seed in (0, 1)}
    write_groups(tmp_path, a=FIRST, b=two)
    first, second = compared(tmp_path, tmp_path)["groups"]
    assert first["end"]["return"]["low"] is not None
    assert second["end"]["return"] == {"middle": 15.0, "low": None, "high": None}
    assert second["end"]["difference"] == {"middle": 0.0, "low": None, "high": None}
    # In one of 8 pairs, the second group's return is higher (20 and 10). In two pairs, both returns are equal, and
    # each of these pairs counts as half an improvement: (1 + 2 / 2) / 8.
    assert second["end"]["probability_of_improvement"] == {"middle": 0.25, "low": None, "high": None}
    (line,) = [
        line for line in capsys.readouterr().out.split("end of the run")[1].splitlines() if "life 6" in line
    ]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["2", "15", "0", "2", "0.25"]


def test_compare_first_argument_is_the_reference(tmp_path):
    pytest.importorskip("rliable")
    write_groups(tmp_path, a=FIRST, b=SECOND)
    result = compared(tmp_path, tmp_path / "b", f"mine={tmp_path}/a/*")
    assert [group["name"] for group in result["groups"]] == ["b", "mine"]
    assert result["groups"][1]["end"]["difference"]["middle"] == pytest.approx(-25 / 3)


def test_compare_run_that_ended_early_shortens_the_comparison(tmp_path, capsys):
    pytest.importorskip("rliable")
    write_groups(tmp_path, a=FIRST, b={0: [1.0, 3.0]})
    result = compared(tmp_path, tmp_path / "a", tmp_path / "b")
    assert result["last_step"] == 200
    assert result["groups"][0]["end"]["return"]["middle"] == pytest.approx(5.0)
    assert mentions(capsys.readouterr().err, "200", str(tmp_path / "b" / "0"))


def test_compare_repeated_and_unknown_seeds_have_no_pairs(tmp_path):
    pytest.importorskip("rliable")
    write_run(tmp_path / "a" / "0", [1.0], agent={"half_life": 5})
    for half_life in (6, 7):
        write_run(tmp_path / "b" / str(half_life), [1.0], agent={"half_life": half_life})
    write_events(tmp_path / "c" / "A2C_0", [3.0])
    words = [f"a={tmp_path}/a/*", f"b={tmp_path}/b/*", tmp_path / "c"]
    _, repeated, unknown = compared(tmp_path, *words)["groups"]
    assert (repeated["seeds"], unknown["seeds"]) == ([0, 0], [None])
    for group in (repeated, unknown):
        assert group["end"]["pairs"] == 0
        assert group["end"]["difference"] is None
    assert unknown["end"]["probability_of_improvement"]["middle"] == 1.0


def test_compare_one_group_shows_no_differences(tmp_path, capsys):
    pytest.importorskip("rliable")
    write_groups(tmp_path, a=FIRST)
    assert main(["compare", str(tmp_path)]) == 0
    assert "difference" not in capsys.readouterr().out


def test_compare_output_markdown_equals_the_printed_table(tmp_path, capsys):
    pytest.importorskip("rliable")
    write_groups(tmp_path, a=FIRST, b=SECOND)
    assert main(["compare", str(tmp_path), "--output", str(tmp_path / "table.md")]) == 0
    printed = capsys.readouterr()
    assert (tmp_path / "table.md").read_text() == printed.out
    assert str(tmp_path / "table.md") in printed.err
    rows = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert len(rows) == 8
    assert len({len(line) for line in rows[:4]}) == 1
    assert {line.count("|") for line in rows} == {7}


def error_of(capsys, *words):
    assert main(["compare", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_compare_without_the_extra_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rliable", None)
    write_groups(tmp_path, a=FIRST)
    assert "pip install 'rl_rms[plots]'" in error_of(capsys, tmp_path)


def test_compare_wrong_argument_names_it(tmp_path, capsys):
    write_groups(tmp_path, a=FIRST)
    assert mentions(error_of(capsys, "nowhere"), "nowhere", "folder of a run")
    assert mentions(error_of(capsys, tmp_path, "--output", "a.csv"), "--output", "'a.csv'", ".md", ".json")


def test_compare_runs_without_common_env_steps_names_both(tmp_path, capsys):
    pytest.importorskip("rliable")
    write_run(tmp_path / "short", [1.0])
    write_run(tmp_path / "late", [1.0], every=500, seed=1)
    assert mentions(error_of(capsys, tmp_path), str(tmp_path / "short"), str(tmp_path / "late"), "500")
