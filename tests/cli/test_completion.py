"""Shell completion, called with the variables that argcomplete's shell function sets."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("argcomplete", reason="needs argcomplete: pip install 'rl_rms[completion]'")


def completions(line, tmp_path):
    """The completions of a line that ends at the cursor."""
    answer = tmp_path / "answer"
    env = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([sys.executable, "-m", "rl_rms.cli.main"], env=env, cwd=tmp_path, check=True, timeout=300)
    return set(answer.read_text().split()) if answer.exists() else set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rl-rms pl", {"plot", "plot-schedule"}),
        ("rl-rms train drifting_cartpole --agent.half", {"--agent.half_life"}),
        ("rl-rms train pend", {"pendulum_a2c", "pendulum_ppo"}),
        ("rl-rms train mi", {"minigrid_empty_a2c", "mine.yaml"}),
        ("rl-rms train drifting_cartpole --progress ", {"auto", "lines", "json", "none"}),
        ("rl-rms train drifting_cartpole --agent.policy.norm l", {"layer"}),
        ("rl-rms evaluate runs --deterministic t", {"true"}),
        ("rl-rms report --out", {"--output"}),
        ("rl-rms study sad", {"saddle"}),
        ("rl-rms resume --tr", {"--trust"}),
        ("rl-rms nothing --", set()),
    ],
)
def test_completion_of_a_line_suggests_matching_words(line, expected, tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert completions(line, tmp_path) == expected
