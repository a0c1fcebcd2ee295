"""Returns by regime, read from a log."""

import numpy as np

from rl_rms.cli.regimes import read_regimes
from rl_rms.cli.runs import read_run
from tests.cli.runs import regime, write_run


def test_read_run_has_the_logged_regimes(tmp_path):
    numbers = [{"time/total_timesteps": step, "env/regime": float(step > 1000)} for step in (500, 900, 1100, 2500)]
    rows = [*numbers, regime(1000, 1.0, 200.0), regime(2000, 50.0, 150.0, 300.0), regime(3000, 140.0, 6.0)]
    first, second, third = read_regimes(read_run(write_run(tmp_path / "run", [], rows=rows)))
    assert (first.start, first.end) == (0, 1000)
    assert np.isnan([first.before, first.recovery]).all()
    assert (second.start, second.before, second.recovery, second.fell) == (1000, 200.0, 300.0, True)
    assert (third.recovery, third.fell) == (np.inf, False)
