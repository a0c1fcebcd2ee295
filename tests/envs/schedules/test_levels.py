import math

from rl_rms.envs.schedules import (
    Constant,
    PiecewiseConstant,
    Step,
)
from tests.envs.schedules.tables import error_test, timescale_test, values_test

test_values_equal_hand_computed_values = values_test(
    (PiecewiseConstant([(0, 1), (5, 3)]), [0, 4, 5, 10**12], [1, 1, 3, 3]),
    (Constant(3), [0, 5], [3, 3]),
    (Step(1, 2, at=10), [0, 9, 10, 11], [1, 1, 2, 2]),
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (PiecewiseConstant([(0, 1), (100, 3), (400, 2)]), 200, 1),
    (PiecewiseConstant([(0, 1)]), math.inf, 0),
    (Constant(3), math.inf, 0),
    (Step(1, 3, at=100), 100, 1),
    (Step(1, 3, at=0), math.inf, 1),
    (Step(3, 3, at=100), math.inf, 0),
)

test_wrong_argument_is_named = error_test(
    (lambda: PiecewiseConstant([]), ("points", "[]")),
    (lambda: PiecewiseConstant([1, 2]), ("points", "[1, 2]")),
    (lambda: PiecewiseConstant([(5, 1)]), ("points", "ascend from 0", "[5]")),
    (lambda: PiecewiseConstant([(0, 1), (0, 2)]), ("points", "ascend from 0", "[0, 0]")),
    (lambda: PiecewiseConstant([(0, "x")]), ("points", "finite", "'x'")),
    (lambda: Constant(math.nan), ("Constant", "value", "nan")),
    (lambda: Constant(True), ("True",)),
    (lambda: Step(0, 1, 2.5), ("Step", "at", ">= 0", "2.5")),
)
