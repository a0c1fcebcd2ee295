"""After SIGTERM and Ctrl-C, commands leave no processes behind, and exit with the status of the signal."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rl_rms.cli import plot
from rl_rms.cli.main import main
from rl_rms.cli.signals import Terminated, sigterm_raises, status_of

SWEEP = """
config: cartpole_a2c
fix: {total_timesteps: 100000000, env.vectorization_mode: sync}
vary: {agent.learning_rate: [1.0e-3, 1.0e-2]}
seeds: [0]
sampler: grid
"""


@pytest.fixture(autouse=True)
def default_handler():
    """Removes the SIGTERM handler that Ray installs."""
    earlier = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, earlier)


def children_of(pid):
    """Descendants of a process."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [one for child in found for one in children_of(child)]


def is_computing(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "words", [("study", "half_life", "--processes", "2"), ("sweep", "mine.yaml", "--workers", "2")], ids=str
)
def test_signal_to_a_command_with_workers_ends_them_and_names_the_signal(tmp_path, words, number):
    pytest.importorskip("optuna")
    (tmp_path / "mine.yaml").write_text(SWEEP)
    process = subprocess.Popen(
        [sys.executable, "-m", "rl_rms.cli.main", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    workers = []
    try:
        # The children are the resource tracker of multiprocessing and two workers.
        wait_until(lambda: len(children_of(process.pid)) >= 3)
        workers = children_of(process.pid)
        process.send_signal(number)
        output = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 128 + number, output
        assert "Traceback" not in output
        wait_until(lambda: not any(map(is_computing, workers)))
    finally:
        # Workers that outlive their parent would keep the pipe open.
        for one in (*workers, process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_main_returns_the_status_of_a_signal_outside_a_training(monkeypatch, capsys, number, status):
    def wait(words):
        signal.raise_signal(number)

    monkeypatch.setattr(plot, "main", wait)
    assert main(["plot"]) == status
    assert "ended by" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_train_returns_the_status_of_a_signal_within_a_training(monkeypatch, tmp_path, number, status):
    monkeypatch.chdir(tmp_path)
    from rl_rms.agents.progress import ProgressCallback

    monkeypatch.setattr(ProgressCallback, "on_update", lambda *_: signal.raise_signal(number))
    words = ["train", "cartpole_a2c", "--env.num_envs=2", "--env.vectorization_mode=sync"]
    assert main([*words, "--total_timesteps=100000"]) == status


def test_sigterm_raises_outside_the_main_thread_does_nothing():
    def enter():
        with sigterm_raises():
            found.append(signal.getsignal(signal.SIGTERM))

    found = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_sigterm_raises_restores_the_earlier_handler():
    earlier = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(Terminated) as raised, sigterm_raises():
            signal.raise_signal(signal.SIGTERM)
        assert status_of(raised.value) == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, earlier)
