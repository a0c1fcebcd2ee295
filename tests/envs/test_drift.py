import math

import numpy as np
import pytest

from rl_rms.envs import drift
from rl_rms.envs.drift import BLOCK, Drift, count_regimes, regime_changes, timescale, trace
from rl_rms.envs.schedules import Constant, Key, Linear, PoissonJumps, Redraw, Sinusoid, Step, stream_of

CHANGES = {
    "gravity": Sinusoid(9.8, 4, 500),
    "length": Redraw(0.3, 0.9, every=64),
    "mass": PoissonJumps(0.5, 2, mean_dwell=40),
}


def test_a_trace_is_each_schedule_in_the_stream_of_its_target():
    clocks = np.array([5, 3, 90_000])
    traced = trace(CHANGES, clocks, seed=4, env_index=2)
    assert list(traced) == list(CHANGES)
    for target, schedule in CHANGES.items():
        assert traced[target].tolist() == schedule.values(clocks, Key(4, stream_of(target), 2)).tolist()


def test_regime_changes_are_distinct_clocks():
    changes = {"a": Redraw(0, 1, every=10), "b": Step(0, 1, at=20), "c": Step(0, 1, at=25), "d": Linear(0, 1, 50)}
    assert regime_changes(changes, 0, 40, seed=0).tolist() == [10, 20, 25, 30, 40]
    assert regime_changes(changes, 10, 30, seed=0).tolist() == [20, 25, 30]
    assert regime_changes({}, 0, 40, seed=0).tolist() == []
    assert count_regimes(changes, 40, seed=0) == 5


def test_regimes_far_ahead_are_counted_piece_by_piece(monkeypatch):
    whole = count_regimes(CHANGES, 10_000, seed=1)
    monkeypatch.setattr(drift, "_COUNTED_AT_ONCE", 777)
    assert count_regimes(CHANGES, 10_000, seed=1) == whole


def test_a_clock_that_goes_on_reads_what_the_schedules_say():
    clock = Drift(CHANGES, seed=3)
    end = 2 * BLOCK + 10
    columns = np.column_stack(list(trace(CHANGES, np.arange(end), 3).values()))
    events = set(regime_changes(CHANGES, 0, end, 3).tolist())
    regime = 0
    for t in range(end):
        regime += t in events
        assert (clock.clock, clock.values, clock.regime) == (t, tuple(columns[t]), regime)
        clock.advance()


@pytest.mark.parametrize("target", [0, 17, BLOCK - 1, BLOCK, 5 * BLOCK + 3])
def test_a_clock_that_is_set_reads_as_one_that_got_there(target):
    gone, there = Drift(CHANGES, seed=3), Drift(CHANGES, seed=3)
    for _ in range(target):
        gone.advance()
    there.set(9_999)
    there.set(target)
    assert (there.values, there.regime) == (gone.values, gone.regime)
    there.set(target, seed=4)
    assert there.values[1:] == tuple(trace(CHANGES, [target], 4)[one][0] for one in ("length", "mass"))


def test_a_drift_of_nothing():
    clock = Drift({}, seed=0)
    for _ in range(BLOCK + 1):
        clock.advance()
    assert (clock.values, clock.regime, clock.clock) == ((), 0, BLOCK + 1)


def test_the_shortest_timescale_counts():
    assert timescale(CHANGES) == 40
    assert timescale({"a": Constant(3)}) == timescale({}) == math.inf
