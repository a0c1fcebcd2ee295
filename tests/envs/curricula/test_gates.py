import math

import numpy as np
import pytest
from scipy.stats import binomtest

from rl_rms.envs.curricula import Episode, ReturnGate, WilsonGate
from rl_rms.envs.curricula.gates import wilson_bounds
from tests.naming import naming


def outcome(ret=0.0, success=None):
    return Episode({}, ret, 10, success, 0)


@pytest.mark.parametrize(("successes", "number"), [(0, 20), (5, 20), (20, 20), (77, 100)])
def test_wilson_bounds_equal_those_of_scipy(successes, number):
    # The two-sided interval at 90 % has the one-sided bounds at 95 % as its ends.
    theirs = binomtest(successes, number).proportion_ci(confidence_level=0.9, method="wilson")
    ours = wilson_bounds(successes / number, number, 1.6448536269514722)
    assert ours == pytest.approx((theirs.low, theirs.high))


def promoted(rate, learners=400, episodes=500):
    """Share of simulated agents with the success rate ``rate`` that pass the gate."""
    random = np.random.default_rng(0)
    passed = 0
    for _ in range(learners):
        gate = WilsonGate(threshold=0.8)
        for success in random.random(episodes) < rate:
            gate.record(outcome(success=bool(success)))
            if gate.is_open:
                passed += 1
                break
    return passed / learners


def test_wilson_gate_opens_only_above_the_threshold():
    assert promoted(0.5) < 0.01
    assert promoted(0.65) < 0.02
    assert 0.05 < promoted(0.75) < 0.18
    assert 0.5 < promoted(0.8) < 0.75
    assert promoted(0.85) > 0.95
    assert promoted(0.95) > 0.99


def test_gate_with_too_few_episodes_stays_closed():
    gate = WilsonGate(threshold=0.5, min_episodes=3, window=5)
    seen = []
    for success in (True, True, True, False, False, False, True, True, True, True):
        gate.record(outcome(success=success))
        seen.append(gate.is_open)
    # Lower bounds with z = 1.645: 0.43 for 2 successes of 2, 0.53 for 3 of 3, 0.44 for 4 of 5, 0.65 for 5 of 5.
    assert seen == [False, False, True, False, False, False, False, False, False, False]
    gate.record(outcome(success=True))
    assert gate.is_open  # the last five


def test_wilson_gate_waits_for_enough_episodes():
    gate = WilsonGate(threshold=0.3, min_episodes=3, window=5)
    seen = []
    for _ in range(3):
        gate.record(outcome(success=True))
        seen.append((round(gate.lower, 2), gate.is_open))
    assert seen == [(0.27, False), (0.43, False), (0.53, True)]


def test_wilson_gate_that_can_never_open_names_the_bound():
    WilsonGate(threshold=0.8, min_episodes=5, window=11)  # 11 / (11 + 1.645**2) is 0.803
    with pytest.raises(ValueError, match=naming("10 successes", "window of 10", "0.787")):
        WilsonGate(threshold=0.8, min_episodes=5, window=10)
    with pytest.raises(ValueError, match=naming("threshold 1", "gate")):
        WilsonGate(threshold=1.0)


def test_wilson_gate_takes_success_from_the_environment_or_a_return():
    gate = WilsonGate(success_return=5.0, min_episodes=1, threshold=0.1)
    gate.record(outcome(ret=4.9, success=True))
    gate.record(outcome(ret=5.0, success=False))
    assert gate.mean == 0.5
    with pytest.raises(ValueError, match=naming("success_return")):
        WilsonGate().record(outcome(ret=1.0))


def test_return_gate_opens_when_the_mean_return_of_a_full_window_reaches_the_threshold():
    gate = ReturnGate(10, window=2)
    opened = []
    for ret in (30, -20, 30, -9):
        gate.record(outcome(ret=ret))
        opened.append(gate.is_open)
    # Mean returns of the last two episodes: 5, 5 and 10.5.
    assert opened == [False, False, False, True]
    gate.clear()
    assert not gate.is_open
    assert math.isnan(gate.mean)
