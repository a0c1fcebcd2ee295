"""Runs or checks the code blocks of the README and the documentation, page by page in order."""

import functools
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rl_rms.cli import sweep
from rl_rms.cli.config import find_config, read_config
from rl_rms.cli.federation import read_federation
from rl_rms.cli.main import COMMANDS, main
from rl_rms.cli.search import read_search
from tests.pages import PAGES, ROOT, blocks, name

PYPROJECT = (ROOT / "pyproject.toml").read_text()
# Training runs with more env steps are configured but not run.
SMALL = 20_000
# Modules that the blocks of a page import; the blocks are not run without them.
NEEDED = {
    "docs/howto/any_environment.md": (
        *("minigrid", "moviepy", "ale_py", "cv2", "pettingzoo", "supersuit"),
        *("shimmy", "dm_control"),
    )
}
# The pattern of run names in pages. These runs do not exist here, so commands with such a name do not run.
DATED = re.compile(r"\d{8}-\d{6}-seed\d+")


def lines(text):
    return [line for line in text.replace("\\\n", " ").splitlines() if shlex.split(line, comments=True)]


WITH_BLOCKS = [page for page in PAGES if blocks(page)]


# -- code blocks by language ----------------------------------------------------------------------------------


def run_python(text, folder):
    """Run Python code in its own namespace, or as the module in its first line, with warnings as errors."""
    module = re.match(r"# (\w+)\.py\n", text)
    if module is None:
        exec(compile(text, "<block>", "exec"), {"__name__": "block"})
        return
    (folder / f"{module[1]}.py").write_text(text)
    importlib.import_module(module[1])


def read_yaml_block(text, folder):
    """Read the file that a page calls mine.yaml."""
    path = folder / "mine.yaml"
    path.write_text(text)
    if "clients:" in text:
        assert len(read_federation(str(path), {}).clients) > 1
    elif "vary:" in text:
        assert read_search(str(path), {}).sweep.num_trials > 1
    else:
        config = read_config(str(path))
        assert config.env.changes or config.env.wrappers or config.callbacks


def run_bash(text, folder):
    for line in lines(text):
        command, *words = shlex.split(line, comments=True)
        SHELL[command]([match for word in words for match in expand(word)])


def expand(word):
    """Expand asterisks in an argument as a shell does."""
    return sorted(str(path) for path in Path().glob(word)) or [word] if "*" in word else [word]


def run_rl_rms(words):
    command, *rest = words
    if any(DATED.search(word) for word in rest) or (command == "train" and not is_small(*rest)):
        assert command in COMMANDS
        return
    assert main(words) == 0, words


def is_small(config, *overrides):
    config = read_config(config, overrides)
    return config.total_timesteps <= SMALL and config.scale.engine == "torchrun"


def configure(words):
    """Read the configuration of a training run with torchrun."""
    config, *overrides = words[words.index("train") + 1 :]
    read_config(config, overrides)


def find_extras(words):
    """Check that `pip install` names extras of this package."""
    extras = PYPROJECT.partition("[project.optional-dependencies]")[2]
    for word in words[1:]:
        for extra in re.findall(r"\w+", word.partition("[")[2]):
            assert f"\n{extra} = [" in extras, extra


def find_target(words):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def find_events(words):
    assert list(Path(words[words.index("--logdir") + 1]).rglob("events.out.tfevents*"))


def find_script(words):
    assert (ROOT / words[0]).is_file()


def find_options(command, words):
    """Check that the help of a Flower program has each option."""
    path = Path(sys.executable).with_name(command)
    text = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[\w-]+", text))


def find_register(words):
    assert words[:2] == ["supernode", "register"]


SHELL = {
    "flower-superlink": functools.partial(find_options, "flower-superlink"),
    "flower-supernode": functools.partial(find_options, "flower-supernode"),
    "flwr": find_register,
    "ssh-keygen": lambda words: None,
    "rl-rms": run_rl_rms,
    "torchrun": configure,
    "make": find_target,
    "tensorboard": find_events,
    "pip": find_extras,
    "python": find_script,
}


def check_diagram(text, folder):
    """Check that every module in a diagram exists."""
    modules = re.findall(r"\w+/\w+\.py", text)
    assert modules
    assert [name for name in modules if not (ROOT / "rl_rms" / name).is_file()] == []


LANGUAGES = {"mermaid": check_diagram, "python": run_python, "yaml": read_yaml_block, "bash": run_bash}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder for each page, from which Python imports."""
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[module]


# -- the pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_code_blocks_of_a_page_run_in_order(page, elsewhere, monkeypatch):
    # Commands that start Flower or Ray, or train for long, are read up to that point.
    monkeypatch.setattr("rl_rms.cli.federate.simulate", lambda *_: None)
    monkeypatch.setattr("rl_rms.cli.federate.report", lambda _: None)
    monkeypatch.setattr(sweep, "sweep", functools.partial(sweep_if_small, sweep.sweep))
    for module in NEEDED.get(name(page), ()):
        pytest.importorskip(module)
    for language, text in blocks(page):
        LANGUAGES[language](text, elsewhere)


def sweep_if_small(search_all, search, folder, storage, workers, engine):
    """Run a sweep of few env steps in this process; skip larger ones."""
    trainings = search.sweep.num_trials * len(search.sweep.seeds)
    if engine == "local" and trainings * search.sweep.fix["total_timesteps"] <= SMALL:
        return search_all(search, folder, storage, workers, engine)
    return 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for words in map(shlex.split, re.findall(r"`rl-rms ([a-z][^`]*)`", prose)):
        assert words[0] in COMMANDS, words
        if words[0] == "train" and len(words) > 1 and not words[1].startswith("-") and words[1].islower():
            find_config(words[1])
            read_config(words[1], words[2:])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_images_exist(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    files = [target for target in targets if "://" not in target]
    assert all((page.parent / target).is_file() for target in files), files


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page):
    named = re.findall(r"`(?:python )?((?:benchmarks|tests|examples|docs)/[\w/.]+\.\w+)", page.read_text())
    assert all((ROOT / name).is_file() for name in named), named
