import math

import pytest

from rl_rms.studies import load
from rl_rms.studies.curriculum import expected, measure, slope

STUDY = load("curriculum")


def test_recovery_depends_on_the_ratio_of_a_fall_but_not_of_a_rise(quick):
    for ratio in (4.0, 100.0):
        assert slope(quick, ratio) == pytest.approx(expected(ratio), rel=0.15)
        assert slope(quick, 1 / ratio) == pytest.approx(expected(1 / ratio), rel=0.15)
    assert slope(quick, 0.01) > 2 * slope(quick, 0.25)
    assert STUDY.verdict(quick).word == "conditional"


def test_theory_equals_hand_computed_values():
    assert expected(100.0) == pytest.approx(math.log(1 / 0.19))
    # Relative to the new squares, v is 1 + (10**2 - 1) * rho**t, which falls to 1.21.
    assert expected(0.1) == pytest.approx(math.log(99 / 0.21))


def test_first_step_after_a_rise_is_too_long():
    result = measure(0, rho=0.99, ratio=100.0)
    # v = 0.99 + 0.01 * 1e4 g**2, so large gradients have steps a little below the bound 1 / sqrt(1 - rho) = 10.
    assert 9 < result["first"] < 10


def test_agents_reach_every_stage():
    result = measure(0, half_life=69, rate=3e-3)
    assert result["stage"] >= 1
    assert result["return"] > 40
