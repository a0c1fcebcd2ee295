import numpy as np
import pytest

from rl_rms.studies import load
from rl_rms.studies.saddle import descend, measure, ratio

pytestmark = pytest.mark.slow

STUDY = load("saddle")


def test_sgd_without_noise_is_far_slower(quick):
    of = {"flat": 0.1, "start": 1e-3, "hold": 0.1}
    assert ratio(quick, noise=0.0, **of) > 20
    assert ratio(quick, noise=10.0, **of) < 5
    assert "noise 10" in STUDY.verdict(quick).condition


def test_sgd_leaves_the_saddle_at_the_closed_form_time():
    # y grows by the factor 1 + 0.018 in every update, from 0.1 to 1 in ln 10 / ln(1 + 0.018) updates.
    points = [
        p.numpy() for p in descend("SGD", [0.018], flat=1.0, start=0.1, noise=0.0, hold=0.1, most=200, seed=0)
    ]
    assert points[10][0, 1] == pytest.approx(0.1 * 1.018**10)
    out = next(i for i, p in enumerate(points) if p[0, 1] > 1)
    assert out == int(np.ceil(np.log(10) / np.log(1.018)))


def test_rate_that_is_unstable_on_the_steep_axis_is_excluded():
    result = measure(0, flat=1.0, start=1e-3, noise=0.0, hold=0.1, by="RMSprop", most=500)
    assert result["rate"] < 0.5
    assert result["steps"] > 2
