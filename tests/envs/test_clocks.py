import numpy as np
import pytest

from rl_rms.envs.clocks import IndependentClocks, SharedClock
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
        clocks.advance(np.array(valid))
        expected += sum(valid)
        assert (clocks.clock, clocks.clocks.tolist()) == (expected, [expected] * 3)
        assert list(clocks.columns) == held(expected, 2)
        assert clocks.regime == count_regimes(CHANGES, expected, 2)


def test_one_clock_for_each_goes_through_blocks():
    clocks = IndependentClocks(CHANGES, seed=2, num_envs=2)
    clocks.set(2 * BLOCK - 3)  # shares of BLOCK - 1 and BLOCK - 2
    for valid in ([True, True], [False, True], [True, True], [True, False]):
        clocks.advance(np.array(valid))
        for i, clock in enumerate(clocks.clocks.tolist()):
            assert [column[i] for column in clocks.columns] == held(clock, 2, i)
            assert clocks.regime[i] == count_regimes(CHANGES, clock, 2, i)
    assert clocks.clocks.tolist() == [BLOCK + 2, BLOCK + 1]
    assert clocks.clock == 2 * BLOCK + 3


def test_a_vector_step_may_span_more_than_a_block():
    clocks = SharedClock(CHANGES, seed=2, num_envs=2 * BLOCK + 1)
    clocks.advance(np.ones(2 * BLOCK + 1, dtype=bool))
    assert list(clocks.columns) == held(2 * BLOCK + 1, 2)
