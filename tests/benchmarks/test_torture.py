import contextlib
import json
from pathlib import Path

import pytest

from rl_rms.agents import files, storage
from rl_rms.envs import faults

PATH = Path(__file__).parents[2] / "benchmarks" / "torture.py"


@pytest.mark.slow
def test_checkpoint_faults_lose_nothing(benchmark, tmp_path):
    assert benchmark.checkpoints.kills(tmp_path / "kills", 5)[1:] == (5, 0)
    cut = benchmark.checkpoints.cuts(tmp_path, 50)
    assert cut.injected > 1_000
    assert cut.lost == 0
    assert benchmark.checkpoints.flips(tmp_path, 200)[1:] == (200, 0)


@pytest.mark.parametrize("what", ["reward", "observation", "gradient"])
@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_nonfinite_faults_lose_nothing(benchmark, what, on_nonfinite):
    assert benchmark.numbers.put_in(what, on_nonfinite, 12)[1:] == (12, 0)


def test_nonfinite_faults_without_handling_are_counted(benchmark, monkeypatch):
    monkeypatch.setattr("rl_rms.agents.imputation.are_tame", lambda observations: True)
    assert benchmark.numbers.put_in("observation", "raise", 12).lost > 0
    assert benchmark.numbers.put_in("observation", "skip", 12).lost > 0


def test_overflow_faults_lose_nothing(benchmark):
    assert benchmark.numbers.overflows(6)[1:] == (6, 0)


def test_environment_faults_lose_nothing(benchmark, tmp_path):
    for way, mend, how in (("sync", "raise", "wrong shape"), ("fork", "restart", "worker killed")):
        assert benchmark.environments.trainings(tmp_path, way, mend, how, 2)[1:] == (2, 0)


def test_environment_faults_without_a_report_are_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(faults.EnvError, "__str__", lambda error: "something failed")
    assert benchmark.environments.trainings(tmp_path, "sync", "raise", "raises", 2).lost == 2


def test_checkpoint_faults_with_a_broken_save_are_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "checksum", lambda text, tensors: "0")
    # Three quarters of this small file are its header, where most changed bits give invalid JSON.
    assert benchmark.checkpoints.flips(tmp_path, 200).lost > 50


def test_committed_table_has_no_losses(benchmark):
    found = json.loads(benchmark.TABLE.with_suffix(".json").read_text())
    assert benchmark.TABLE.read_text() == benchmark.table(found)
    assert found.keys() == benchmark.KINDS.keys()
    assert all(injected > 0 and lost == 0 for counts in found.values() for _, injected, lost in counts)
    assert found["checkpoints"][0][1] >= 100


@pytest.mark.slow
def test_disk_and_process_faults_lose_nothing(benchmark, tmp_path):
    assert benchmark.processes.signals(tmp_path / "signals", 2)[1:] == (2, 0)
    assert benchmark.processes.full_disks(tmp_path / "full", 50)[1:] == (50, 0)
    assert benchmark.processes.full_logs(tmp_path / "logs", 3)[1:] == (3, 0)
    assert benchmark.processes.deleted_folders(tmp_path / "deleted", 1)[1:] == (1, 0)
    assert benchmark.processes.second_writers(tmp_path / "second", 1)[1:] == (1, 0)


@pytest.mark.slow
def test_second_writers_without_a_lock_are_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "owned", lambda folder: contextlib.nullcontext())
    assert benchmark.processes.second_writers(tmp_path, 1).lost == 1
