"""Every snippet of the README runs as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rl_rms.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [
    line.split("#")[0].strip() for language, text in BLOCKS if language == "bash" for line in text.splitlines()
]


def test_all_blocks_are_of_a_kind_that_is_run_here():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert {line.split()[0] for line in SHELL} == {"make", "rl-rms", "tensorboard"}


@pytest.mark.parametrize("text", PYTHON, ids=lambda text: text.splitlines()[0])
def test_python_blocks_run(text, tmp_path):
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_rl_rms_commands_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in SHELL:
        if line.startswith("rl-rms"):
            words = [
                match
                for word in shlex.split(line)[1:]
                for match in (sorted(str(path) for path in Path().glob(word)) if "*" in word else [word])
            ]
            assert main(words) == 0, (line, capsys.readouterr().err)
    assert list(Path("runs").rglob("events.out.tfevents*"))  # what the tensorboard line shows


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in SHELL if line.startswith("make")} <= targets
