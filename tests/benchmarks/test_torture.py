from pathlib import Path

from rl_rms.agents import storage
from rl_rms.envs import faults

PATH = Path(__file__).parents[2] / "benchmarks" / "torture.py"


def test_nothing_is_lost(benchmark, tmp_path):
    assert benchmark.checkpoints.kills(tmp_path / "kills", 5)[1:] == (5, 0)
    cut = benchmark.checkpoints.cuts(tmp_path, 50)
    assert cut.injected > 1_000
    assert cut.lost == 0
    assert benchmark.checkpoints.flips(tmp_path, 200)[1:] == (200, 0)


def test_no_fault_of_an_environment_is_lost(benchmark, tmp_path):
    for way, mend, how in (("sync", "raise", "wrong shape"), ("fork", "restart", "worker killed")):
        assert benchmark.environments.trainings(tmp_path, way, mend, how, 2)[1:] == (2, 0)


def test_faults_of_environments_that_nobody_tells_of_would_be_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(faults.EnvError, "__str__", lambda error: "something failed")
    assert benchmark.environments.trainings(tmp_path, "sync", "raise", "raises", 2).lost == 2


def test_losses_would_be_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_digest", lambda text, tensors: "0")
    assert benchmark.checkpoints.flips(tmp_path, 200).lost > 100


def test_the_committed_table_has_lost_nothing():
    rows = [line.split("|") for line in (PATH.parent / "results" / "torture.md").read_text().splitlines()[6:]]
    assert {row[4].strip() for row in rows} == {"0"}
    assert int(rows[0][2]) >= 100
