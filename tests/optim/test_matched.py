import math

import pytest
import torch

from rl_rms.laws import least_error_half_life
from rl_rms.optim.matched import Matched
from tests.optim.streams import feed, gaussian, make, telegraph


@pytest.mark.parametrize("ratio", [4.0, 25.0, 100.0])
def test_matched_estimates_the_signal_of_jumps(ratio):
    matched = make(Matched, timescale=50)
    feed(matched, telegraph(100, ratio, updates=20_000))
    signal = math.log(ratio) ** 2 / 4
    assert matched.diagnostics()["match_snr"] == pytest.approx(signal / 2, rel=0.25)
    assert matched.diagnostics()["match_timescale"] == 50
    assert matched.half_life == pytest.approx(least_error_half_life(50, signal), rel=0.2)


def test_matched_half_life_of_smooth_changes_is_longer_than_of_jumps():
    time = torch.arange(12_000)[:, None]
    swing = gaussian(12_000) * torch.exp(0.8 * torch.sin(time / 200))
    smooth = feed(make(Matched, 200), swing)
    jumping = feed(make(Matched, 200), telegraph(400, updates=12_000))
    signal = 1.6**2 / 2
    assert smooth.diagnostics()["match_snr"] == pytest.approx(signal / 2, rel=0.4)
    law = least_error_half_life(200, signal, smoothness=2)
    assert law > 1.3 * least_error_half_life(200, signal)
    assert smooth.half_life == pytest.approx(law, rel=0.25)
    assert jumping.half_life == pytest.approx(least_error_half_life(200, math.log(25) ** 2 / 4), rel=0.25)


def test_matched_half_life_without_changes_is_the_upper_bound():
    assert feed(make(Matched, math.inf), telegraph(100)).half_life == 1e6
    assert Matched().half_life == 10_000.0
    assert make(Matched, math.inf).diagnostics()["match_unbounded"] == 1e9


def test_matched_half_life_of_a_timescale_without_changes_grows():
    assert feed(make(Matched, 50), gaussian(20_000)).half_life > 4 * least_error_half_life(50, 1.0)


def test_matched_before_any_gradient_assumes_a_signal_of_one():
    assert make(Matched, 100).half_life == pytest.approx(least_error_half_life(100, 1.0))


def test_matched_half_life_before_the_first_jump_grows_slowly():
    assert feed(make(Matched, 5000), gaussian(2000)).half_life < 2 * least_error_half_life(5000, 1.0)


def test_matched_new_timescale_applies_at_once_and_a_small_change_later():
    matched = feed(make(Matched, 50), telegraph(100))
    before = matched.half_life
    matched.timescale = 51.0
    assert matched.half_life == before
    matched.timescale = 5000.0
    assert matched.half_life > 2 * before
    matched.timescale = math.inf
    assert matched.half_life == 1e6


def test_matched_discounts_old_observations():
    matched = feed(make(Matched, 20), telegraph(40, ratio=100.0, updates=8000))
    strong = matched.diagnostics()["match_snr"]
    feed(matched, gaussian(16_000))
    assert matched.diagnostics()["match_snr"] < 0.1 * strong
