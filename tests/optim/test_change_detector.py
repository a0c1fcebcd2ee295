"""The detector of changes of a noisy level."""

import math
import random

import numpy as np
import pytest

from rl_rms.optim.change_detector import ChangeDetector


def test_a_steady_stream_rings_at_most_once_in_ten_thousand():
    rng = random.Random(0)
    for draw in (
        lambda: math.exp(rng.gauss(0, 0.3)),
        lambda: rng.gauss(0, 1) ** 2,
        lambda: abs(rng.gauss(0, 1) / rng.gauss(0, 1)),
    ):
        detector = ChangeDetector()
        assert sum(detector.update(draw()) for _ in range(30_000)) <= 3


@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_a_fivefold_variance_is_found_within_tens_of_updates(factor):
    rng = random.Random(1)
    for draw, latest in ((lambda: math.exp(rng.gauss(0, 0.3)), 8), (lambda: rng.gauss(0, 1) ** 2, 120)):
        delays = []
        for _ in range(20):
            detector = ChangeDetector()
            for _ in range(300):
                detector.update(draw())
            delays.append(next(t for t in range(1, 2000) if detector.update(factor * draw())))
            # Found once: the new level is learned.
            assert sum(detector.update(factor * draw()) for _ in range(100)) <= 1
        assert sorted(delays)[15] <= latest


def test_every_change_of_regime_is_counted():
    rng = random.Random(2)
    detector = ChangeDetector()
    levels = [1.0, 5.0, 1.0, 9.0, 2.0]
    assert sum(detector.update(level * math.exp(rng.gauss(0, 0.3))) for level in levels for _ in range(200)) == 4


def test_a_slow_drift_is_no_change():
    rng = random.Random(3)
    detector = ChangeDetector()
    assert sum(detector.update(math.exp(rng.gauss(0, 0.5) + t / 10_000)) for t in range(20_000)) <= 2


def test_one_outlier_is_no_change():
    rng = random.Random(4)
    detector = ChangeDetector()
    values = [math.exp(rng.gauss(0, 0.3)) for _ in range(1000)]
    values[500], values[700] = 1e300, 1e-300
    assert not any(detector.update(value) for value in values)


def test_after_a_change_sixteen_values_are_learned_before_it_judges():
    detector = ChangeDetector()
    values = [(1.0, 1.3)[t % 2] for t in range(100)] + [1000.0 ** (1 + t // 6) for t in range(60)]
    rings = [t for t, value in enumerate(values) if detector.update(value)]
    assert len(rings) >= 2
    assert min(np.diff(rings)) > 16


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_positive_number_is_passed_over(value):
    plain, disturbed = ChangeDetector(), ChangeDetector()
    for t in range(100):
        plain.update(1.0 + t % 3)
        disturbed.update(1.0 + t % 3)
        assert not disturbed.update(value)
    assert plain.state_dict() == disturbed.state_dict()


def test_equal_values_are_no_change():
    detector = ChangeDetector()
    assert not any(detector.update(3.0) for _ in range(1000))
    assert any(detector.update(4.0) for _ in range(10))


def test_a_saved_detector_goes_on():
    rng = random.Random(5)
    values = [math.exp(rng.gauss(0, 0.3)) * (5 if t // 150 % 2 else 1) for t in range(1000)]
    whole, resumed = ChangeDetector(), ChangeDetector()
    rings = [whole.update(value) for value in values]
    first = ChangeDetector()
    assert [first.update(value) for value in values[:453]] == rings[:453]
    resumed.load_state_dict(first.state_dict())
    assert [resumed.update(value) for value in values[453:]] == rings[453:]
