"""Every snippet of the README and of the documentation runs as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rl_rms.cli.architectures import read_architectures
from rl_rms.cli.config import read_config
from rl_rms.cli.federation import read_federation
from rl_rms.cli.main import main
from rl_rms.cli.search import read_search

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


BLOCKS = blocks(ROOT / "README.md")
PYTHON = [text for page in PAGES for language, text in blocks(page) if language == "python"]
SHELL = [
    line.split("#")[0].strip() for language, text in BLOCKS if language == "bash" for line in text.splitlines()
]


def test_all_blocks_are_of_a_kind_that_is_run_here():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert {language for page in PAGES[1:] for language, _ in blocks(page)} == {"python", "yaml", "bash"}
    assert {line.split()[0] for line in SHELL} == {"make", "rl-rms", "tensorboard"}


def test_trainings_that_the_documentation_starts_are_configured_rightly():
    found = [
        shlex.split(line, comments=True)
        for page in PAGES[1:]
        for language, text in blocks(page)
        if language == "bash"
        for line in text.splitlines()
    ]
    assert {words[0] for words in found} == {"rl-rms", "torchrun"}
    trainings = [words[words.index("train") + 1 :] for words in found if "train" in words]
    assert len(trainings) == 10
    for name, *overrides in trainings:
        assert read_config(name, overrides).env.num_envs == 16


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    files = [target for target in targets if "://" not in target]
    assert all((page.parent / target).is_file() for target in files), files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_are_there(page):
    named = re.findall(r"`(?:python )?((?:benchmarks|tests|examples|docs)/[\w/.]+\.\w+)", page.read_text())
    assert all((ROOT / name).is_file() for name in named), named


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


@pytest.mark.parametrize("text", [text for page in PAGES for language, text in blocks(page) if language == "yaml"])
def test_yaml_blocks_can_be_read(text, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    if "clients" in text:
        assert len(read_federation(str(tmp_path / "mine.yaml"), {}).clients) > 1
        return
    if "networks:" in text:
        assert read_architectures(str(tmp_path / "mine.yaml")).sweep.num_trials > 1
    else:
        assert read_search(str(tmp_path / "mine.yaml"), {}).sweep.num_trials > 1


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in SHELL if line.startswith("make")} <= targets
