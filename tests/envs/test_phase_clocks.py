import numpy as np

from rl_rms.envs.drift import BLOCK, trace
from rl_rms.envs.phase_clocks import PhaseClocks
from rl_rms.envs.schedules import Redraw, Sinusoid

CHANGES = {"gravity": Sinusoid(9.8, 4, 500), "length": Redraw(0.3, 0.9, every=64)}


def test_phase_clocks_spread_over_the_cycle_or_timescale_of_each_target():
    clocks = PhaseClocks(CHANGES, seed=2, num_envs=4)
    clocks.set(4 * BLOCK - 6)  # one search for events covers 4 * BLOCK readings
    for _ in range(40):
        clock = clocks.reading
        swing, redrawn = clocks.values
        assert swing.tolist() == trace(CHANGES, clock + 125 * np.arange(4), 2)["gravity"].tolist()
        assert redrawn.tolist() == trace(CHANGES, clock + np.array([0, 13, 26, 38]), 2)["length"].tolist()
        # The length is redrawn at multiples of 64. The phases are a quarter of the timescale 51.2 apart.
        assert clocks.regime.tolist() == [(clock + ahead) // 64 for ahead in (0, 13, 26, 38)]
        ahead = clocks.values_after(np.ones(4, dtype=bool))
        clocks.advance(np.ones(4, dtype=bool), 4)
        assert np.array_equal(ahead, clocks.values)
    assert clocks.reading == 4 * BLOCK + 154
