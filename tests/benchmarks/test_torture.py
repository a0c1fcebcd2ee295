from pathlib import Path

from rl_rms.agents import storage

PATH = Path(__file__).parents[2] / "benchmarks" / "torture.py"


def test_nothing_is_lost(benchmark, tmp_path):
    assert benchmark.checkpoints.kills(tmp_path / "kills", 5)[1:] == (5, 0)
    cut = benchmark.checkpoints.cuts(tmp_path, 50)
    assert cut.injected > 1_000
    assert cut.lost == 0
    assert benchmark.checkpoints.flips(tmp_path, 200)[1:] == (200, 0)


def test_losses_would_be_counted(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_digest", lambda text, tensors: "0")
    assert benchmark.checkpoints.flips(tmp_path, 200).lost > 100


def test_the_committed_table_has_lost_nothing():
    rows = [line.split("|") for line in (PATH.parent / "results" / "torture.md").read_text().splitlines()[6:]]
    assert {row[4].strip() for row in rows} == {"0"}
    assert int(rows[0][2]) >= 100


def test_disks_and_processes_lose_nothing(benchmark, tmp_path):
    assert benchmark.processes.signals(tmp_path / "signals", 2)[1:] == (2, 0)
    assert benchmark.processes.full_disks(tmp_path / "full", 50)[1:] == (50, 0)
    assert benchmark.processes.full_logs(tmp_path / "logs", 3)[1:] == (3, 0)
    assert benchmark.processes.deleted_folders(tmp_path / "deleted", 1)[1:] == (1, 0)
    assert benchmark.processes.second_writers(tmp_path / "second", 1)[1:] == (1, 0)
