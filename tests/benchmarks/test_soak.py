import gc
import json
import mmap
import threading
from pathlib import Path

import pytest

from rl_rms.agents.callbacks import Callback

PATH = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_train_long_reads_memory_files_and_threads(benchmark, tmp_path):
    readings = benchmark.train_long(4_000, tmp_path)
    assert len(readings) > 25
    assert readings[-1].steps >= 4_000
    grown = benchmark.growth(readings)
    assert grown.before.steps >= 800
    (run,) = tmp_path.glob("soak/*")
    assert {one.name for one in run.iterdir()} >= {"checkpoints", "metrics.csv", "config.yaml"}
    assert "eval/mean_reward" in (run / "metrics.csv").read_text()
    assert (grown.files, grown.threads) == (grown.before.files, grown.before.threads)


class Leak(Callback):
    """Leaks 8 MiB of memory, a file and a thread in each update."""

    def __init__(self, folder):
        self.folder, self.kept, self.end = folder, [], threading.Event()

    def on_update(self, agent, logger):
        thread = threading.Thread(target=self.end.wait)
        thread.start()
        memory = mmap.mmap(-1, 8 << 20)  # mmap takes memory from the system, not memory that Python reuses
        memory.write(bytes(len(memory)))
        self.kept.append((memory, (self.folder / "leak").open("w"), thread))

    def on_training_end(self, agent, logger):
        self.end.set()
        for _, file, thread in self.kept:
            file.close()
            thread.join()


def test_growth_detects_a_leak(benchmark, tmp_path, monkeypatch):
    made = benchmark.train.make_callbacks
    monkeypatch.setattr(benchmark.train, "make_callbacks", lambda *args: [*made(*args), Leak(tmp_path)])
    gc.collect()  # memory that other tests left must not be freed during the training
    grown = benchmark.growth(benchmark.train_long(4_000, tmp_path))
    updates = 4_000 // 128 * 3 // 4
    assert grown.resident - grown.before.resident >= updates << 20
    assert grown.files - grown.before.files >= updates
    assert grown.threads - grown.before.threads >= updates
    assert not grown.is_flat


def test_growth_is_relative_to_the_end_of_the_warm_up(benchmark):
    def readings(*residents):
        return [benchmark.Reading(100 * (number + 1), held, 5, 2) for number, held in enumerate(residents)]

    assert benchmark.growth(readings(50, 100, 101, 100, 100, 100, 100, 100, 100, 100)).memory == pytest.approx(
        0.01
    )
    assert benchmark.growth(readings(50, 100, 102, 100, 100, 100, 100, 100, 100, 100)).is_flat is False


@pytest.mark.parametrize("half_life", [200.0, 100_000.0])
def test_three_forms_of_the_rule_agree_on_a_stream(benchmark, half_life):
    found = list(benchmark.deviations(half_life, 2_000))
    assert [one.updates for one in found] == [1_000, 2_000]
    for one in found:
        assert 0.0 < one.fast_v < 2e-5
        assert 0.0 < one.rule_v < 1e-5
        assert 0.0 < one.fast_parameter < 1e-4
        assert one.is_within


def test_deviation_detects_a_wrong_half_life_of_the_fast_path(benchmark, monkeypatch):
    made = benchmark.FastPath.__init__
    monkeypatch.setattr(benchmark.FastPath, "__init__", lambda self, half_life: made(self, half_life * 0.98))
    assert not list(benchmark.deviations(200.0, 1_000))[-1].is_within


def test_committed_table_equals_that_of_the_committed_readings(benchmark):
    written = json.loads(benchmark.TABLE.with_suffix(".json").read_text())
    readings = [benchmark.Reading(**one) for one in written["training"]]
    found = [benchmark.Deviation(**one) for one in written["optimizer"]]
    assert benchmark.table(readings, found) == benchmark.TABLE.read_text()
    assert readings[-1].steps >= 1_000_000
    assert benchmark.growth(readings).is_flat
    assert {one.half_life for one in found} == set(benchmark.HALF_LIVES)
    assert all(one.is_within for one in found)
