import io

import pytest
from rich.console import Console
from rich.table import Table

from rl_rms.cli.console import Counter, make_console
from rl_rms.cli.main import main

NAME = "[/red] [bold]:smile:"


def test_make_console_does_not_interpret_markup_in_names(capsys):
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    make_console().print(NAME)
    make_console().print(table)
    make_console(quiet=True).print("nothing")
    out = capsys.readouterr().out
    assert out.count(NAME) == 4
    assert "nothing" not in out


def test_train_brackets_in_runs_dir_returns_0(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--total_timesteps=200", f"--runs_dir={NAME}", "--env.num_envs=2", "--env.vectorization_mode=sync"]
    assert main(["train", "cartpole_a2c", *words]) == 0
    assert f"tensorboard --logdir {NAME}" in capsys.readouterr().out.replace("'", "")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_counter_outside_a_terminal_prints_lines_when_they_are_due(clock):
    file = io.StringIO()
    with Counter(Console(file=file), "trials") as counter:
        for now, done in ((1.0, 1), (3.0, 2), (4.0, 3), (9.0, 4)):
            clock[0] = now
            counter.show(done, 8)
    assert file.getvalue().splitlines() == ["trials: 2 / 8, 9 s left", "trials: 4 / 8, 9 s left"]


def test_counter_in_a_terminal_shows_a_bar():
    file = io.StringIO()
    with Counter(Console(file=file, force_terminal=True, width=100), "trials") as counter:
        counter.show(3, 8)
    assert "trials" in file.getvalue()
    assert "3/8" in file.getvalue()
