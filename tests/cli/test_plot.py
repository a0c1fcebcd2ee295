import sys

import matplotlib.image
import pytest

from rl_rms.cli.main import main
from tests.cli.runs import regime, write_run
from tests.naming import mentions

# -- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "written"),
    [
        (["a.png"], ["a.png"]),
        (["a.svg"], ["a.svg"]),
        (["a.pdf"], ["a.pdf"]),
        ([], ["comparison.png"]),
    ],
)
def test_plot_output_writes_the_named_files(output, written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(tmp_path / "runs" / str(seed), [1.0, 2.0], agent={"half_life": 9}, seed=seed)
    write_run(tmp_path / "runs" / "c", [1.0, 2.0])
    assert main(["plot", "runs", *(word for name in output for word in ("--output", name))]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == written
    assert str(tmp_path / written[0]) in printed.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == written
    for name in written:
        if name.endswith(".svg"):
            assert "<svg" in (tmp_path / name).read_text()
        elif name.endswith(".pdf"):
            assert (tmp_path / name).read_bytes().startswith(b"%PDF")
        else:
            assert matplotlib.image.imread(tmp_path / name).shape[1] == 8 * 130


def test_plot_single_run_without_the_extra_writes_into_its_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    folder = write_run(
        tmp_path / "run", [1.0, 2.0], rows=[regime(0, 1000, 1.0, 2.0), regime(1, 2000, 1.0, 2.0, 3.0)]
    )
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").is_file()


def test_plot_seed_that_ended_early_warns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, count in enumerate([10, 5]):
        write_run(tmp_path / "runs" / str(seed), [1.0] * count, seed=seed, total_timesteps=1000)
    assert main(["plot", "runs"]) == 0
    assert "runs is drawn up to env step 500, where runs/1 ends" in capsys.readouterr().err


def error_of(capsys, *words):
    assert main(["plot", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_plot_several_seeds_without_the_extra_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rliable", None)
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [1.0], seed=seed)
    assert "pip install 'rl_rms[plots]'" in error_of(capsys, tmp_path)


def test_plot_wrong_argument_prints_one_sentence(tmp_path, capsys):
    run = write_run(tmp_path / "run", [1.0])
    assert mentions(error_of(capsys, "nowhere"), "nowhere", "folder of a run")
    assert mentions(error_of(capsys, "mine=nowhere/*"), "nowhere/*", "folder of a run")
    (tmp_path / "empty").mkdir()
    assert mentions(error_of(capsys, tmp_path / "empty"), "empty", "config.yaml")
    assert mentions(error_of(capsys, run, "--output", "a.gif"), "--output", "'a.gif'")
    for size in ("[8]", "[8,0]", "[8,.nan]"):
        assert mentions(error_of(capsys, run, "--size", size), "--size", "inches")
    assert mentions(error_of(capsys, run, "--size", "3"), "size", "a list of numbers", "3")
    assert mentions(error_of(capsys, run, "--labels", "[one,two]"), "--labels", "1", "one, two")
    assert not list(tmp_path.glob("**/*.png"))


def test_plot_uses_the_given_title_labels_and_size(tmp_path):
    for half_life in (5, 6):
        for seed in (0, 1):
            write_run(tmp_path / f"{half_life}{seed}", [1.0, 2.0], agent={"half_life": half_life}, seed=seed)
    words = ["--title", "Two half-lives", "--labels", "[short, 'long, 6']", "--size", "[5,4]"]
    for name in ("a.svg", "a.png", "a.pdf", "b.pdf"):
        assert main(["plot", str(tmp_path), *words, "--output", str(tmp_path / name)]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    for text in ("Two half-lives", "interquartile mean over seeds", "short (2 seeds)", "long, 6 (2 seeds)"):
        assert f"<!-- {text}" in drawn, text
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] == (4 * 130, 5 * 130)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_plot_of_one_or_several_runs_writes_figures(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    (folder / "learning_curve.png").unlink()
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(folder), str(folder), "--output", "both.svg"]) == 0
    assert "<svg" in (tmp_path / "both.svg").read_text()
    capsys.readouterr()
    assert main(["plot", str(folder), "--output", "one.gif"]) == 2
    assert mentions(capsys.readouterr().err, "--output", "'one.gif'")


def test_plot_of_a_run_without_episodes_names_it(trained, tmp_path, capsys):
    folder, _ = trained
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    assert main(["plot", str(tmp_path)]) == 2
    assert "no episode returns" in capsys.readouterr().err
