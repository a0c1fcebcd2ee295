import json
import pickle

import numpy as np
import pytest

from rl_rms.envs.clocks import SharedClock, SingleClock
from rl_rms.envs.drift import BLOCK, count_regimes, regime_changes, trace
from rl_rms.envs.independent_clocks import IndependentClocks
from rl_rms.envs.phase_clocks import PhaseClocks
from rl_rms.envs.schedules import PoissonJumps, Redraw, Sinusoid

CHANGES = {"gravity": Sinusoid(9.8, 4, 500), "length": Redraw(0.3, 0.9, every=64)}
THREE = {**CHANGES, "mass": PoissonJumps(0.5, 2, mean_dwell=40)}
KINDS = [SharedClock, PhaseClocks, IndependentClocks]


def held(clock, seed, env_index=0):
    return [values[0] for values in trace(CHANGES, [clock], seed, env_index).values()]


@pytest.mark.parametrize("start", [0, BLOCK - 5, 3 * BLOCK - 1])
def test_shared_clock_equals_the_schedules_across_blocks(start):
    clocks = SharedClock(CHANGES, seed=2, num_envs=3)
    clocks.set(start)
    expected = start
    for valid in ([True] * 3, [True, False, True], [False] * 3, [True] * 3, [False, True, False]):
        clocks.advance(np.array(valid), sum(valid))
        expected += sum(valid)
        assert (clocks.reading, clocks.readings.tolist()) == (expected, [expected] * 3)
        assert list(clocks.values) == held(expected, 2)
        assert clocks.regime == count_regimes(CHANGES, expected, 2)


def test_shared_clock_equals_the_schedules_if_a_vector_step_exceeds_a_block():
    clocks = SharedClock(CHANGES, seed=2, num_envs=2 * BLOCK + 1)
    clocks.advance(np.ones(2 * BLOCK + 1, dtype=bool), 2 * BLOCK + 1)
    assert list(clocks.values) == held(2 * BLOCK + 1, 2)


def test_single_clock_equals_the_schedules():
    clock = SingleClock(THREE, seed=3)
    end = 2 * BLOCK + 10
    columns = np.column_stack(list(trace(THREE, np.arange(end), 3).values()))
    events = set(regime_changes(THREE, 0, end, 3).tolist())
    regime = 0
    for t in range(end):
        regime += t in events
        assert (clock.reading, clock.values, clock.regime) == (t, tuple(columns[t]), regime)
        clock.advance()


@pytest.mark.parametrize("target", [0, 17, BLOCK - 1, BLOCK, 5 * BLOCK + 3])
def test_single_clock_that_is_set_equals_one_that_advanced(target):
    gone, there = SingleClock(THREE, seed=3), SingleClock(THREE, seed=3)
    for _ in range(target):
        gone.advance()
    there.set(9_999)
    there.set(target)
    assert (there.values, there.regime) == (gone.values, gone.regime)
    there.set(target, seed=4)
    assert there.values[1:] == tuple(trace(THREE, [target], 4)[one][0] for one in ("length", "mass"))


def test_single_clock_without_targets_counts_env_steps():
    clock = SingleClock({}, seed=0)
    for _ in range(BLOCK + 1):
        clock.advance()
    assert (clock.values, clock.regime, clock.reading) == ((), 0, BLOCK + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_returns_the_values_of_later_readings(kind):
    clocks = kind(CHANGES, seed=2, num_envs=2)
    oracle = clocks.oracle(np.arange(70))
    one_each = np.ones(2, dtype=bool)
    for step in range(35):
        reading = step if kind is IndependentClocks else 2 * step
        for known, now in zip(oracle.values(), clocks.values, strict=True):
            assert np.array_equal(known[..., reading], now)
        clocks.advance(one_each, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_clock_keeps_the_reading_and_draws_new_random_numbers(kind):
    clocks = kind(CHANGES, seed=2, num_envs=2)
    clocks.set(10)
    clocks.is_frozen = True
    before, noise_key = clocks.values, clocks.noise_key
    valid = np.array([True, False])
    assert np.array_equal(clocks.values_after(valid), before)
    clocks.advance(valid, 1)
    assert np.array_equal(clocks.values, before)
    assert clocks.reading == 10
    assert clocks.noise_key.clocks != noise_key.clocks


@pytest.mark.parametrize("kind", KINDS)
def test_clock_that_is_set_within_its_block_counts_no_regimes_again(kind, monkeypatch):
    clock, other = (kind(THREE, seed=2, num_envs=2) for _ in range(2))
    clock.set(2 * BLOCK + 900)
    other.set(2 * BLOCK + 100)
    assert not np.array_equal(clock.regime, other.regime)
    monkeypatch.setattr("rl_rms.envs.drift.count_regimes", None)
    monkeypatch.setattr("rl_rms.envs.phase_clocks.count_regimes", None)
    clock.set(2 * BLOCK + 100)
    assert np.array_equal(clock.regime, other.regime)
    assert all(map(np.array_equal, clock.values, other.values))


@pytest.mark.parametrize("kind", KINDS)
def test_copied_clock_continues_equally(kind):
    clock = kind(CHANGES, seed=2, num_envs=2)
    clock.set(10)
    other = pickle.loads(pickle.dumps(clock))
    for one in (clock, other):
        one.advance(np.ones(2, dtype=bool), 2)
    assert np.array_equal(other.values, clock.values)
    assert other.readings.tolist() == clock.readings.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_load_state_dict_restores_reading_and_seed(kind):
    clock, other = (kind(CHANGES, seed=seed, num_envs=2) for seed in (2, 3))
    clock.set(77)
    other.load_state_dict(json.loads(json.dumps(clock.state_dict())))
    assert (other.seed, other.reading) == (2, 77)
    assert np.array_equal(other.values, clock.values)
