import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "peers.py"


@pytest.fixture
def installed(benchmark, monkeypatch):
    """The benchmark with short measurements, and with the peers whose packages the tests need anyway."""
    names = ("rl_rms, native", "rl_rms, Sync", "Stable-Baselines3", "CleanRL's style")
    monkeypatch.setattr(benchmark, "PEERS", {name: benchmark.PEERS[name] for name in names})
    monkeypatch.setattr(benchmark, "SECONDS", 0.01)
    return benchmark


def test_measure_has_each_peer_in_each_round(installed):
    measured = installed.measure(2, rounds=3)
    assert {name: len(speeds) for name, speeds in measured.items()} == dict.fromkeys(installed.PEERS, 3)
    assert all(speed > 0 for speeds in measured.values() for speed in speeds)


def test_measure_leaves_out_peers_that_are_not_installed(installed, monkeypatch):
    monkeypatch.setitem(installed.PEERS, "missing", ("no_such_package", installed.sb3))
    assert "missing" not in installed.measure(1, rounds=2)


def test_table_divides_rl_rms_by_each_peer(installed):
    ours = {"rl_rms, native": [100.0, 200.0, 300.0], "rl_rms, Sync": [50.0] * 3}
    theirs = {"Stable-Baselines3": [400.0] * 3, "CleanRL's style": [200.0] * 3}
    row = installed.table({"1024": ours | theirs}).splitlines()[-1]
    assert row == (
        "| 1,024 | 200 | 50 (4.00, 2.00 to 6.00) | 400 (0.50, 0.25 to 0.75) | 200 (1.00, 0.50 to 1.50) |"
    )


def test_committed_table_comes_from_the_committed_numbers(benchmark):
    measured = json.loads((PATH.parent / "results" / "peers.json").read_text())["steps_per_second"]
    assert benchmark.table(measured) in (PATH.parent / "results" / "peers.md").read_text()
