"""The help of every command fits one screen and has examples that run."""

import contextlib
import glob
import importlib
import re
import shlex
from dataclasses import fields

import pytest

from rl_rms.agents.federated_config import FederationConfig
from rl_rms.cli.main import COMMANDS, main

# The size of a terminal, in lines and columns.
LINES, COLUMNS = 40, 100
# The functions that tests replace, because these functions take long: each does the work of a command after the
# command has read its arguments.
WORK = {
    "train": "rl_rms.cli.train.train",
    "resume": "rl_rms.cli.train.continue_run",
    "study": "rl_rms.cli.study.run_study",
    "sweep": "rl_rms.cli.sweep.sweep",
    "federate": "rl_rms.cli.federate.simulate",
}


def help_of(command, capsys):
    if command is None:
        assert main(["--help"]) == 0
    else:
        with contextlib.suppress(SystemExit):
            assert main([command, "--help"]) == 0
    return capsys.readouterr().out


def examples_of(text):
    """The lines under ``examples:``."""
    section = text.split("\nexamples:\n")[1].split("\n\n")[0]
    return [line.strip() for line in section.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run."""
    base = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        assert main(["train", "drifting_cartpole", "--total_timesteps=3000", "--log_interval=5"]) == 0
    return base


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_a_screen_and_has_examples(command, capsys):
    text = help_of(command, capsys)
    lines = text.splitlines()
    assert len(lines) <= LINES, text
    assert max(map(len, lines)) <= COLUMNS, text
    assert text.startswith("usage: rl-rms")
    shown = examples_of(text)
    assert len(shown) >= 2
    assert all(line.startswith(f"rl-rms {command or ''}") for line in shown)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_examples_run(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    done = []

    def work(*arguments, **options):
        done.append(arguments)
        return 0

    for name, path in WORK.items():
        importlib.import_module(f"rl_rms.cli.{name}")
        monkeypatch.setattr(path, work)
    monkeypatch.setattr("rl_rms.cli.train.train_seeds", work)
    # The import of Flower takes seconds, and reports need results that are not computed.
    for quiet in (
        "federate.report",
        "federate.require_ray",
        "study.write_overview",
    ):
        monkeypatch.setattr(f"rl_rms.cli.{quiet}", lambda *_: None)
    for line in examples_of(help_of(command, capsys)):
        words = shlex.split(line.split(" | ")[0], comments=True)[1:]
        given = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
        assert main(given) == 0, line
        listed = "--list" in words or "--prepare" in words
        assert bool(done) == (words[0] in WORK and not listed), line
        done.clear()


def test_help_has_a_summary_of_every_command(capsys):
    text = help_of(None, capsys)
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
        importlib.import_module(f"rl_rms.cli.{name.replace('-', '_')}")


def test_federate_help_explains_every_key(capsys):
    shown = " ".join(help_of("federate", capsys).split())
    for one in fields(FederationConfig):
        assert re.search(rf"--{one.name} VALUE [A-Z]\w+", shown), one.name
