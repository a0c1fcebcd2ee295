import json
from pathlib import Path

import numpy as np
import pytest

from rl_rms.envs.curricula import ReturnGate

PATH = Path(__file__).parents[2] / "benchmarks" / "gates.py"


def test_passes_at_is_the_first_episode_with_an_open_gate(benchmark):
    successes = np.array([1, 0, 0, 1, 1, 1], dtype=bool)
    assert benchmark.passes_at(ReturnGate(0.6, window=3), successes) == 5
    assert benchmark.passes_at(ReturnGate(0.6, window=3), successes[:4]) is None


def test_committed_measurements_equal_those_of_the_command(benchmark):
    raw = json.loads((PATH.parent / "results" / "gates.json").read_text())
    for name, make in benchmark.GATES.items():
        for rate in (0.65, 0.8):
            share = raw[name][str(rate)]["share"]
            error = 4 * np.sqrt(max(share * (1 - share), 0.01) / 200)
            assert benchmark.measure(rate, make, 200)["share"] == pytest.approx(share, abs=error)
