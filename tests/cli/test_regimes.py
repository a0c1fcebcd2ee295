import math

from rl_rms.agents.adaptation import Regime
from rl_rms.cli.regimes import read_regimes
from rl_rms.cli.runs import read_run
from tests.cli.runs import regime, write_run


def test_read_regimes_has_the_logged_regimes(tmp_path):
    numbers = [{"time/total_timesteps": step, "env/regime": float(step > 1000)} for step in (500, 900, 1000, 2500)]
    rows = [
        *numbers,
        regime(0, 1000, 1.0, 200.0),
        regime(1, 2000, 50.0, 150.0, 300.0),
        regime(3, 3000, 140.0, 6.0),
    ]
    first, *others = read_regimes(read_run(write_run(tmp_path / "run", [], rows=rows)))
    assert repr(first) == repr(Regime(0, 0, 1000, 100.5, 1.0, 200.0, math.nan))  # nan is unequal to itself
    assert others == [
        Regime(1, 1000, 2000, 100.0, 50.0, 150.0, 300.0),
        Regime(3, 2000, 3000, 73.0, 140.0, 6.0, math.inf),
    ]


def test_read_regimes_of_a_regime_with_too_few_episodes_has_no_recovery(tmp_path):
    rows = [regime(0, 1000, 1.0, 200.0)]
    rows += [
        {**regime(number, 1000 * (number + 1), 1.0, 200.0), "adaptation/episodes": 18 + number}
        for number in (1, 2)
    ]
    _, few, enough = read_regimes(read_run(write_run(tmp_path / "run", [], rows=rows)))
    assert math.isnan(few.recovery)
    assert enough.recovery == math.inf


def test_read_regimes_of_a_run_resumed_within_a_regime_has_it_once(tmp_path):
    rows = [regime(0, 1000, 1.0, 200.0), regime(1, 1500, 50.0, 60.0), regime(1, 2000, 50.0, 190.0, 700.0)]
    _, second = read_regimes(read_run(write_run(tmp_path / "run", [], rows=rows)))
    assert (second.start, second.end, second.last_tenth, second.recovery) == (1000, 2000, 190.0, 700.0)
