import math

import pytest

from rl_rms.studies import load
from rl_rms.studies.curriculum import expected, measure, slope

STUDY = load("curriculum")


def test_upwards_the_ratio_does_not_matter_and_downwards_it_does(quick):
    for ratio in (4.0, 100.0):
        assert slope(quick, ratio) == pytest.approx(expected(ratio), rel=0.15)
        assert slope(quick, 1 / ratio) == pytest.approx(expected(1 / ratio), rel=0.15)
    assert slope(quick, 0.01) > 2 * slope(quick, 0.25)
    assert STUDY.verdict(quick).word == "holds only if"


def test_the_theory_by_hand():
    assert expected(100.0) == pytest.approx(math.log(1 / 0.19))
    # v = 1 + (R**2 - 1) rho**t = 1.21 with R = 10.
    assert expected(0.1) == pytest.approx(math.log(99 / 0.21))


def test_the_first_step_after_gradients_grow_is_too_long():
    told = measure(0, rho=0.99, ratio=100.0)
    # v = 0.99 + 0.01 * 1e4 g**2: between 10 and the bound of 1 / sqrt(1 - rho) for the largest gradients.
    assert 9 < told["first"] < 10


def test_agents_go_through_the_stages():
    told = measure(0, half_life=69, rate=3e-3)
    assert told["stage"] >= 1
    assert told["return"] > 40
