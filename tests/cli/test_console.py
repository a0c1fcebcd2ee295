"""Names with brackets and colons, which rich would read as markup and emoji."""

from rich.table import Table

from rl_rms.cli.console import make_console
from rl_rms.cli.main import main

NAME = "[/red] [bold]:smile:"


def test_make_console_prints_names_as_they_are(capsys):
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
