"""Runs with a full disk, a deleted folder or a killed process."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_rms.cli import train
from rl_rms.cli.main import main
from tests.naming import mentions

pytestmark = pytest.mark.slow

ENV = {"env.num_envs": 4, "agent.n_steps": 8, "progress": "none"}


@pytest.fixture
def started(tmp_path):
    """A function that starts ``rl-rms`` in the test's folder. The processes are killed at the end of the test."""
    processes = []

    def start(*words, config=True, **options):
        keys = [f"--{key}={value}" for key, value in ENV.items()] if config else ["--progress=none"]
        process = subprocess.Popen(
            [sys.executable, "-m", "rl_rms.cli.main", *words[:2], *keys, *words[2:]],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def folder_of(tmp_path, name="cartpole_a2c"):
    (folder,) = (tmp_path / "runs" / name).iterdir()
    return folder


def is_logging(tmp_path):
    return any(file.stat().st_size > 2_000 for file in (tmp_path / "runs").glob("*/*/metrics.csv"))


def _caught(pid, number):
    """True if a process has a handler of a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_saves_and_resume_is_bit_identical(tmp_path, started, number):
    words = ("--total_timesteps=12_000", "--log_interval=5")
    process = started("train", "drifting_cartpole", *words)
    wait(lambda: is_logging(tmp_path))
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    message = "stopping after this rollout; a second signal stops at once, without saving"
    assert err == f"{number.name}: {message}\n"
    folder = folder_of(tmp_path, "drifting_cartpole")
    assert 0 < json.loads((folder / "summary.json").read_text())["total_timesteps"] < 12_000
    assert main(["resume", str(folder), "--progress=none"]) == 0
    keys = [f"--{key}={value}" for key, value in ENV.items()]
    assert main(["train", "drifting_cartpole", *words, *keys, f"--runs_dir={tmp_path / 'whole'}"]) == 0
    (whole,) = (tmp_path / "whole" / "drifting_cartpole").iterdir()
    saved = [one / "checkpoints" / "final.safetensors" for one in (folder, whole)]
    assert saved[0].read_bytes() == saved[1].read_bytes()


def test_second_signal_ends_the_process(tmp_path, started):
    process = started("train", "cartpole_a2c", "--agent.n_steps=1_000_000", "--agent.fused=false")
    wait(lambda: list((tmp_path / "runs").glob("*/*/events*")))
    # The first rollout takes a million vector steps. Wait until the process has installed its signal handler.
    wait(lambda: _caught(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    assert "stopping after this rollout" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert process.returncode == -signal.SIGTERM
    assert list(folder_of(tmp_path).glob("checkpoints/*.safetensors")) == []


def test_resume_of_a_running_run_raises(tmp_path, started, capsys):
    process = started("train", "cartpole_a2c", "--total_timesteps=1_000_000_000", "--log_interval=5")
    wait(lambda: is_logging(tmp_path))
    folder = folder_of(tmp_path)
    config = (folder / "config.yaml").read_text()
    assert main(["resume", str(folder), "--total_timesteps=2_000_000_000", "--progress=none"]) == 2
    assert mentions(capsys.readouterr().err, "rl-rms: error", str(folder), f"process {process.pid}", "wait")
    assert (folder / "config.yaml").read_text() == config
    # A killed process holds no lock.
    process.kill()
    process.wait()
    log = (folder / "metrics.csv").read_text()
    assert main(["resume", str(folder), "--total_timesteps=2_000", "--progress=none"]) == 2
    assert mentions(capsys.readouterr().err, "no checkpoint", "rl-rms train")
    assert (folder / "metrics.csv").read_text() == log


def test_train_failed_checkpoint_write_returns_1_and_keeps_the_log(tmp_path, started, capsys):
    limit = 30_000
    process = started(
        "train",
        "cartpole_a2c",
        "--total_timesteps=10_000",
        "--log_interval=1",
        "--agent.policy.hidden_sizes=[64, 64]",
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert mentions(last, "rl-rms: error", "cannot write", "File too large", "disk")
    folder = folder_of(tmp_path)
    assert list(tmp_path.rglob("*.part")) == []
    log = (folder / "metrics.csv").read_text()
    assert main(["resume", str(folder), "--progress=none"]) == 2
    assert mentions(capsys.readouterr().err, "no checkpoint")
    assert (folder / "metrics.csv").read_text() == log


def test_train_deleted_run_folder_continues_in_a_new_one(tmp_path, started):
    process = started("train", "cartpole_a2c", "--total_timesteps=20_000", "--log_interval=5")
    wait(lambda: is_logging(tmp_path))
    folder = folder_of(tmp_path)
    # Rename the folder first, because the run may write files into it during the deletion.
    shutil.rmtree(folder.rename(tmp_path / "deleted"), ignore_errors=True)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert mentions(err, str(folder.relative_to(tmp_path)), "deleted")
    assert main(["resume", str(folder), "--total_timesteps=21_000", "--progress=none"]) == 0
    assert main(["plot", str(folder)]) == 0


def test_train_runs_dir_without_write_access_raises_at_the_start(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "cartpole_a2c", f"--runs_dir={tmp_path / 'file'}", "--progress=none"]) == 2
    error = capsys.readouterr().err
    assert mentions(
        error, "rl-rms: error", "cannot make the run's folder", str(tmp_path / "file"), "Not a directory"
    )


def test_ctrl_c_before_the_training_prints_one_line(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    assert main(["train", "cartpole_a2c"]) == 130
    assert capsys.readouterr().err == "rl-rms: ended by Ctrl-C\n"
