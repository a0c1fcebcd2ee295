import itertools
import math

import numpy as np
import pytest
import torch

from rl_rms.studies import load
from rl_rms.studies.two_player import PLAYERS, RATES, balance, distances, formula, largest, nearest, pushes, unseen

pytestmark = pytest.mark.slow

STUDY = load("two_player")


def test_rmsprop_circles_and_the_remedies_converge(quick):
    plain = nearest(quick, "RMSprop")
    assert largest(quick, "RMSprop") == pytest.approx(formula("RMSprop", RATES[-1]), rel=0.05)
    assert nearest(quick, "momentum 0.9") > 2 * plain
    assert all(nearest(quick, cure) < 0.6 * plain for cure in ("optimism 1", "alternating", "extragradient"))
    assert STUDY.verdict(quick).word == "does not hold"


def test_formula_equals_hand_computed_values():
    # At rho = 0.95 and lr = 0.01, RMSprop has the value 2 * sqrt(2) * 0.01 / sqrt(0.05). Momentum 0.9 multiplies
    # the value by sqrt(19).
    assert formula("RMSprop", 0.01) == pytest.approx(0.12649, rel=1e-4)
    assert formula("momentum 0.9", 0.01) == pytest.approx(0.12649 * math.sqrt(19), rel=1e-4)
    assert formula("extragradient", 0.01) is None


def first_rounds(player, rates):
    way = distances(PLAYERS[player], rates, torch.zeros(1, dtype=torch.float64), 0.0, seed=0)
    return [next(way)[:, 0] for _ in range(3)]


def test_batched_rates_equal_separate_games():
    # From (1, 0), SGD goes to (1, rate) and then to (1 - rate**2, 2 * rate).
    start, first, second = first_rounds("SGD", [0.1, 0.2])
    assert start == pytest.approx([1.0, 1.0])
    assert first == pytest.approx([math.hypot(1, 0.1), math.hypot(1, 0.2)])
    assert second == pytest.approx([math.hypot(0.99, 0.2), math.hypot(0.96, 0.4)])
    # RMSprop's first step changes only y, by the rate, because the gradient in x is 0. The second step changes y
    # by the rate, and x by rate / root.
    _, first, second = first_rounds("RMSprop", [0.1, 0.2])
    assert first == pytest.approx([math.hypot(1, 0.1), math.hypot(1, 0.2)])
    root = math.sqrt((0.05 * 1.0) / (1 - 0.95**2))
    expected = [math.hypot(1 - rate / root, 2 * rate) for rate in (0.1, 0.2)]
    assert second == pytest.approx(expected)


def test_pushes_equal_hand_computed_values():
    leaning = np.array([[0.0, 0.0, 0.1, -5.0], [0.0, 0.0, -0.01, 5.0]])
    assert pushes("lean", 2, seed=0)(leaning).tolist() == [1.0, -1.0]
    assert pushes("none", 2, seed=0)(leaning).tolist() == [0.0, 0.0]
    swings = pushes("swings", 2, seed=0)
    assert [swings(leaning)[1] for _ in range(26)][::25] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert swings(leaning)[0] == pytest.approx(math.sin(2 * math.pi * 26 / 50))
    gusts = pushes("gusts", 50, seed=0)
    values = np.array([gusts(leaning) for _ in range(40)])
    assert np.abs(values[:, 0]).tolist() == 2 * (10 * [1.0] + 10 * [0.0])
    assert all(np.array_equal(one, other) for one, other in itertools.pairwise(values[:10]))
    assert not np.array_equal(values[0], values[20])
    assert abs(values[0].sum()) < 40
    pushed = pushes("random", 1_000, seed=0)(leaning)
    assert (np.abs(pushed) <= 1).all()
    assert abs(pushed.mean()) < 0.1


def test_training_is_reproducible_and_differs_with_an_adversary(quick):
    of = {"training": "alternating adversary", "rate": 0.01}
    again = balance(0, steps=3_000, **of)
    assert again["unseen"] == pytest.approx(np.mean([again[kind] for kind in ("gusts", "swings", "lean")]))
    assert quick.values("unseen", **of)[0] == pytest.approx(again["unseen"], rel=1e-4)
    assert unseen(quick, "none") != unseen(quick, "alternating adversary")
