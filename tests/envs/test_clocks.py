import numpy as np
import pytest

from rl_rms.envs.clocks import IndependentClocks, PhaseClocks, SharedClock
from rl_rms.envs.drift import BLOCK, count_regimes, trace
from rl_rms.envs.schedules import Redraw, Sinusoid

CHANGES = {"gravity": Sinusoid(9.8, 4, 500), "length": Redraw(0.3, 0.9, every=64)}


def held(clock, seed, env_index=0):
    return [values[0] for values in trace(CHANGES, [clock], seed, env_index).values()]


@pytest.mark.parametrize("start", [0, BLOCK - 5, 3 * BLOCK - 1])
def test_one_clock_for_all_goes_through_blocks(start):
    clocks = SharedClock(CHANGES, seed=2, num_envs=3)
    clocks.set(start)
    expected = start
    for valid in ([True] * 3, [True, False, True], [False] * 3, [True] * 3, [False, True, False]):
        clocks.advance(np.array(valid), sum(valid))
        expected += sum(valid)
        assert (clocks.clock, clocks.clocks.tolist()) == (expected, [expected] * 3)
        assert list(clocks.columns) == held(expected, 2)
        assert clocks.regime == count_regimes(CHANGES, expected, 2)


def test_one_clock_for_each_goes_through_blocks():
    clocks = IndependentClocks(CHANGES, seed=2, num_envs=2)
    clocks.set(2 * BLOCK - 3)  # shares of BLOCK - 1 and BLOCK - 2
    for valid in ([True, True], [False, True], [True, True], [True, False]):
        clocks.advance(np.array(valid), sum(valid))
        for i, clock in enumerate(clocks.clocks.tolist()):
            assert [column[i] for column in clocks.columns] == held(clock, 2, i)
            assert clocks.regime[i] == count_regimes(CHANGES, clock, 2, i)
    assert clocks.clocks.tolist() == [BLOCK + 2, BLOCK + 1]
    assert clocks.clock == 2 * BLOCK + 3


def test_a_vector_step_may_span_more_than_a_block():
    clocks = SharedClock(CHANGES, seed=2, num_envs=2 * BLOCK + 1)
    clocks.advance(np.ones(2 * BLOCK + 1, dtype=bool), 2 * BLOCK + 1)
    assert list(clocks.columns) == held(2 * BLOCK + 1, 2)


def test_phases_are_spread_over_each_targets_own_cycle_or_timescale():
    clocks = PhaseClocks(CHANGES, seed=2, num_envs=4)
    clocks.set(4 * BLOCK - 6)  # events are looked for in so many readings at once
    for _ in range(40):
        clock = clocks.clock
        swing, redrawn = clocks.columns
        assert swing.tolist() == trace(CHANGES, clock + 125 * np.arange(4), 2)["gravity"].tolist()
        assert redrawn.tolist() == trace(CHANGES, clock + np.array([0, 13, 26, 38]), 2)["length"].tolist()
        # Redrawn at multiples of 64, each at another moment; a quarter of the timescale, 51.2, apart.
        assert clocks.regime.tolist() == [(clock + ahead) // 64 for ahead in (0, 13, 26, 38)]
        ahead = clocks.columns_after(np.ones(4, dtype=bool))
        clocks.advance(np.ones(4, dtype=bool), 4)
        assert np.array_equal(ahead, clocks.columns)
    assert clocks.clock == 4 * BLOCK + 154


@pytest.mark.parametrize("kind", [SharedClock, PhaseClocks, IndependentClocks])
def test_the_oracle_knows_what_comes(kind):
    clocks = kind(CHANGES, seed=2, num_envs=2)
    oracle = clocks.oracle(np.arange(70))
    one_each = np.ones(2, dtype=bool)
    for step in range(35):
        reading = step if kind is IndependentClocks else 2 * step
        for known, now in zip(oracle.values(), clocks.columns, strict=True):
            assert np.array_equal(known[..., reading], now)
        clocks.advance(one_each, 2)


@pytest.mark.parametrize("kind", [SharedClock, PhaseClocks, IndependentClocks])
def test_frozen_clocks_stand_still_and_chance_does_not(kind):
    clocks = kind(CHANGES, seed=2, num_envs=2)
    clocks.set(10)
    clocks.is_frozen = True
    before, moment = clocks.columns, clocks.moment
    valid = np.array([True, False])
    assert np.array_equal(clocks.columns_after(valid), before)
    clocks.advance(valid, 1)
    assert np.array_equal(clocks.columns, before)
    assert clocks.clock == 10
    assert clocks.moment.clocks != moment.clocks
