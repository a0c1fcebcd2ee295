import math

import pytest
import torch

from rl_rms.studies import load
from rl_rms.studies.two_player import PLAYERS, RATES, distances, formula, largest, nearest

STUDY = load("two_player")


def test_rmsprop_circles_momentum_widens_the_circle_and_the_cures_leave_it(quick):
    plain = nearest(quick, "RMSprop")
    assert largest(quick, "RMSprop") == pytest.approx(formula("RMSprop", RATES[-1]), rel=0.05)
    assert nearest(quick, "momentum 0.9") > 2 * plain
    assert all(nearest(quick, cure) < 0.6 * plain for cure in ("optimism 1", "alternating", "extragradient"))
    assert STUDY.verdict(quick).word == "does not hold"


def test_a_rate_is_that_of_a_steady_step():
    # rho = 0.95, steps of 0.01: 2 sqrt(2) * 0.01 / sqrt(0.05), and sqrt(19) times that with momentum 0.9.
    assert formula("RMSprop", 0.01) == pytest.approx(0.12649, rel=1e-4)
    assert formula("momentum 0.9", 0.01) == pytest.approx(0.12649 * math.sqrt(19), rel=1e-4)
    assert formula("extragradient", 0.01) is None


def first_rounds(player, rates):
    way = distances(PLAYERS[player], rates, torch.zeros(1, dtype=torch.float64), 0.0, seed=0)
    return [next(way)[:, 0] for _ in range(3)]


def test_all_rates_are_played_at_once():
    # From (1, 0) SGD goes to (1, rate), and on to (1 - rate**2, 2 rate).
    start, first, second = first_rounds("SGD", [0.1, 0.2])
    assert start == pytest.approx([1.0, 1.0])
    assert first == pytest.approx([math.hypot(1, 0.1), math.hypot(1, 0.2)])
    assert second == pytest.approx([math.hypot(0.99, 0.2), math.hypot(0.96, 0.4)])
    # RMSprop's first step is the rate in y, where the gradient is not 0; its second is the rate in x.
    _, first, second = first_rounds("RMSprop", [0.1, 0.2])
    assert first == pytest.approx([math.hypot(1, 0.1), math.hypot(1, 0.2)])
    root = math.sqrt((0.05 * 1.0) / (1 - 0.95**2))  # of v in x, where the gradient was 0 at first: in units of it
    expected = [math.hypot(1 - rate / root, 2 * rate) for rate in (0.1, 0.2)]
    assert second == pytest.approx(expected)
