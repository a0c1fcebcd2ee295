"""Properties of every estimator of the half-life."""

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.optim.bank import Bank
from rl_rms.optim.matched import Matched
from tests.examples import fewer
from tests.naming import naming
from tests.optim.streams import feed, gaussian, make, telegraph

ALL = [Bank, Matched]


@pytest.mark.parametrize("cls", ALL)
@fewer(5)
@given(shortest=st.floats(0.5, 1e4), ratio=st.floats(1, 1e4), seed=st.integers(0, 9))
def test_half_life_stays_within_changed_bounds(cls, shortest, ratio, seed):
    estimator = feed(make(cls), gaussian(64, seed=seed))
    bounds = shortest, shortest * ratio
    estimator.bounds = bounds
    assert bounds[0] <= estimator.half_life <= bounds[1] * (1 + 1e-12)
    assert all(math.isfinite(value) for value in estimator.diagnostics().values())


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (math.nan, 1)])
def test_bounds_out_of_range_raise(cls, bounds):
    with pytest.raises(ValueError, match=naming("bounds", "0 < shortest <= longest")):
        cls(bounds=bounds)
    with pytest.raises(ValueError, match=naming("bounds")):
        cls().bounds = bounds


@pytest.mark.parametrize("cls", ALL)
def test_default_bounds_have_a_floor(cls):
    assert cls().bounds == (32.0, 10_000.0)


@pytest.mark.parametrize("cls", ALL)
def test_load_state_dict_continues_exactly(cls):
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
    feed(half, grads[:64])  # must not change the loaded state
    feed(whole, grads[592:])
    feed(resumed, grads[592:])
    assert resumed.half_life == whole.half_life
    assert resumed.diagnostics() == whole.diagnostics()
    assert str(resumed.state_dict()) == str(whole.state_dict())


@pytest.mark.parametrize("cls", ALL)
def test_state_dict_and_load_state_dict_copy(cls):
    estimator = feed(make(cls), telegraph(100, updates=320))
    state = estimator.state_dict()
    before = str(state)
    other = make(cls)
    other.load_state_dict(state)
    feed(estimator, telegraph(100, updates=320, seed=5))
    feed(other, telegraph(100, updates=320, seed=6))
    assert str(state) == before


@pytest.mark.parametrize("cls", ALL)
def test_load_state_dict_of_another_number_of_probes_is_accepted(cls):
    saved = feed(make(cls), gaussian(2000))
    loaded = make(cls)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.half_life == saved.half_life
    before = loaded.half_life
    feed(loaded, gaussian(16, probes=5))
    assert 0.5 * before < loaded.half_life < 2 * before


@pytest.mark.parametrize("cls", ALL)
def test_load_state_dict_of_another_class_or_incomplete_raises(cls):
    other = Bank if cls is Matched else Matched
    with pytest.raises(ValueError, match=naming("estimator", f"'{cls.__name__}'", f"'{other.__name__}'")):
        make(cls).load_state_dict(make(other).state_dict())
    with pytest.raises(ValueError, match=naming("hold")):
        make(cls).load_state_dict({"estimator": cls.__name__})


@pytest.mark.parametrize("cls", ALL)
def test_observe_zeros_and_nonfinite_gradients_changes_nothing(cls):
    grads = telegraph(100, updates=1600)
    grads[:, 8:] = 0.0
    active = feed(make(cls), grads[:, :8])
    dead = feed(make(cls), grads)
    grads[::3, 8] = math.nan
    grads[::5, 9] = math.inf
    grads[::7, 10] = -math.inf
    broken = feed(make(cls), grads)
    assert dead.half_life == pytest.approx(active.half_life, rel=1e-9)
    assert broken.half_life == pytest.approx(active.half_life, rel=1e-9)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_observe_many_blocks_of_zeros_stays_finite(cls, value):
    estimator = feed(make(cls), telegraph(100, updates=1600))
    before = estimator.half_life
    feed(estimator, torch.full((8000, 16), value))
    assert math.isfinite(estimator.half_life)
    feed(estimator, telegraph(100, updates=3200))
    assert math.isfinite(estimator.half_life)
    assert estimator.half_life == pytest.approx(before, rel=1.0)


@pytest.mark.parametrize("cls", ALL)
def test_half_life_is_independent_of_the_scale_of_probes(cls):
    grads = telegraph(100, updates=1600)
    scales = 10.0 ** torch.linspace(-12, 6, 16)
    assert feed(make(cls), grads * scales).half_life == pytest.approx(feed(make(cls), grads).half_life, rel=1e-3)


@pytest.mark.parametrize("cls", ALL)
def test_observe_float32_and_float64_gives_the_same_half_life(cls):
    grads = telegraph(100, updates=320)
    assert feed(make(cls), grads.double()).half_life == feed(make(cls), grads).half_life
