import numpy as np

from rl_rms.envs.drift import BLOCK, count_regimes, trace
from rl_rms.envs.independent_clocks import IndependentClocks
from rl_rms.envs.schedules import Redraw, Sinusoid

CHANGES = {"gravity": Sinusoid(9.8, 4, 500), "length": Redraw(0.3, 0.9, every=64)}


def held(clock, seed, env_index=0):
    return [values[0] for values in trace(CHANGES, [clock], seed, env_index).values()]


def test_independent_clocks_equal_the_schedules_across_blocks():
    clocks = IndependentClocks(CHANGES, seed=2, num_envs=2)
    clocks.set(2 * BLOCK - 3)  # the sub-environments' clocks are BLOCK - 1 and BLOCK - 2
    for valid in ([True, True], [False, True], [True, True], [True, False]):
        clocks.advance(np.array(valid), sum(valid))
        for i, clock in enumerate(clocks.readings.tolist()):
            assert [column[i] for column in clocks.values] == held(clock, 2, i)
            assert clocks.regime[i] == count_regimes(CHANGES, clock, 2, i)
    assert clocks.readings.tolist() == [BLOCK + 2, BLOCK + 1]
    assert clocks.reading == 2 * BLOCK + 3


def test_state_of_another_number_of_processes_continues_the_clock():
    saved = IndependentClocks(CHANGES, seed=2, num_envs=2, shard=(0, 2))
    saved.set(400)
    for size in (1, 2, 4):
        clocks = IndependentClocks(CHANGES, seed=0, num_envs=2, shard=(0, size))
        clocks.load_state_dict(saved.state_dict())
        assert (clocks.reading, clocks.seed) == (400, 2)
