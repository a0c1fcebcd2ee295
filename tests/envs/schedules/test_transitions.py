import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Cosine,
    Exponential,
    Key,
    Linear,
    Sigmoid,
)
from tests.naming import naming

KEY = Key(seed=7, stream=3)


@pytest.mark.parametrize(
    ("schedule", "clocks", "expected"),
    [
        (Exponential(1, 3, tau=10), [0, 10, 20, 10**12], [1, 3 - 2 / math.e, 3 - 2 / math.e**2, 3]),
        (Cosine(3, 1, over=80), [0, 20, 40, 80, 10**12], [3, 2 + math.sqrt(0.5), 2, 1, 1]),
        (
            Sigmoid(1, 3, at=100, over=80),
            [0, 100, 110, 10**12],
            [1 + 2 / (1 + math.e**10), 2, 1 + 2 / (1 + 1 / math.e), 3],
        ),
        (Linear(9.8, 49.8, over=2_000), [0, 50, 1_000, 2_000, 9_999], [9.8, 10.8, 29.8, 49.8, 49.8]),
    ],
)
def test_values_equal_hand_computed_values(schedule, clocks, expected):
    assert schedule.values(np.array(clocks), KEY) == pytest.approx(expected, abs=1e-12)
    assert schedule.value(clocks[-1], KEY) == pytest.approx(expected[-1], abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "timescale", "amplitude"),
    [
        (Exponential(3, -1, tau=50), 50, 2),
        (Cosine(3, -1, over=80), 80, 2),
        (Sigmoid(3, -1, at=500, over=80), 80, 2),
        (Linear(0, -4, over=50), 50, 2),
    ],
    ids=repr,
)
def test_timescale_and_amplitude_equal_hand_computed_values(schedule, timescale, amplitude):
    assert schedule.timescale == pytest.approx(timescale)
    assert schedule.amplitude == pytest.approx(amplitude)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Exponential(0, 1, tau=0), ("Exponential", "tau", "> 0")),
        (lambda: Cosine(0, 1, over=0), ("Cosine", "over", "> 0")),
        (lambda: Sigmoid(0, 1, at=3, over=-1), ("Sigmoid", "over", "> 0", "-1")),
        (lambda: Linear("0", 1, 10), ("Linear", "start", "'0'")),
    ],
)
def test_wrong_argument_is_named(make, said):
    with pytest.raises(ValueError, match=naming(*said)):
        make()
