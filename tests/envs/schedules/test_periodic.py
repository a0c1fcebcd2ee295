import math

import numpy as np

from rl_rms.envs.schedules import (
    Key,
    Sawtooth,
    Sinusoid,
    Square,
    stream_of,
)
from tests.envs.schedules.tables import decay_test, error_test, timescale_test, values_test

KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


def test_sinusoid_spectrum_has_its_period():
    values = Sinusoid(mean=9.8, amplitude=4, period=128).values(np.arange(4_096), KEY)
    assert np.argmax(np.abs(np.fft.rfft(values - values.mean()))) == 4_096 // 128


test_values_equal_hand_computed_values = values_test(
    (Square(-1, 1, period=10), [0, 4, 5, 9, 10, 10**12], [1, 1, -1, -1, 1, 1]),
    (Square(0, 1, period=10, duty=0.25), [0, 1, 2, 9], [1, 1, 0, 0]),
    (Square(0, 1, period=10, duty=0.001), [0, 1, 9, 10], [1, 0, 0, 1]),
    (Square(0, 1, period=10, duty=0.999), [0, 8, 9, 10], [1, 1, 0, 1]),
    (Sawtooth(2, 4, period=8), [0, 1, 7, 8, 10**12 + 4], [2, 2.25, 3.75, 2, 3]),
    (Sinusoid(1, 2, period=8), [0, 1, 2, 4, 6, 8], [1, 1 + math.sqrt(2), 3, 1, -1, 1]),
    (Sinusoid(0, 1, period=8, phase=math.pi / 2), [0, 2, 4], [1, 0, -1]),
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (Square(0, 1, period=100), 25, 0.5),
    (Square(3, 0, period=100, duty=0.1), 9, 1.5),
    (Sawtooth(0, 1, period=60), 10, 0.5),
    (Sinusoid(9.8, 4, period=20_000), 20_000 / (2 * math.pi), 4),
    (Sinusoid(9.8, 0, period=20_000), math.inf, 0),
)

test_timescale_equals_the_initial_decay_of_the_autocovariance = decay_test(
    Square(0, 1, period=200, duty=0.2), Sawtooth(0, 1, period=240)
)

test_wrong_argument_is_named = error_test(
    (lambda: Square(0, 1, period=1), ("Square", "period", ">= 2", "1")),
    (lambda: Square(0, 1, period=4, duty=1), ("duty", "> 0", "< 1")),
    (lambda: Sawtooth("a", 1, period=4), ("Sawtooth", "low", "'a'")),
    (lambda: Sinusoid(9.8, 4, 0), ("Sinusoid", "period", "> 0")),
    (lambda: Sinusoid(9.8, -4, 10), ("Sinusoid", "amplitude", ">= 0", "-4")),
)
