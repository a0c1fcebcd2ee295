"""Combined schedules: values, random numbers, bounds and time."""

import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Constant,
    Function,
    Key,
    Linear,
    OrnsteinUhlenbeck,
    PoissonJumps,
    Product,
    RandomWalk,
    Redraw,
    Schedule,
    Sinusoid,
    Square,
    Step,
    Sum,
)
from tests.envs.schedules.tables import error_test

KEY = Key(seed=7, stream=3)
T = np.arange(3_000)
RAMP = Linear(0, 100, over=100)
WANDERING = OrnsteinUhlenbeck(mean=1, std=2, tau=30)


@pytest.mark.parametrize(
    ("schedule", "clocks", "expected"),
    [
        (RAMP + Step(0, 5, at=3) + 1, [0, 2, 3], [1, 3, 9]),
        (2 * RAMP * Step(1, 5, at=3), [0, 2, 3], [0, 4, 30]),
        (RAMP.clip(2, 4), [0, 2, 3, 4, 5], [2, 2, 3, 4, 4]),
        (RAMP.clip(high=1), [0, 1, 2], [0, 1, 1]),
        (RAMP.reflect(2, 4), [0, 1, 2, 3, 4, 5, 6, 7], [4, 3, 2, 3, 4, 3, 2, 3]),
        (RAMP.delay(5), [0, 5, 6], [0, 0, 1]),
        (RAMP.during(3, 6), [0, 3, 4, 6, 9], [3, 3, 4, 6, 6]),
        (RAMP.during(3, 6, rest=-1), [0, 2, 3, 5, 6], [-1, -1, 3, 5, -1]),
        (RAMP.then(RAMP * -1, at=3), [0, 2, 3, 4], [0, 2, 0, -1]),
        (RAMP.then(7, at=3).then(RAMP, at=5), [2, 3, 4, 5, 6], [2, 7, 7, 0, 1]),
    ],
    ids=repr,
)
def test_combined_values_equal_hand_computed_values(schedule, clocks, expected):
    assert schedule.values(np.array(clocks), KEY).tolist() == expected


def test_parts_of_an_expression_share_no_random_numbers():
    jumps = Redraw(0, 1, every=1)
    a, b = jumps.values(T, KEY.of_part(0)), jumps.values(T, KEY.of_part(1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06
    assert (jumps + jumps).values(T, KEY).tolist() == (a + b).tolist()
    # With shared random numbers, the sum would have the variance 4/12, and the product would be a square.
    assert (jumps + jumps).values(T, KEY).var() == pytest.approx(2 / 12, rel=0.1)
    assert (jumps * jumps).values(T, KEY).mean() == pytest.approx(1 / 4, rel=0.05)
    # Nested parts do not share random numbers.
    parts = (jumps * jumps) + jumps.then(jumps * jumps, at=1_500) + jumps
    product, then, _ = parts.schedules
    first, second, third = (KEY.of_part(index) for index in range(3))
    keys = [first.of_part(0), first.of_part(1), second.of_part(0), second.of_part(1).of_part(0), third]
    assert len(set(keys)) == 5
    assert product.values(T, first).tolist() != then.values(T, second).tolist()


def test_combination_with_one_random_part_keeps_its_trace():
    trace = WANDERING.values(T, KEY)
    assert (2 * WANDERING + 1 + Sinusoid(0, 1, 50)).values(T, KEY) == pytest.approx(
        2 * trace + 1 + np.sin(2 * math.pi * T / 50)
    )
    assert WANDERING.clip(0, 1).values(T, KEY).tolist() == np.clip(trace, 0, 1).tolist()
    assert WANDERING.delay(100).values(T[100:], KEY).tolist() == trace[:-100].tolist()
    assert WANDERING.during(50, 90).values(T[50:90], KEY).tolist() == trace[50:90].tolist()
    assert WANDERING.then(3, at=70).values(T[:70], KEY).tolist() == trace[:70].tolist()


def test_reflect_equals_the_walls_of_a_walk():
    free, held = RandomWalk(0.5, std=0.1), RandomWalk(0.5, std=0.1, low=0, high=1)
    assert free.reflect(0, 1).values(T, KEY).tolist() == held.values(T, KEY).tolist()


def test_sum_with_other_brackets_is_equal():
    a, b, c = Redraw(0, 1, every=3), Redraw(0, 1, every=3), WANDERING
    left, right = (a + b) + c, a + (b + c)
    assert left == right == Sum([a, b, c])
    assert hash(left) == hash(right)
    assert left.values(T, KEY).tolist() == right.values(T, KEY).tolist()
    assert Product([a, Product([b, c])]) == a * b * c
    assert (a + b) * c != a + b * c


def test_combinations_have_yaml_forms():
    written = {
        "clip": {
            "schedule": {
                "sum": [
                    {"constant": {"value": 9.8}},
                    {"product": [{"random_walk": {"start": 0.0, "std": 0.1}}, {"constant": {"value": 2.0}}]},
                ]
            },
            "low": 5.0,
        }
    }
    schedule = (9.8 + Constant(0)).clip(low=5)
    assert schedule.to_config() == {
        "clip": {"schedule": {"sum": [{"constant": {"value": 0.0}}, {"constant": {"value": 9.8}}]}, "low": 5.0}
    }
    assert Schedule.from_config(written).to_config() == written
    assert Schedule.from_config(written) == Sum([9.8, RandomWalk(0, 0.1) * 2]).clip(low=5)
    assert Schedule.from_config(
        {"then": {"first": 1, "second": {"delay": {"schedule": 2, "steps": 3}}, "at": 4}}
    ) == (Constant(1).then(Constant(2).delay(3), at=4))


@pytest.mark.parametrize(
    ("schedule", "bounds", "amplitude", "timescale"),
    [
        (Step(1, 3, at=50) + Sinusoid(10, 2, period=2 * math.pi) + 1, (10, 16), 3, 1),
        (Step(1, 3, at=50) * Step(-2, 1, at=10), (-6, 3), 4.5, 10),
        (Step(1, 3, at=50) * -2, (-6, -2), 2, 50),
        (WANDERING * -2 + 5, (-math.inf, math.inf), 4, 30),
        (WANDERING * 0, (0, 0), 0, math.inf),
        # The variance of this product is (1 + 4) * (1 + 4) - 1.
        (WANDERING * WANDERING, (-math.inf, math.inf), math.sqrt(24), 30),
        (RandomWalk(0, 1) * WANDERING, (-math.inf, math.inf), math.inf, 30),
        (RAMP.clip(20, 400), (20, 100), 40, 100),
        (RAMP.clip(200, 400), (200, 200), 0, math.inf),
        (WANDERING.clip(0, 3), (0, 3), 1.5, 30),
        (WANDERING.clip(low=0), (0, math.inf), 2, 30),
        (RAMP.reflect(-5, 200), (0, 100), 50, 100),
        (RAMP.reflect(20, 60), (20, 60), 20, 100),
        (RAMP.reflect(high=80), (0, 80), 40, 100),
        (RAMP.reflect(low=60), (60, 120), 30, 100),
        (RAMP.reflect(low=200), (300, 400), 50, 100),
        (Sinusoid(12, 1, 6).reflect(0, 10), (7, 9), 1, 6 / (2 * math.pi)),
        (Sinusoid(20, 1, 6).reflect(0, 10), (0, 1), 0.5, 6 / (2 * math.pi)),
        (RandomWalk(0, 1).reflect(low=-3), (-3, math.inf), math.inf, math.inf),
        (RandomWalk(0, 1, low=-1).reflect(high=3), (-math.inf, 3), math.inf, math.inf),
        (RAMP.delay(70), (0, 100), 50, 100),
        (RAMP.during(10, 20), (0, 100), 50, 100),
        (RAMP.during(10, 20, rest=-100), (-100, 100), 100, 10),
        (Constant(3).during(10, 30, rest=1), (1, 3), 1, 20),
        (Constant(3).then(1, at=40), (1, 3), 1, 40),
        (WANDERING.then(Constant(1), at=40), (-math.inf, math.inf), 2, 30),
        (Function(np.sqrt, timescale=9, amplitude=4) + 1, (-math.inf, math.inf), 4, 9),
    ],
    ids=repr,
)
def test_combinations_have_bounds_amplitude_and_timescale(schedule, bounds, amplitude, timescale):
    assert schedule.bounds == pytest.approx(bounds)
    assert schedule.amplitude == pytest.approx(amplitude)
    assert schedule.timescale == pytest.approx(timescale)


def test_center_without_bounds_equals_hand_computed_values():
    assert (WANDERING * -2 + 5).center == 3
    assert (WANDERING * WANDERING).center == 1
    assert WANDERING.clip(low=3).center == 3
    assert WANDERING.delay(3).center == 1
    assert WANDERING.during(3, 5, rest=9).center == 1
    assert WANDERING.then(5, at=3).center == 3


def test_then_of_two_constants_equals_a_step():
    step, written = Step(1, 3, at=40), Constant(1).then(3, at=40)
    assert written.values(T, KEY).tolist() == step.values(T, KEY).tolist()
    assert written.events(0, 99, KEY).tolist() == [40]
    assert (written.timescale, written.amplitude) == (step.timescale, step.amplitude)
    arguments = {"steps_per_update": 2, "snr": 0.5}
    assert written.half_life(**arguments) == step.half_life(**arguments)
    assert Constant(1).during(0, 40, rest=3).half_life(**arguments) == step.half_life(**arguments)


def test_then_starts_the_second_schedule_at_clock_0():
    second = PoissonJumps(0, 1, mean_dwell=10)
    then = Square(0, 1, period=10).then(second, at=100)
    assert then.values(T[100:], KEY).tolist() == second.values(T[:-100], KEY).tolist()
    assert then.events(100, 2_000, KEY).tolist() == (second.events(0, 1_900, KEY) + 100).tolist()


test_wrong_argument_is_named = error_test(
    (lambda: Constant(1).clip(), ("Clip", "low", "high")),
    (lambda: Constant(1).reflect(2, 1), ("Reflect", "low=2.0", "high=1.0")),
)


def test_adding_another_type_to_a_schedule_raises():
    with pytest.raises(TypeError):
        Linear(0, 1, 5) + "1"
    with pytest.raises(TypeError):
        Sinusoid(0, 1, 5) * None
    assert np.float64(2) * Step(1, 2, at=3) == Step(1, 2, at=3) * 2
    assert Redraw(0, 1, every=5) + 1 == 1 + Redraw(0, 1, every=5)
