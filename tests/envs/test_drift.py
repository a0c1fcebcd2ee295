import math

import numpy as np

from rl_rms.envs import drift
from rl_rms.envs.drift import count_regimes, regime_changes, timescale, trace
from rl_rms.envs.schedules import Constant, Key, Linear, PoissonJumps, Redraw, Sinusoid, Step, stream_of

CHANGES = {
    "gravity": Sinusoid(9.8, 4, 500),
    "length": Redraw(0.3, 0.9, every=64),
    "mass": PoissonJumps(0.5, 2, mean_dwell=40),
}


def test_trace_draws_each_schedule_from_the_stream_of_its_target():
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
    monkeypatch.setattr(drift, "COUNTED_AT_ONCE", 777)
    assert count_regimes(CHANGES, 10_000, seed=1) == whole


def test_timescale_is_the_shortest():
    assert timescale(CHANGES) == 40
    assert timescale({"a": Constant(3)}) == timescale({}) == math.inf
