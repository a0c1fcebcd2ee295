import math
from collections.abc import Callable

import numpy as np
import pytest

from rl_rms import half_life_from_rho, rho_from_half_life
from rl_rms.laws import (
    jump_half_life,
    least_error_half_life,
    longest_half_life,
    matched_half_life,
    ramp_half_life,
    random_walk_half_life,
    sinusoid_half_life,
    tracking_error,
)
from tests.naming import naming

LN2 = math.log(2)


def cheapest(error_of_rho: Callable[[float], float]) -> float:
    half_lives = np.geomspace(1, 10_000, 2000)
    return float(min(half_lives, key=lambda h: error_of_rho(rho_from_half_life(h))))


def noise_error(rho: float, variance: float) -> float:
    # The squared weights of an exponential average sum to (1 - rho) / (1 + rho).
    return variance * (1 - rho) / (1 + rho)


@pytest.mark.parametrize(("snr", "half_life"), [(1, 7.3), (0.1, 26.0), (0.01, 138.6)])
def test_matched_half_life_of_known_cases_equals_hand_computed_values(snr, half_life):
    assert matched_half_life(200, snr) == pytest.approx(half_life, abs=0.05)


@pytest.mark.parametrize("snr", [1, 0.1, 0.01])
def test_matched_half_life_minimizes_the_error_of_an_autoregression(snr):
    phi = math.exp(-1 / 200)

    def error(rho: float) -> float:
        alpha = 1 - rho
        lag = 1 - 2 * alpha / (1 - rho * phi) + alpha / (1 + rho) * (1 + rho * phi) / (1 - rho * phi)
        return snr * lag + noise_error(rho, 1)

    assert matched_half_life(200, snr) == pytest.approx(cheapest(error), rel=0.06)


def test_matched_half_life_of_a_weak_signal_is_infinite():
    assert matched_half_life(200, 1 / 400) == math.inf
    assert matched_half_life(200, 1 / 399) < math.inf
    assert matched_half_life(0.5, math.nextafter(1, 2)) == math.inf, "the root of the signal's power rounds to 1"
    assert (
        matched_half_life(math.inf, 1) == matched_half_life(math.inf, 0) == matched_half_life(200, 0) == math.inf
    )
    assert jump_half_life(math.inf, 4) == jump_half_life(100, 1) == math.inf
    assert random_walk_half_life(0, 1) == ramp_half_life(0, 1) == sinusoid_half_life(0, 1, 1) == math.inf
    assert ramp_half_life(1e-200, 1) == math.inf, "the square of the slope rounds to 0"
    assert least_error_half_life(math.inf, 1) == least_error_half_life(100, 0) == math.inf
    assert least_error_half_life(10, 0.02) == math.inf


@pytest.mark.parametrize(
    ("ratio", "dwell", "half_life"),
    [(4, 200, 10), (4, 600, 17), (4, 2000, 32), (100, 200, 3.0), (100, 600, 5.2), (100, 2000, 9.5)],
)
def test_jump_half_life_equals_known_values(ratio, dwell, half_life):
    assert jump_half_life(dwell, ratio) == pytest.approx(half_life, rel=0.035)
    assert jump_half_life(dwell, 1 / ratio) == pytest.approx(jump_half_life(dwell, ratio))


@pytest.mark.parametrize("ratio", [4, 25, 100])
def test_error_of_a_jump_is_an_eighth_of_the_squared_log_ratio(ratio):
    s = (np.arange(400_000) + 0.5) * 1e-4  # the integral in the docstring, by the midpoint rule
    up, down = 1 - (1 - 1 / ratio) * np.exp(-s), 1 + (ratio - 1) * np.exp(-s)
    cost = sum(0.5 * (1 / v - 1 + np.log(v)).sum() * 1e-4 for v in (up, down)) / 2
    assert jump_half_life(1000, ratio) == pytest.approx(LN2 / 2 * math.sqrt(1000 / cost), rel=1e-4)


def test_jump_half_life_of_slow_jumps_is_matched_in_the_log_domain():
    signal = math.log(25) ** 2 / 4
    assert matched_half_life(1e9 / 2, signal / 2) == pytest.approx(jump_half_life(1e9, 25), rel=1e-3)


def test_random_walk_half_life_minimizes_the_error():
    def error(rho: float) -> float:
        return 0.01 * rho**2 / (1 - rho**2) + noise_error(rho, 4)

    assert random_walk_half_life(0.01, 4) == pytest.approx(LN2 * 20)
    assert random_walk_half_life(0.01, 4) == pytest.approx(cheapest(error), rel=0.03)


def test_ramp_half_life_minimizes_the_error():
    def error(rho: float) -> float:
        return (0.01 * rho / (1 - rho)) ** 2 + noise_error(rho, 4)

    assert ramp_half_life(0.01, 4) == ramp_half_life(-0.01, 4) == pytest.approx(LN2 * 10_000 ** (1 / 3))
    assert ramp_half_life(0.01, 4) == pytest.approx(cheapest(error), rel=0.05)


def test_sinusoid_half_life_minimizes_the_error():
    def error(rho: float) -> float:
        response = (1 - rho) / (1 - rho * np.exp(-0.005j))
        return 3**2 / 2 * abs(1 - response) ** 2 + noise_error(rho, 4)

    assert sinusoid_half_life(3, 0.005, 4) == pytest.approx(LN2 * (2 / 0.015**2) ** (1 / 3))
    assert sinusoid_half_life(3, 0.005, 4) == pytest.approx(cheapest(error), rel=0.05)


def test_longest_half_life_keeps_the_step_bound():
    half_life = longest_half_life(max_step=0.1, lr=0.001)
    assert half_life == pytest.approx(LN2 * 10_000)
    # A gradient after zeros has the largest step, lr / sqrt(1 - rho).
    assert 0.001 / math.sqrt(1 - rho_from_half_life(half_life)) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(
    ("dwell", "ratio", "half_life"), [(20, 25, 4), (100, 25, 4), (100, 25, 32), (1000, 4, 16)]
)
def test_tracking_error_equals_a_simulation(dwell, ratio, half_life):
    rng = np.random.default_rng(0)
    level = np.cumsum(rng.random((6000, 512)) < 1 / dwell, axis=0) + rng.integers(2, size=512)
    variance = np.where(level % 2, ratio, 1.0)
    rho = rho_from_half_life(half_life)
    v, errors = variance[0], []
    for t, (sigma2, g) in enumerate(
        zip(variance, np.sqrt(variance) * rng.standard_normal((6000, 512)), strict=True)
    ):
        v = rho * v + (1 - rho) * g * g
        if t >= 10 * half_life:
            errors.append(0.5 * (sigma2 / v - 1 - np.log(sigma2 / v)).mean())
    predicted = tracking_error(half_life, dwell / 2, math.log(ratio) ** 2 / 4)
    assert predicted == pytest.approx(np.mean(errors), rel=0.08)


def test_tracking_error_of_a_constant_variance_is_a_quarter_of_the_gain():
    # The average has about n = 2 / (1 - rho) degrees of freedom, so the error is half of 1 / n.
    rho = 0.999
    error = tracking_error(half_life_from_rho(rho), 1e12, 0.0)
    assert error == pytest.approx((1 - rho) / 4, rel=0.01)
    assert tracking_error(half_life_from_rho(rho), 1e12, 0.0, noise=4) == pytest.approx((1 - rho) / 2, rel=0.01)


def test_tracking_error_of_an_infinite_half_life_is_the_entropy_of_the_mixture():
    # v is the mean of e and 1 / e, and the mean logarithm is 0, so the error is half of ln cosh 1.
    assert tracking_error(1e9, 100, 1.0) == pytest.approx(0.5 * math.log(math.cosh(1)), rel=1e-3)


@pytest.mark.parametrize(("timescale", "signal"), [(10, 2.6), (50, 0.5), (500, 2.6), (500, 0.05)])
def test_least_error_equals_the_minimum_of_a_fine_grid(timescale, signal):
    found = least_error_half_life(timescale, signal)
    errors = {h: tracking_error(h, timescale, signal) for h in np.geomspace(1, 3000, 300)}
    assert tracking_error(found, timescale, signal) <= 1.003 * min(errors.values())
    assert found == pytest.approx(min(errors, key=errors.__getitem__), rel=0.15)


def test_least_error_of_small_slow_changes_is_at_the_matched_half_life():
    assert least_error_half_life(20_000, 0.002) == pytest.approx(matched_half_life(20_000, 0.001), rel=0.08)
    assert least_error_half_life(5000, 0.3) == pytest.approx(matched_half_life(5000, 0.15), rel=0.05)
    assert least_error_half_life(5000, 0.3, noise=8) == pytest.approx(matched_half_life(5000, 0.3 / 8), rel=0.05)


def test_least_error_of_smooth_changes_is_at_the_half_life_of_a_sinusoid():
    amplitude, frequency = 0.8, 1e-4
    found = least_error_half_life(1 / frequency, amplitude**2 / 2, smoothness=2)
    assert found == pytest.approx(sinusoid_half_life(amplitude, frequency, 2), rel=0.05)


def test_least_error_search_has_a_shortest_half_life():
    assert least_error_half_life(0.1, 100) >= 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matched_half_life(0, 1), ["timescale", "0"]),
        (lambda: matched_half_life(math.nan, 1), ["timescale", "nan"]),
        (lambda: matched_half_life(1, -1), ["snr", "-1"]),
        (lambda: jump_half_life(-1, 4), ["dwell", "-1"]),
        (lambda: jump_half_life(1, 0), ["variance_ratio", "0"]),
        (lambda: random_walk_half_life(-1, 1), ["drift_variance", "-1"]),
        (lambda: random_walk_half_life(1, 0), ["noise_variance", "0"]),
        (lambda: ramp_half_life(math.nan, 1), ["slope", "nan"]),
        (lambda: sinusoid_half_life(1, 1, 0), ["noise_variance", "0"]),
        (lambda: longest_half_life(0, 1), ["max_step", "0"]),
        (lambda: longest_half_life(1, 0), ["lr", "0"]),
        (lambda: least_error_half_life(-1, 1), ["timescale", "-1"]),
        (lambda: least_error_half_life(1, -1), ["signal", "-1"]),
        (lambda: least_error_half_life(1, 1, 0), ["noise", "0"]),
    ],
)
def test_laws_with_a_wrong_argument_name_it(call, message):
    with pytest.raises(ValueError, match=naming(*message)):
        call()
