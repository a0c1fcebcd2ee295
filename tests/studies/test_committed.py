"""The committed page of each full run equals the page that the study writes from the committed data."""

from pathlib import Path

import pytest

from rl_rms.studies import STUDIES, load
from rl_rms.studies.pages import Finding, read

pytestmark = pytest.mark.slow

FULL = Path(__file__).resolve().parents[2] / "docs" / "studies"
OVERVIEW = FULL / "README.md"


@pytest.mark.parametrize("name", STUDIES)
def test_committed_page_equals_the_report_of_its_data(name):
    pytest.importorskip("rliable")
    study = load(name)
    results = read(study, FULL)
    assert [dict(cell) for cell in results.cells] == [dict(cell) for cell in study.cells(False)]
    assert len(results.seeds) == study.seeds
    finding = Finding.of(study, results)
    assert (FULL / f"{name}.md").read_text() == finding.to_markdown()
    assert f"| [{name}]({name}.md) | {study.claim} | {finding.verdict.summary} |" in OVERVIEW.read_text()
    assert (FULL / f"{name}.png").is_file()
