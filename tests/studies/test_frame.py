"""What studies share, with a study of a line's length."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rl_rms.studies import STUDIES, load
from rl_rms.studies.frame import Verdict, grid, run
from rl_rms.studies.intervals import interquartile
from tests.naming import naming
from tests.studies.line import LINE

pytest.importorskip("rliable")


<<<<<<< HEAD
def measure(seed, by, size):
    """A number and a curve: known for every seed and cell."""
    return {"number": size * (seed + 1) / 3, "curve": [size, size + seed], "unknown": np.nan}


def draw(results, figure):
    figure.subplots().plot(results.levels("size"))


LINE = Study(
    name="line",
    claim="c",
    mechanism="m",
    setup="s",
    caveat="v",
    cells=lambda quick: grid(by=["a", "b"], size=[1.0] if quick else [1.0, 2.0]),
    measure=measure,
    tables=lambda results: [
        Table(["", "mean"], [["a", str(results.estimate("number", by="a", size=1.0))]]),
        Table(["", "seeds"], [["all", str(len(results.seeds))]]),
    ],
    verdict=lambda results: Verdict("holds only if", "lines are long."),
    draw=draw,
    seeds=4,
    quick_seeds=2,
)


def test_measure_runs_every_cell_with_every_seed():
=======
def test_every_cell_is_measured_with_every_seed():
>>>>>>> 0e92ac6 (Pages of studies and drawing have modules of their own; titles, legends and bands are styled in one place)
    results = run(LINE)
    assert [dict(cell) for cell in results.cells] == grid(by=["a", "b"], size=[1.0, 2.0])
    assert results.values("number", by="b", size=2.0) == pytest.approx([2 / 3, 4 / 3, 2, 8 / 3], rel=1e-4)
    assert results.values("curve", by="a", size=1.0).tolist() == [[1, 1], [1, 2], [1, 3], [1, 4]]
    assert len(run(LINE, quick=True).cells) == len(run(LINE, quick=True).seeds) == 2
    assert list(run(LINE, seeds=3).seeds) == [0, 1, 2]


@pytest.mark.slow
def test_measure_in_several_processes_gives_the_same_results():
    # One whose measure other processes can import.
    study = dataclasses.replace(load("curriculum"), cells=lambda quick: grid(rho=[0.9], ratio=[4.0, 0.25]))
    one, two = (run(study, seeds=2, processes=processes) for processes in (1, 2))
    assert one.values("updates", rho=0.9, ratio=0.25).min() > 20
    for left, right in zip(one.measured, two.measured, strict=True):
        assert {key: value.tolist() for key, value in left.items()} == {k: v.tolist() for k, v in right.items()}


def test_results_select_cells_and_scores():
    results = run(LINE)
    assert results.levels("size") == [1.0, 2.0]
    assert results.levels("size", by="c") == []
    assert results.best("number", "size", by="a") == 1.0
    assert results.best("number", "size", highest=True, by="a") == 2.0
    # Of 1/3, 2/3, 1, 4/3 the middle two.
    assert results.estimate("number", by="a", size=1.0).middle == pytest.approx(5 / 6, rel=1e-4)
    with pytest.raises(KeyError, match=naming("{'by': 'a'}", "2")):
        results.values("number", by="a")


def test_nonfinite_score_counts_as_the_worst():
    assert interquartile(np.array([1.0, 2.0, 3.0, np.nan])) == 2.5
    assert interquartile(np.array([1.0, np.inf, np.nan, np.nan])) > 1e300


<<<<<<< HEAD
def test_study_writes_page_data_and_events(tmp_path):
    results = run(LINE)
    page = write(Finding.of(LINE, results), tmp_path / "pages", events=tmp_path / "events").read_text()
    for part in (
        "**Claim.** c",
        "**Holds only if lines are long.**",
        "| a | 0.833 (",
        "`rl-rms study line`, 4 seeds",
    ):
        assert part in page
    assert (tmp_path / "pages" / "line.png").read_bytes().startswith(b"\x89PNG")
    again = read(LINE, tmp_path / "pages")
    assert [dict(cell) for cell in again.cells] == [dict(cell) for cell in results.cells]
    assert again.values("curve", by="b", size=2.0).tolist() == results.values("curve", by="b", size=2.0).tolist()
    events = EventAccumulator(str(tmp_path / "events" / "line" / "by=b,size=2.0")).Reload()
    assert [one.value for one in events.Scalars("line/curve")] == [2.0, 3.5]
    assert events.Tags()["scalars"] == ["line/number", "line/curve"]  # what is not finite draws nothing
    whole = EventAccumulator(str(tmp_path / "events" / "line")).Reload()
    assert whole.Tags()["images"] == ["figure"]


=======
>>>>>>> 0e92ac6 (Pages of studies and drawing have modules of their own; titles, legends and bands are styled in one place)
@pytest.mark.parametrize(("word", "told"), [("holds", "Holds: x."), ("does not hold", "Does not hold: x.")])
def test_str_of_a_verdict_is_a_sentence(word, told):
    assert str(Verdict(word, "x.")) == told


def test_every_study_has_a_page_and_a_test():
    for name in STUDIES:
        study = load(name)
        assert study.name == name
        assert (Path(__file__).parent / f"test_{name}.py").exists()
        assert study.seeds >= 10
        assert list(study.cells(True)) != list(study.cells(False))
        json.dumps([dict(cell) for cell in study.cells(False)])
