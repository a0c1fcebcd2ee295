"""The common parts of studies, tested with the study in line.py."""

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


def test_measure_runs_every_cell_with_every_seed():
    results = run(LINE)
    assert [dict(cell) for cell in results.cells] == grid(by=["a", "b"], size=[1.0, 2.0])
    assert results.values("number", by="b", size=2.0) == pytest.approx([2 / 3, 4 / 3, 2, 8 / 3], rel=1e-4)
    assert results.values("curve", by="a", size=1.0).tolist() == [[1, 1], [1, 2], [1, 3], [1, 4]]
    assert len(run(LINE, quick=True).cells) == len(run(LINE, quick=True).seeds) == 2
    assert list(run(LINE, seeds=3).seeds) == [0, 1, 2]


@pytest.mark.slow
def test_measure_in_several_processes_gives_the_same_results():
    # This study is part of the package, so other processes can import its function measure.
    study = dataclasses.replace(load("curriculum"), cells=lambda quick: grid(rho=[0.9], ratio=[4.0, 0.25]))
    one, two = (run(study, seeds=2, processes=processes) for processes in (1, 2))
    assert one.values("updates", rho=0.9, ratio=0.25).min() > 20
    for left, right in zip(one.measured, two.measured, strict=True):
        assert {key: value.tolist() for key, value in left.items()} == {k: v.tolist() for k, v in right.items()}


def test_run_calls_progress_after_each_measurement():
    calls = []
    results = run(LINE, seeds=2, progress=lambda done, total: calls.append((done, total)))
    total = 2 * len(results.cells)
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_results_select_cells_and_scores():
    results = run(LINE)
    assert results.levels("size") == [1.0, 2.0]
    assert results.levels("size", by="c") == []
    assert results.best("number", "size", by="a") == 1.0
    assert results.best("number", "size", highest=True, by="a") == 2.0
    # The mean of the middle two of 1/3, 2/3, 1, 4/3.
    assert results.estimate("number", by="a", size=1.0).middle == pytest.approx(5 / 6, rel=1e-4)
    with pytest.raises(KeyError, match=naming("{'by': 'a'}", "2")):
        results.values("number", by="a")


def test_nonfinite_score_counts_as_the_worst():
    assert interquartile(np.array([1.0, 2.0, 3.0, np.nan])) == 2.5
    assert interquartile(np.array([1.0, np.inf, np.nan, np.nan])) > 1e300


@pytest.mark.parametrize(
    ("verdict", "sentences"),
    [
        (Verdict("holds", "X is 1."), "The claim holds. X is 1."),
        (Verdict("does not hold", "X is 1."), "The claim does not hold. X is 1."),
        (Verdict("conditional", "X is 1.", "if a > 0"), "Conditional: the claim holds if a > 0. X is 1."),
    ],
)
def test_str_of_a_verdict_has_sentences(verdict, sentences):
    assert str(verdict) == sentences
    assert sentences.startswith(verdict.summary)


def test_every_study_has_a_page_and_a_test():
    for name in STUDIES:
        study = load(name)
        assert study.name == name
        assert (Path(__file__).parent / f"test_{name}.py").exists()
        assert study.seeds >= 10
        assert list(study.cells(True)) != list(study.cells(False))
        json.dumps([dict(cell) for cell in study.cells(False)])
