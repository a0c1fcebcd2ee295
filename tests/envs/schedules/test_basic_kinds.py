import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Constant,
    Key,
    Linear,
    PoissonJumps,
    Redraw,
    Schedule,
    Sinusoid,
    Step,
    as_schedules,
    stream_of,
)
from tests.naming import naming

KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


MOVING = [
    Sinusoid(mean=9.8, amplitude=4, period=20, phase=0.5),
    Redraw(low=0, high=1, every=3),
    Redraw(values=[1, 2, 2, 5], every=7),
    PoissonJumps(low=-1, high=1, mean_dwell=4.5),
    PoissonJumps(values=[1, 2], mean_dwell=1),
]


@pytest.mark.parametrize(
    ("schedule", "clocks", "expected"),
    [
        (Constant(3), [0, 5], [3, 3]),
        (Step(1, 2, at=10), [0, 9, 10, 11], [1, 1, 2, 2]),
        (Linear(9.8, 49.8, over=2_000), [0, 50, 1_000, 2_000, 9_999], [9.8, 10.8, 29.8, 49.8, 49.8]),
        (Sinusoid(1, 2, period=8), [0, 1, 2, 4, 6, 8], [1, 1 + math.sqrt(2), 3, 1, -1, 1]),
        (Sinusoid(0, 1, period=8, phase=math.pi / 2), [0, 2, 4], [1, 0, -1]),
    ],
)
def test_values_by_hand(schedule, clocks, expected):
    assert schedule.values(np.array(clocks), KEY) == pytest.approx(expected, abs=1e-12)
    assert schedule.value(clocks[-1], KEY) == pytest.approx(expected[-1], abs=1e-12)


@pytest.mark.parametrize("schedule", MOVING, ids=repr)
def test_values_lie_within_the_amplitude(schedule):
    values = schedule.values(np.arange(5_000), KEY)
    assert np.ptp(values) <= 2 * schedule.amplitude
    assert np.ptp(values) > 1.8 * schedule.amplitude


@pytest.mark.parametrize(
    ("schedule", "timescale", "amplitude"),
    [
        (Constant(3), math.inf, 0),
        (Step(1, 3, at=100), 100, 1),
        (Step(1, 3, at=0), math.inf, 1),
        (Step(3, 3, at=100), math.inf, 0),
        (Linear(0, -4, over=50), 50, 2),
        (Sinusoid(9.8, 4, period=20_000), 20_000 / (2 * math.pi), 4),
        (Sinusoid(9.8, 0, period=20_000), math.inf, 0),
        (Redraw(0.3, 0.9, every=100), 80, 0.3),
        (Redraw(values=[1, 5, 2], every=10), 8, 2),
        (PoissonJumps(0, 3, mean_dwell=70), 70, 1.5),
    ],
    ids=repr,
)
def test_timescale_and_amplitude(schedule, timescale, amplitude):
    assert schedule.timescale == pytest.approx(timescale)
    assert schedule.amplitude == pytest.approx(amplitude)


def test_yaml_form():
    assert Sinusoid(9.8, 4, 20_000).to_config() == {
        "sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 20_000.0}
    }
    assert Redraw(values=[1, 2], every=5).to_config() == {"redraw": {"every": 5, "values": [1.0, 2.0]}}
    assert Schedule.from_config({"poisson_jumps": {"low": 0, "high": 1, "mean_dwell": 2e4}}) == PoissonJumps(
        0, 1, 2e4
    )
    assert Schedule.from_config(3) == Constant(3.0)
    assert as_schedules({"gravity": 3, "length": MOVING[0]}) == {"gravity": Constant(3), "length": MOVING[0]}
    assert as_schedules(None) == {}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sinusoid(9.8, 4, 0), ("Sinusoid", "period", "> 0")),
        (lambda: Sinusoid(9.8, -4, 10), ("Sinusoid", "amplitude", ">= 0", "-4")),
        (lambda: Constant(math.nan), ("Constant", "value", "nan")),
        (lambda: Constant(True), ("True",)),
        (lambda: Linear("0", 1, 10), ("Linear", "start", "'0'")),
        (lambda: Step(0, 1, 2.5), ("Step", "at", ">= 0", "2.5")),
        (lambda: Redraw(0, 1), ("Redraw", "every", ">= 1", "None")),
        (lambda: Redraw(every=5), ("Redraw", "low", "high", "values")),
        (lambda: Redraw(low=0, every=5), ("low=0", "high=None")),
        (lambda: Redraw(0, 1, 5, values=[1]), ("Redraw", "low", "high", "values")),
        (lambda: Redraw(1, 0, every=5), ("Redraw", "low=1.0", "high=0.0")),
        (lambda: Redraw(values=[], every=5), ("values", "[]")),
        (lambda: PoissonJumps(0, 1, mean_dwell=0.5), ("mean_dwell", ">= 1", "0.5")),
        (
            lambda: Schedule.from_config("9.8"),
            ("schedule", "constant", "'9.8'"),
        ),
        (lambda: Schedule.from_config({"sinusiod": {}}), ("constant", "step", "sinusiod")),
        (lambda: Schedule.from_config({"step": 3}), ("step", "by name", "3")),
        (lambda: Schedule.from_config({"linear": {"start": 0}}), ("linear", "end", "over")),
        (
            lambda: as_schedules({"gravity": {"sinusoid": {"ampltude": 4}}}),
            ("changes.gravity", "sinusoid", "'ampltude'", "mean", "amplitude", "period", "phase"),
        ),
        (lambda: as_schedules([1]), ("changes", "[1]")),
    ],
)
def test_wrong_argument_is_named(make, said):
    with pytest.raises(ValueError, match=naming(*said)):
        make()
