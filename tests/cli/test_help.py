"""What the commands say of themselves: on one screen, with examples that work."""

import contextlib
import glob
import importlib
import re
import shlex
from dataclasses import fields

import pytest

from rl_rms.agents.federated import FederationConfig
from rl_rms.cli import federate
from rl_rms.cli.config import ALGORITHMS, run_parser
from rl_rms.cli.keys import EXAMPLES, KEYS
from rl_rms.cli.main import COMMANDS, main

# A screen.
LINES, COLUMNS = 40, 100
# What each command does once it has understood its words; the others are quick enough to do it here.
WORK = {
    "train": "rl_rms.cli.train.train",
    "resume": "rl_rms.cli.train.continue_run",
    "study": "rl_rms.cli.study._study",
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


def test_every_command_has_its_summary(capsys):
    text = help_of(None, capsys)
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
        importlib.import_module(f"rl_rms.cli.{name.replace('-', '_')}")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_examples_work(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    done = []

    def work(*arguments, **options):
        done.append(arguments)
        return 0

    for name, path in WORK.items():
        importlib.import_module(f"rl_rms.cli.{name}")
        monkeypatch.setattr(path, work)
    for quiet in (
        "federate.report",
        "federate._require_flower",
        "study.report",
    ):
        monkeypatch.setattr(f"rl_rms.cli.{quiet}", lambda *_: None)
    for line in examples_of(help_of(command, capsys)):
        words = shlex.split(line.split(" | ")[0], comments=True)[1:]
        given = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
        assert main(given) == 0, line
        listed = "--list" in words or "--prepare" in words
        assert bool(done) == (words[0] in WORK and not listed), line
        done.clear()


def test_a_federations_keys_are_all_explained():
    assert list(federate._MEANINGS) == [one.name for one in fields(FederationConfig)]


@pytest.mark.parametrize("key", KEYS)
def test_the_keys_that_are_given_most_exist(key):
    known = {option for name in ALGORITHMS for one in run_parser(name)._actions for option in one.option_strings}
    assert key.split()[0].removesuffix(".TARGET") in known


def test_help_of_everything_explains_every_key_with_its_default(capsys):
    assert main(["train", "cartpole_reinforce", "--help=all"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= COLUMNS
    text = " ".join(shown.split())
    assert "--agent.episodes_per_env" in text
    assert "--agent.n_steps" not in text
    assert "Env steps to train for, all sub-environments together. (type: int, default: 100000)" in text
    assert EXAMPLES[0] in text
    assert main(["train", "--agent.algorithm=a2c", "--help=all"]) == 0
    assert "--agent.n_steps" in capsys.readouterr().out


def test_a_configuration_is_printed_as_it_was_overridden(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole_a2c", "--seed=7", "--print_config"])
    assert end.value.code == 0
    assert "\nseed: 7\n" in capsys.readouterr().out
