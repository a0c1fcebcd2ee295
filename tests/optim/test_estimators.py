import io
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.laws import least_error_half_life
from rl_rms.optim.estimators import Bank, ChangeDetector, HalfLifeEstimator, Matched
from tests.examples import fewer

WIDE = (1.0, 1e6)
ALL = [Bank, Matched]


def feed(estimator: HalfLifeEstimator, grads: torch.Tensor) -> HalfLifeEstimator:
    for start in range(0, len(grads) - estimator.block + 1, estimator.block):
        estimator.observe(grads[start : start + estimator.block])
    return estimator


def make(cls: type[HalfLifeEstimator], timescale: float = 50.0) -> HalfLifeEstimator:
    estimator = cls(bounds=WIDE)
    estimator.timescale = timescale
    return estimator


def gaussian(updates: int = 4000, probes: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(updates, probes, generator=torch.Generator().manual_seed(seed))


def telegraph(dwell: float, ratio: float = 25.0, updates: int = 6000, seed: int = 0) -> torch.Tensor:
    """Gradients whose common variance switches between 1 and ``ratio``."""
    uniform = torch.rand(updates, 1, generator=torch.Generator().manual_seed(seed))
    upper = (uniform < 1 / dwell).cumsum(0) % 2
    return gaussian(updates, seed=seed + 1) * ratio ** (0.5 * upper)


# What holds for every estimator


@pytest.mark.parametrize("cls", ALL)
@fewer(5)
@given(shortest=st.floats(0.5, 1e4), ratio=st.floats(1, 1e4), seed=st.integers(0, 9))
def test_the_half_life_is_within_bounds_that_may_change(cls, shortest, ratio, seed):
    estimator = feed(make(cls), gaussian(64, seed=seed))
    bounds = shortest, shortest * ratio
    estimator.bounds = bounds
    assert bounds[0] <= estimator.half_life <= bounds[1] * (1 + 1e-12)
    assert all(math.isfinite(value) for value in estimator.diagnostics().values())


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (math.nan, 1)])
def test_wrong_bounds_are_named(cls, bounds):
    with pytest.raises(ValueError, match="bounds must be 0 < shortest <= longest half-life in updates, got"):
        cls(bounds=bounds)
    with pytest.raises(ValueError, match="bounds must be"):
        cls().bounds = bounds


@pytest.mark.parametrize("cls", ALL)
def test_the_default_bounds_have_a_floor(cls):
    assert cls().bounds == (32.0, 10_000.0)


@pytest.mark.parametrize("cls", ALL)
def test_a_saved_estimator_goes_on_exactly(cls):
    grads = telegraph(100, updates=1200)
    grads[500:530, 3] = 0.0
    whole, half = make(cls), make(cls)
    feed(whole, grads[:592])
    feed(half, grads[:592])
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = make(cls)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.half_life == half.half_life
    feed(half, grads[:64])  # what was loaded does not change with where it came from
    feed(whole, grads[592:])
    feed(resumed, grads[592:])
    assert resumed.half_life == whole.half_life
    assert resumed.diagnostics() == whole.diagnostics()
    assert str(resumed.state_dict()) == str(whole.state_dict())


@pytest.mark.parametrize("cls", ALL)
def test_a_state_dict_is_a_copy_and_loading_makes_one(cls):
    estimator = feed(make(cls), telegraph(100, updates=320))
    state = estimator.state_dict()
    before = str(state)
    other = make(cls)
    other.load_state_dict(state)
    feed(estimator, telegraph(100, updates=320, seed=5))
    feed(other, telegraph(100, updates=320, seed=6))
    assert str(state) == before


@pytest.mark.parametrize("cls", ALL)
def test_a_state_goes_into_another_number_of_probes(cls):
    saved = feed(make(cls), gaussian(2000))
    loaded = make(cls)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.half_life == saved.half_life
    before = loaded.half_life
    feed(loaded, gaussian(16, probes=5))
    assert 0.5 * before < loaded.half_life < 2 * before


@pytest.mark.parametrize("cls", ALL)
def test_a_state_of_another_class_or_incomplete_is_refused(cls):
    other = Bank if cls is Matched else Matched
    with pytest.raises(
        ValueError, match=f"estimator must be '{cls.__name__}' in the state to load, got '{other.__name__}'"
    ):
        make(cls).load_state_dict(make(other).state_dict())
    with pytest.raises(ValueError, match="must hold"):
        make(cls).load_state_dict({"estimator": cls.__name__})


@pytest.mark.parametrize("cls", ALL)
def test_zeros_and_non_finite_gradients_tell_nothing(cls):
    grads = telegraph(100, updates=1600)
    grads[:, 8:] = 0.0
    live = feed(make(cls), grads[:, :8])
    dead = feed(make(cls), grads)
    grads[::3, 8] = math.nan
    grads[::5, 9] = math.inf
    grads[::7, 10] = -math.inf
    broken = feed(make(cls), grads)
    assert dead.half_life == pytest.approx(live.half_life, rel=1e-9)
    assert broken.half_life == pytest.approx(live.half_life, rel=1e-9)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_probes_that_say_nothing_at_all_for_long(cls, value):
    estimator = feed(make(cls), telegraph(100, updates=1600))
    before = estimator.half_life
    feed(estimator, torch.full((8000, 16), value))
    assert math.isfinite(estimator.half_life)
    feed(estimator, telegraph(100, updates=3200))
    assert math.isfinite(estimator.half_life)
    assert estimator.half_life == pytest.approx(before, rel=1.0)


@pytest.mark.parametrize("cls", ALL)
def test_each_probe_may_have_its_own_scale(cls):
    grads = telegraph(100, updates=1600)
    scales = 10.0 ** torch.linspace(-12, 6, 16)
    assert feed(make(cls), grads * scales).half_life == pytest.approx(feed(make(cls), grads).half_life, rel=1e-3)


@pytest.mark.parametrize("cls", ALL)
def test_float64_and_float32_gradients_are_welcome(cls):
    grads = telegraph(100, updates=320)
    assert feed(make(cls), grads.double()).half_life == feed(make(cls), grads).half_life


# Bank


def slow_bank(grads: np.ndarray) -> float:
    """The bank's equations, one update and half-life after the other."""
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
def test_the_bank_is_its_equations(dwell, updates):
    grads = telegraph(dwell, updates=updates).double()
    assert feed(make(Bank), grads).half_life == pytest.approx(slow_bank(grads.numpy()), rel=1e-9)


def test_the_bank_forgets_fast_what_changes_fast():
    stationary = feed(make(Bank), gaussian()).half_life
    slow = feed(make(Bank), telegraph(1000)).half_life
    fast = feed(make(Bank), telegraph(100)).half_life
    assert stationary > 500
    assert 12 < slow < 150
    assert fast < 8


def test_the_bank_starts_undecided():
    assert Bank(bounds=WIDE).half_life == pytest.approx((4 * 16 * 64 * 256 * 1024 * 4096) ** (1 / 6))


def test_the_bank_reports_the_half_life_under_the_floor():
    bank = feed(Bank(), telegraph(100))
    assert bank.half_life == 32.0
    assert bank.diagnostics()["bank_unbounded"] < 8


def test_one_outlier_does_not_decide():
    grads = gaussian()
    calm = feed(make(Bank), grads).half_life
    grads[-40] *= 1e6
    assert feed(make(Bank), grads).half_life > 0.2 * calm


# Change points


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


# Matched


@pytest.mark.parametrize("ratio", [4.0, 25.0, 100.0])
def test_the_signal_of_jumps_is_found(ratio):
    matched = make(Matched, timescale=50)
    feed(matched, telegraph(100, ratio, updates=20_000))
    signal = math.log(ratio) ** 2 / 4
    assert matched.diagnostics()["match_snr"] == pytest.approx(signal / 2, rel=0.25)
    assert matched.diagnostics()["match_timescale"] == 50
    assert matched.half_life == pytest.approx(least_error_half_life(50, signal), rel=0.2)


def test_smooth_changes_get_a_longer_memory_than_jumps():
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


def test_where_nothing_changes_the_memory_is_the_longest():
    assert feed(make(Matched, math.inf), telegraph(100)).half_life == 1e6
    assert Matched().half_life == 10_000.0
    assert make(Matched, math.inf).diagnostics()["match_unbounded"] == 1e9


def test_a_stated_timescale_without_changes_lengthens_the_memory():
    assert feed(make(Matched, 50), gaussian(20_000)).half_life > 4 * least_error_half_life(50, 1.0)


def test_before_any_gradient_a_signal_of_one_is_assumed():
    assert make(Matched, 100).half_life == pytest.approx(least_error_half_life(100, 1.0))


def test_jumps_that_have_not_come_yet_do_not_stretch_the_memory_at_once():
    assert feed(make(Matched, 5000), gaussian(2000)).half_life < 2 * least_error_half_life(5000, 1.0)


def test_a_new_timescale_counts_at_once_and_a_small_change_waits():
    matched = feed(make(Matched, 50), telegraph(100))
    before = matched.half_life
    matched.timescale = 51.0
    assert matched.half_life == before
    matched.timescale = 5000.0
    assert matched.half_life > 2 * before
    matched.timescale = math.inf
    assert matched.half_life == 1e6


def test_what_was_long_ago_is_forgotten():
    matched = feed(make(Matched, 20), telegraph(40, ratio=100.0, updates=8000))
    strong = matched.diagnostics()["match_snr"]
    feed(matched, gaussian(16_000))
    assert matched.diagnostics()["match_snr"] < 0.1 * strong
