import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.studies.frame import run
from rl_rms.studies.pages import Finding, read, write
from tests.studies.line import LINE

pytest.importorskip("rliable")


def test_study_writes_page_data_and_events(tmp_path):
    results = run(LINE)
    page = write(Finding.of(LINE, results), tmp_path / "pages", events=tmp_path / "events").read_text()
    for part in (
        "**Claim.** c",
        "Conditional: the claim holds if lines are long. The mean is 1.",
        "| a | 0.833 (",
        "4 seeds",
    ):
        assert part in page
    assert (tmp_path / "pages" / "line.png").read_bytes().startswith(b"\x89PNG")
    again = read(LINE, tmp_path / "pages")
    assert [dict(cell) for cell in again.cells] == [dict(cell) for cell in results.cells]
    assert again.values("curve", by="b", size=2.0).tolist() == results.values("curve", by="b", size=2.0).tolist()
    events = EventAccumulator(str(tmp_path / "events" / "line" / "by=b,size=2.0")).Reload()
    assert [one.value for one in events.Scalars("line/curve")] == [2.0, 3.5]
    assert events.Tags()["scalars"] == ["line/number", "line/curve"]  # without "line/unknown", which is nan
    whole = EventAccumulator(str(tmp_path / "events" / "line")).Reload()
    assert whole.Tags()["images"] == ["figure"]
