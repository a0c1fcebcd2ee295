import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Burst,
    Constant,
    Cosine,
    Exponential,
    Key,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    RandomWalk,
    Redraw,
    Sawtooth,
    Schedule,
    Sigmoid,
    Sinusoid,
    Square,
    Step,
    Trace,
)
from tests.naming import naming

KEY = Key(seed=7, stream=3)


@pytest.mark.parametrize(
    ("schedule", "clocks", "expected"),
    [
        (PiecewiseConstant([(0, 1), (5, 3)]), [0, 4, 5, 10**12], [1, 1, 3, 3]),
        (Exponential(1, 3, tau=10), [0, 10, 20, 10**12], [1, 3 - 2 / math.e, 3 - 2 / math.e**2, 3]),
        (Cosine(3, 1, over=80), [0, 20, 40, 80, 10**12], [3, 2 + math.sqrt(0.5), 2, 1, 1]),
        (
            Sigmoid(1, 3, at=100, over=80),
            [0, 100, 110, 10**12],
            [1 + 2 / (1 + math.e**10), 2, 1 + 2 / (1 + 1 / math.e), 3],
        ),
        (Square(-1, 1, period=10), [0, 4, 5, 9, 10, 10**12], [1, 1, -1, -1, 1, 1]),
        (Square(0, 1, period=10, duty=0.25), [0, 1, 2, 9], [1, 1, 0, 0]),
        (Square(0, 1, period=10, duty=0.001), [0, 1, 9, 10], [1, 0, 0, 1]),
        (Square(0, 1, period=10, duty=0.999), [0, 8, 9, 10], [1, 1, 0, 1]),
        (Sawtooth(2, 4, period=8), [0, 1, 7, 8, 10**12 + 4], [2, 2.25, 3.75, 2, 3]),
        (Burst(0, 5, duration=3, every=10), [0, 3, 9, 10, 12, 13, 20, 23], [0, 0, 0, 5, 5, 0, 5, 0]),
        (Trace([1, 4, 2], every=2), [0, 1, 2, 5, 6, 99], [1, 1, 4, 2, 2, 2]),
        (Trace([1, 4, 2], every=2, end="repeat"), [4, 5, 6, 8], [2, 2, 1, 4]),
        (Trace([1, 4, 2], every=2, between="linear"), [0, 1, 2, 3, 4, 5, 99], [1, 2.5, 4, 3, 2, 2, 2]),
        (Trace(np.array([1, 4, 2]), every=2, between="linear", end="repeat"), [4, 5, 6, 7], [2, 1.5, 1, 2.5]),
        (RandomWalk(3, 0, low=0), [0, 99], [3, 3]),
        (OrnsteinUhlenbeck(3, 0, tau=5), [0, 99], [3, 3]),
    ],
    ids=repr,
)
def test_values_by_hand(schedule, clocks, expected):
    assert schedule.values(np.array(clocks), KEY) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "timescale", "amplitude"),
    [
        (PiecewiseConstant([(0, 1), (100, 3), (400, 2)]), 200, 1),
        (PiecewiseConstant([(0, 1)]), math.inf, 0),
        (Exponential(3, -1, tau=50), 50, 2),
        (Cosine(3, -1, over=80), 80, 2),
        (Sigmoid(3, -1, at=500, over=80), 80, 2),
        (Square(0, 1, period=100), 25, 0.5),
        (Square(3, 0, period=100, duty=0.1), 9, 1.5),
        (Sawtooth(0, 1, period=60), 10, 0.5),
        (Markov([0, 1], mean_dwell=100), 50, 0.5),
        (Markov([0, 1, 2], transitions=[[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), 20 / 3, 1),
        (Markov([2, 2], mean_dwell=100), math.inf, 0),
        (Burst(0, 1, duration=10, every=100), 9, 0.5),
        (Burst(0, 1, duration=2, rate=0.5), 0.75 / 0.5, 0.5),
        (OrnsteinUhlenbeck(9, 2, tau=30), 30, 2),
        (OrnsteinUhlenbeck(9, 0, tau=30), math.inf, 0),
        (RandomWalk(1, std=0.1, low=0, high=6), 600, 3),
        (RandomWalk(1, std=0.1, low=0), math.inf, math.inf),
        (RandomWalk(1, std=0), math.inf, 0),
        (Trace([5, 5, 5]), math.inf, 0),
    ],
    ids=repr,
)
def test_timescale_and_amplitude(schedule, timescale, amplitude):
    assert schedule.timescale == pytest.approx(timescale)
    assert schedule.amplitude == pytest.approx(amplitude)


@pytest.mark.parametrize(
    "schedule",
    [
        PoissonJumps(0, 1, mean_dwell=40),
        Markov([0, 1, 4], transitions=[[0.9, 0.1, 0], [0, 0.98, 0.02], [0.05, 0, 0.95]]),
        Square(0, 1, period=200, duty=0.2),
        Sawtooth(0, 1, period=240),
        Burst(0, 1, duration=30, every=100),
        Burst(0, 1, duration=30, rate=0.01),
        OrnsteinUhlenbeck(0, 1, tau=40),
        RandomWalk(0.5, std=0.02, low=0, high=1),
    ],
    ids=repr,
)
def test_the_timescale_is_that_of_the_first_steps(schedule):
    values = schedule.values(np.arange(2_000_000), KEY)
    change = np.mean(np.diff(values) ** 2)
    # 1 - 1/tau or exp(-1/tau) is the correlation a clock later, which differ by 1 / (2 tau).
    assert 2 * values.var() / change == pytest.approx(schedule.timescale, rel=0.04)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PiecewiseConstant([]), ("points", "[]")),
        (lambda: PiecewiseConstant([1, 2]), ("points", "[1, 2]")),
        (lambda: PiecewiseConstant([(5, 1)]), ("points", "ascend from 0", "[5]")),
        (lambda: PiecewiseConstant([(0, 1), (0, 2)]), ("points", "ascend from 0", "[0, 0]")),
        (lambda: PiecewiseConstant([(0, "x")]), ("points", "finite", "'x'")),
        (lambda: Exponential(0, 1, tau=0), ("Exponential", "tau", "> 0")),
        (lambda: Cosine(0, 1, over=0), ("Cosine", "over", "> 0")),
        (lambda: Sigmoid(0, 1, at=3, over=-1), ("Sigmoid", "over", "> 0", "-1")),
        (lambda: Square(0, 1, period=1), ("Square", "period", ">= 2", "1")),
        (lambda: Square(0, 1, period=4, duty=1), ("duty", "> 0", "< 1")),
        (lambda: Sawtooth("a", 1, period=4), ("Sawtooth", "low", "'a'")),
        (lambda: Markov([1], mean_dwell=3), ("values", "two")),
        (lambda: Markov(3, mean_dwell=3), ("Markov", "values", "3")),
        (lambda: Markov([1, 2]), ("mean_dwell=None", "transitions")),
        (lambda: Markov([1, 2], mean_dwell=0.5), ("mean_dwell", ">= 1", "0.5")),
        (lambda: Markov([1, 2], transitions=[[1, 0]]), ("transitions", "2 rows", "2 probabilities")),
        (lambda: Markov([1, 2], transitions=[[1, 0.5], [1, 0]]), ("sum to 1", "[1.0, 0.5]", "1.5")),
        (lambda: Markov([1, 2], transitions=[[1, 0], [1, 0]]), ("number 1", "number 0")),
        (
            lambda: Markov([1, 2], transitions=[[2, -1], [1, 0]]),
            ("transitions", ">= 0", "-1"),
        ),
        (lambda: Burst(0, 1, duration=3), ("every=None", "rate=None")),
        (lambda: Burst(0, 1, duration=3, every=3), ("duration=3", "every=3")),
        (lambda: Burst(0, 1, duration=3, rate=1), ("rate", "> 0", "< 1")),
        (lambda: OrnsteinUhlenbeck(0, -1, tau=3), ("std", ">= 0", "-1")),
        (lambda: OrnsteinUhlenbeck(0, 1, tau=0), ("tau", "> 0")),
        (lambda: RandomWalk(0, 1, low=1, high=1), ("low=1.0", "high=1.0")),
        (lambda: RandomWalk(5, 1, high=1), ("start=5.0", "low", "high")),
        (lambda: Trace([[1, 2]]), ("finite", "(1, 2)")),
        (lambda: Trace([1, "a"]), ("finite",)),
        (lambda: Trace([1], between="cubic"), ("between", "hold", "linear", "'cubic'")),
        (lambda: Trace([1], end="stop"), ("end", "hold", "repeat", "'stop'")),
        (lambda: Constant(1).clip(), ("Clip", "low", "high")),
        (lambda: Constant(1).reflect(2, 1), ("Reflect", "low=2.0", "high=1.0")),
        (lambda: Constant(1).delay(-1), ("Delay", "steps", ">= 0", "-1")),
        (lambda: Constant(1).during(5, 5), ("During", "start=5", "end=5")),
        (lambda: Constant(1).then(2, at=0), ("Then", "at", ">= 1", "0")),
        (lambda: Constant(1).then("x", at=5), ("Then", "schedule")),
        (lambda: Schedule.from_config({"sum": []}), ("Sum", "schedules", "[]")),
        (lambda: Schedule.from_config({"product": 3}), ("product", "by name", "3")),
        (
            lambda: Schedule.from_config({"sum": [1, {"clip": {"schedule": {"step": {"at": 3}}}}]}),
            ("Sum", "Clip", "step", "before", "after"),
        ),
        (lambda: RandomWalk(0, 1).half_life(steps_per_update=1, snr=1), ("variance", "low", "high")),
        (lambda: (RandomWalk(0, 1) + 1).half_life(steps_per_update=1, snr=1), ("variance",)),
    ],
)
def test_wrong_argument_is_named(make, said):
    with pytest.raises(ValueError, match=naming(*said)):
        make()


def test_only_schedules_and_numbers_can_be_added():
    with pytest.raises(TypeError):
        Linear(0, 1, 5) + "1"
    with pytest.raises(TypeError):
        Sinusoid(0, 1, 5) * None
    assert np.float64(2) * Step(1, 2, at=3) == Step(1, 2, at=3) * 2
    assert Redraw(0, 1, every=5) + 1 == 1 + Redraw(0, 1, every=5)
