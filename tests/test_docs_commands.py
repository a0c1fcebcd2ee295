"""Runs the documentation's commands by the installed script, in an empty folder for each page.

``LEFT_OUT`` lists the commands that are not run.

Files come from the page itself: a YAML block is ``mine.yaml``, and a Python block that begins with ``# windy.py``
is that module.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rl_rms.cli.main import COMMANDS
from tests.pages import PAGES, ROOT, blocks, name

# Pages whose commands take only seconds.
QUICK = {"README.md", "docs/howto/my_environment.md"}
# Commands that are not run, with the reason. `test_readme.py` checks their names, keys and files.
LEFT_OUT = {
    r"make ": "builds a virtual environment with packages from the network",
    r"pip install 'rl_rms": "installs from the network",
    r"tensorboard ": "serves pages until it is stopped",
    r"python examples/": "needs a clone; tests/test_examples.py runs the examples",
    r"torchrun ": "trains for a million env steps",
    r"rl-rms .*ray": "needs the extra ray and trains for a million env steps",
    r"rl-rms federate ": "needs the extra flower and takes minutes",
    r"(flower-super\w+|flwr|ssh-keygen) ": "needs the extra flower and a server",
    r"rl-rms resume .*-120000-": "names a run folder that does not exist here",
}
# Modules that the commands of a page need; the commands are not run without them.
NEEDED = {"docs/howto/any_environment.md": ("minigrid", "moviepy")}


def commands(text):
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def reason(command):
    """The reason why a command is not run; None for a command that is."""
    return next((why for pattern, why in LEFT_OUT.items() if re.match(pattern, command)), None)


def run(command, folder):
    """Run a command in bash, without variables such as PYTHONPATH, which could find modules of this clone."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    shell = ["bash", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def run_page(page, folder):
    for language, text in blocks(page):
        module = re.match(r"# (\w+\.py)\n", text)
        if language == "yaml":
            (folder / "mine.yaml").write_text(text)
        elif language == "python" and module is not None:
            (folder / module[1]).write_text(text)
        elif language in ("bash", "console"):
            for command in commands(text):
                if reason(command) is None:
                    run(command, folder)


def of_pages():
    """Pages with commands. Pages that take longer are marked slow."""
    for page in PAGES:
        listed = [
            one for language, text in blocks(page) if language in ("bash", "console") for one in commands(text)
        ]
        if any(reason(command) is None for command in listed):
            yield pytest.param(page, id=name(page), marks=[] if name(page) in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("page", list(of_pages()))
def test_commands_of_a_page_run_in_an_empty_folder(page, tmp_path):
    for module in NEEDED.get(name(page), ()):
        pytest.importorskip(module)
    run_page(page, tmp_path)


@pytest.mark.slow
def test_commands_of_the_readme_run_again_in_the_same_folder(tmp_path):
    run_page(ROOT / "README.md", tmp_path)
    run_page(ROOT / "README.md", tmp_path)


def test_commands_left_out_are_in_the_documentation():
    listed = [
        one for page in PAGES for language, text in blocks(page) if language == "bash" for one in commands(text)
    ]
    assert [pattern for pattern in LEFT_OUT if not any(re.match(pattern, one) for one in listed)] == []


@pytest.mark.slow
def test_examples_of_help_run_in_a_folder_with_two_runs(tmp_path):
    for seed in (0, 1):
        run(f"rl-rms train drifting_cartpole --total_timesteps 20000 --seed {seed}", tmp_path)
    for command in COMMANDS:
        if command in ("evaluate", "plot", "report", "plot-schedule"):
            text = run(f"rl-rms {command} --help", tmp_path).stdout
            for example in re.findall(r"^  (rl-rms .*)", text.partition("\nexamples:\n")[2], re.MULTILINE):
                run(example, tmp_path)
