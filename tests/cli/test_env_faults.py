import warnings
from pathlib import Path

import pytest

from rl_rms.cli.main import main
from tests.faulty import register
from tests.naming import mentions

register()
WORDS = ["--log_interval", "10", "--agent.device", "cpu"]


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A function that writes a configuration with a failing environment into the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    text = "env: {id: Faulty-v0, num_envs: 2, vectorization_mode: MODE, kwargs: {at: 60}}\ntotal_timesteps: 300\n"

    def write(mode):
        (tmp_path / "f.yaml").write_text(text.replace("MODE", mode))
        return "f.yaml"

    return write


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_train_failed_environment_ends_the_run_and_resume_continues(faulty, capsys, mode):
    assert main(["train", faulty(mode), *WORDS, "--progress", "none"]) == 2
    error = capsys.readouterr().err
    assert "in fail" in error  # the traceback through the environment's code
    sentence = error.splitlines()[-1]
    assert sentence.startswith("rl-rms: error: sub-environment")
    folder = next(Path("runs/f").iterdir())
    assert sentence.endswith(f"rl-rms resume {folder} continues, with new episodes")
    assert main(["resume", str(folder), "--total_timesteps", "150", "--progress", "none"]) == 0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_train_on_env_error_restart_continues(faulty, capsys, mode):
    words = ["--agent.on_env_error", "restart"]
    if mode == "async":
        words += ["--agent.env_timeout", "60"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["train", faulty(mode), *WORDS, *words]) == 0
    sentences = [str(one.message) for one in caught]
    assert [one.split(" (")[0] for one in sentences[:2]] == ["sub-environment 0", "sub-environment 1"]
    assert mentions(sentences[1], "restart 1", "RuntimeError: the motor burnt")


def test_train_environment_that_fails_at_its_start_names_the_error(faulty, capsys):
    words = ["train", faulty("sync"), *WORDS, "--env.kwargs", "{at_reset: 1}"]
    assert main(words) == 2
    assert mentions(
        capsys.readouterr().err, "rl-rms: error", "sub-environment 0", "seed 0", "reset", "0 env steps"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--agent.on_env_error", "ignore"], "agent.on_env_error"),
        (["--agent.env_timeout", "5"], "env_timeout"),
    ],
)
def test_train_wrong_fault_option_names_it(faulty, capsys, words, sentence):
    assert main(["train", faulty("sync"), *WORDS, *words]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_train_with_a_schedule_that_leaves_the_bounds_names_the_attribute_and_the_key(
    tmp_path, monkeypatch, capsys, mode
):
    monkeypatch.chdir(tmp_path)
    words = [f"--env.vectorization_mode={mode}", "--env.num_envs=2", "--total_timesteps=300", "--progress=none"]
    leaving = "--env.changes.length={step: {before: 0.5, after: -0.5, at: 100}}"
    assert main(["train", "cartpole_a2c", *words, leaving]) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    for named in ("env.changes", "'length'", "must be > 0", "-0.5"):
        assert named in sentence
