import sys

import pytest

from rl_rms import studies
from rl_rms.cli.main import main
from rl_rms.studies import STUDIES
from tests.naming import mentions


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_study_without_a_name_lists_the_studies(capsys):
    assert main(["study", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["study", "all"]),
        (["sadle"], ["'sadle'", "--list", "saddle"]),
        (["saddle", "--seeds=1"], ["--seeds", "2", "1"]),
        (["saddle", "--processes=0"], ["--processes", "1", "0"]),
        (["saddle", "--redraw"], ["runs/studies/saddle.json"]),
    ],
)
def test_study_wrong_argument_writes_nothing(elsewhere, capsys, words, named):
    assert main(["study", *words]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert list(elsewhere.iterdir()) == []


def test_study_without_the_extra_names_it(elsewhere, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    assert main(["study", "saddle", "--quick"]) == 2
    assert "pip install 'rl_rms[plots]'" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
def test_study_all_writes_an_overview(elsewhere, capsys, monkeypatch):
    pytest.importorskip("rliable")
    two = {name: STUDIES[name] for name in ("two_player", "clipping")}
    monkeypatch.setattr(studies, "STUDIES", two)
    assert main(["study", "all", "--quick", "--seeds=2", "--processes=1"]) == 0
    printed = capsys.readouterr().out
    folder = elsewhere / "runs" / "studies"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        *two,
        *(f"{name}.{kind}" for name in two for kind in ("md", "png", "json")),
    }
    overview = (folder / "README.md").read_text()
    for name in two:
        assert f"| [{name}]({name}.md) | {studies.load(name).claim[:40]}" in overview
    assert "tensorboard --logdir runs/studies" in printed
    assert "runs/studies/README.md" in printed
    page = (folder / "clipping.md").read_text()
    (folder / "clipping.md").write_text("an old page")
    assert main(["study", "clipping", "--redraw"]) == 0
    assert (folder / "clipping.md").read_text() == page
