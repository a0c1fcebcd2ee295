import math

import numpy as np
import pytest

from rl_rms.optim.bank import Bank
from tests.optim.streams import WIDE, feed, gaussian, make, telegraph


def slow_bank(grads: np.ndarray) -> float:
    """The equations of the bank in plain loops over blocks and updates."""
    half_lives = np.array([4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0])
    scores, blocks = np.zeros(6), grads.reshape(-1, 16, grads.shape[1])
    total, weight = np.zeros((6, grads.shape[1])), np.zeros((6, grads.shape[1]))
    decay, gain = 2 ** (-16 / 256), (1 - 2 ** (-1 / half_lives))[:, None]
    for index, block in enumerate(blocks):
        lost = np.zeros(6)
        for t, g in enumerate(block):
            if index or t:
                v = total / weight
                lost += 0.5 * (np.log(v) + np.minimum(g * g / v, 100)).sum(1)
            total, weight = (1 - gain) * total + gain * g * g, (1 - gain) * weight + gain
        scored = 16 * len(g) - (0 if index else len(g))
        scores = decay * scores + lost * 256 / scored
    weights = np.exp(-0.05 * (scores - scores.min()))
    return float(np.exp(weights @ np.log(half_lives) / weights.sum()))


@pytest.mark.parametrize(("dwell", "updates"), [(100, 48), (1000, 480), (math.inf, 96)])
def test_bank_half_life_equals_its_equations(dwell, updates):
    grads = telegraph(dwell, updates=updates).double()
    assert feed(make(Bank), grads).half_life == pytest.approx(slow_bank(grads.numpy()), rel=1e-9)


def test_bank_of_fast_changes_has_a_short_half_life():
    stationary = feed(make(Bank), gaussian()).half_life
    slow = feed(make(Bank), telegraph(1000)).half_life
    fast = feed(make(Bank), telegraph(100)).half_life
    assert stationary > 500
    assert 12 < slow < 150
    assert fast < 8


def test_bank_before_observations_weights_all_half_lives_equally():
    assert Bank(bounds=WIDE).half_life == pytest.approx((4 * 16 * 64 * 256 * 1024 * 4096) ** (1 / 6))


def test_bank_reports_the_half_life_below_the_floor():
    bank = feed(Bank(), telegraph(100))
    assert bank.half_life == 32.0
    assert bank.diagnostics()["bank_unbounded"] < 8


def test_bank_after_one_outlier_keeps_its_half_life():
    grads = gaussian()
    calm = feed(make(Bank), grads).half_life
    grads[-40] *= 1e6
    assert feed(make(Bank), grads).half_life > 0.2 * calm
