import math

from rl_rms.envs.schedules import (
    Cosine,
    Exponential,
    Key,
    Linear,
    Sigmoid,
)
from tests.envs.schedules.tables import error_test, timescale_test, values_test

test_values_equal_hand_computed_values = values_test(
    (Exponential(1, 3, tau=10), [0, 10, 20, 10**12], [1, 3 - 2 / math.e, 3 - 2 / math.e**2, 3]),
    (Cosine(3, 1, over=80), [0, 20, 40, 80, 10**12], [3, 2 + math.sqrt(0.5), 2, 1, 1]),
    (
        Sigmoid(1, 3, at=100, over=80),
        [0, 100, 110, 10**12],
        [1 + 2 / (1 + math.e**10), 2, 1 + 2 / (1 + 1 / math.e), 3],
    ),
    (Linear(9.8, 49.8, over=2_000), [0, 50, 1_000, 2_000, 9_999], [9.8, 10.8, 29.8, 49.8, 49.8]),
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (Exponential(3, -1, tau=50), 50, 2),
    (Cosine(3, -1, over=80), 80, 2),
    (Sigmoid(3, -1, at=500, over=80), 80, 2),
    (Linear(0, -4, over=50), 50, 2),
)

test_wrong_argument_is_named = error_test(
    (lambda: Exponential(0, 1, tau=0), ("Exponential", "tau", "> 0")),
    (lambda: Cosine(0, 1, over=0), ("Cosine", "over", "> 0")),
    (lambda: Sigmoid(0, 1, at=3, over=-1), ("Sigmoid", "over", "> 0", "-1")),
    (lambda: Linear("0", 1, 10), ("Linear", "start", "'0'")),
)


def test_values_stay_within_the_bounds_despite_rounding():
    for low, high in ((0.06, 0.6), (0.07, 0.6), (-1.2, -0.12), (-1.2, 0.36)):
        for start, end in ((low, high), (high, low)):
            for one in (Cosine(start, end, over=9), Exponential(start, end, tau=9), Sigmoid(start, end, 9, 2)):
                values = one.values([0, 1, 5, 9, 10**12], Key(seed=0))
                assert low <= values.min() <= values.max() <= high, one
