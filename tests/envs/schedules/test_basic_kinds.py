"""The plainest schedules, by hand and by their statistics; what holds for all stands in test_every.py."""

import math
import subprocess
import sys

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


def test_redraw_holds_each_level_and_covers_the_interval_evenly():
    draws = Redraw(low=2, high=4, every=10).values(np.arange(0, 50_000), KEY).reshape(-1, 10)
    assert (draws == draws[:, :1]).all()
    # 5000 uniform draws: mean 3 with standard deviation 0.0082, quarters 1250 with standard deviation 31.
    assert draws[:, 0].mean() == pytest.approx(3, abs=0.033)
    assert np.histogram(draws[:, 0], bins=4, range=(2, 4))[0] == pytest.approx([1250] * 4, abs=122)


def test_redraw_from_a_list_takes_each_of_its_values():
    draws = Redraw(values=[1, 2, 5], every=1).values(np.arange(9_000), KEY)
    # 3000 each, with standard deviation 45.
    assert [np.count_nonzero(draws == level) for level in (1, 2, 5)] == pytest.approx([3_000] * 3, abs=179)


@pytest.mark.parametrize("mean_dwell", [1.0, 3.5, 100.0])
def test_poisson_jumps_dwell_for_geometric_times(mean_dwell):
    events = PoissonJumps(low=0, high=1, mean_dwell=mean_dwell).events(0, int(4_000 * mean_dwell), KEY)
    dwells = np.diff(events)
    # About 4000 dwells of mean m and variance m (m - 1), so both are known within some percent.
    assert dwells.mean() == pytest.approx(mean_dwell, rel=0.08)
    assert dwells.var() == pytest.approx(mean_dwell * (mean_dwell - 1), rel=0.2)
    assert dwells.min() == 1


def test_the_levels_of_poisson_jumps_know_nothing_of_their_times():
    schedule = PoissonJumps(low=0, high=1, mean_dwell=10)
    events = schedule.events(0, 40_000, KEY)
    levels = schedule.values(events, KEY)
    # About 4000 pairs: a correlation of independent values has standard deviation 0.016.
    assert abs(np.corrcoef(np.diff(events), levels[1:])[0, 1]) < 0.064
    assert abs(np.corrcoef(np.diff(events), levels[:-1])[0, 1]) < 0.064


def test_poisson_jumps_of_any_dwell_are_cheap_to_ask_far_ahead():
    # By drawing a number for every env step from 0 on this would take hours.
    assert 0 <= PoissonJumps(low=0, high=1, mean_dwell=1e9).value(10**13, KEY) < 1


def test_autocovariance_of_poisson_jumps_falls_with_the_timescale():
    schedule = PoissonJumps(low=-1, high=1, mean_dwell=20)
    values = schedule.values(np.arange(400_000), KEY)
    correlation = [np.mean(values[:-lag] * values[lag:]) / np.mean(values**2) for lag in (10, 20, 40)]
    assert correlation == pytest.approx(np.exp(-np.array([10, 20, 40]) / schedule.timescale), abs=0.04)


def test_the_period_of_a_sinusoid_stands_in_its_spectrum():
    values = Sinusoid(mean=9.8, amplitude=4, period=128).values(np.arange(4_096), KEY)
    assert np.argmax(np.abs(np.fft.rfft(values - values.mean()))) == 4_096 // 128


def test_seed_target_and_env_index_each_choose_a_stream():
    schedule = Redraw(low=0, high=1, every=1)
    keys = [KEY, KEY._replace(seed=8), KEY._replace(stream=stream_of("length")), KEY._replace(env_index=1)]
    traces = np.array([schedule.values(np.arange(4_000), key) for key in keys])
    assert np.abs(np.corrcoef(traces) - np.eye(4)).max() < 0.06


def test_the_same_seed_gives_the_same_drift_in_another_process():
    program = (
        "from rl_rms.envs.schedules import *\n"
        "print(PoissonJumps(0, 1, 50).value(123_456, Key(7, stream_of('gravity'), 0)).hex())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == PoissonJumps(0, 1, 50).value(123_456, KEY).hex()


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
        (lambda: Sinusoid(9.8, 4, 0), "Sinusoid: period must be a finite number > 0, got 0"),
        (lambda: Sinusoid(9.8, -4, 10), "Sinusoid: amplitude must be a finite number >= 0, got -4"),
        (lambda: Constant(math.nan), "Constant: value must be a finite number, got nan"),
        (lambda: Constant(True), "got True"),
        (lambda: Linear("0", 1, 10), "Linear: start must be a finite number, got '0'"),
        (lambda: Step(0, 1, 2.5), "Step: at must be a whole number >= 0 env steps, got 2.5"),
        (lambda: Redraw(0, 1), "Redraw: every must be a whole number >= 1 env steps, got None"),
        (lambda: Redraw(every=5), "Redraw needs either low and high, or values"),
        (lambda: Redraw(low=0, every=5), "low=0, high=None"),
        (lambda: Redraw(0, 1, 5, values=[1]), "Redraw needs either"),
        (lambda: Redraw(1, 0, every=5), "Redraw: low must be <= high, got low=1.0, high=0.0"),
        (lambda: Redraw(values=[], every=5), r"values must be a list of numbers, got \[\]"),
        (lambda: PoissonJumps(0, 1, mean_dwell=0.5), "mean_dwell must be a finite number >= 1, got 0.5"),
        (
            lambda: Schedule.from_config("9.8"),
            "a schedule must be one of .*constant.*got '9.8'",
        ),
        (lambda: Schedule.from_config({"sinusiod": {}}), "must be one of .*constant.* step, .*sinusiod"),
        (lambda: Schedule.from_config({"step": 3}), "the arguments of step must be given by name, got 3"),
        (lambda: Schedule.from_config({"linear": {"start": 0}}), "linear needs end and over"),
        (
            lambda: as_schedules({"gravity": {"sinusoid": {"ampltude": 4}}}),
            "changes.gravity: sinusoid has no argument 'ampltude'; it takes mean, amplitude, period, phase",
        ),
        (lambda: as_schedules([1]), r"changes must be a mapping of targets to schedules, got \[1\]"),
    ],
)
def test_what_is_wrong_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
