import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.agents.moments import RunningMeanVariance, decaying_weights


def statistics(values, valid, half_life, cuts):
    """Weight, mean and variance of a stream that is split into rollouts before the steps ``cuts``."""
    moments = RunningMeanVariance(values.shape[2:])
    for part, is_valid in zip(np.split(values, cuts), np.split(valid, cuts), strict=True):
        moments.update(part[is_valid], decaying_weights(is_valid, half_life))
    return moments.weight, moments.mean, moments.variance


def test_running_mean_variance_with_a_half_life_weighs_values_by_their_age():
    # One env step halves a weight, so the values 1, 2 and 4 have the weights 1/4, 1/2 and 1.
    values = np.array([[1.0], [2.0], [4.0]])
    weight, mean, variance = statistics(values, np.ones((3, 1), bool), 1.0, [2])
    assert weight == pytest.approx(1.75)
    assert mean == pytest.approx((0.25 + 1.0 + 4.0) / 1.75)
    assert variance == pytest.approx((0.25 * 2.0**2 + 0.5 * 1.0**2 + 1.0**2) / 1.75)


def test_running_mean_variance_of_vector_steps_decays_by_their_valid_transitions():
    # The second step has one valid transition, which halves the weights of the first two values once.
    values, valid = np.array([[1.0, 3.0], [8.0, 100.0]]), np.array([[True, True], [True, False]])
    weight, mean, variance = statistics(values, valid, 1.0, [])
    assert weight == pytest.approx(2.0)
    assert mean == pytest.approx(5.0)
    assert variance == pytest.approx((0.5 * 4**2 + 0.5 * 2**2 + 3**2) / 2)


@given(
    seed=st.integers(0, 1000),
    half_life=st.floats(0.5, 1e6) | st.just(math.inf),
    cuts=st.lists(st.integers(0, 30), max_size=6).map(sorted),
)
def test_running_mean_variance_is_independent_of_the_rollout_length(seed, half_life, cuts):
    rng = np.random.default_rng(seed)
    values, valid = rng.normal(3.0, 2.0, (30, 3, 2)), rng.random((30, 3)) < 0.7
    valid[0] = True
    for cut, whole in zip(
        statistics(values, valid, half_life, cuts), statistics(values, valid, half_life, []), strict=True
    ):
        np.testing.assert_allclose(cut, whole, rtol=1e-9)


def test_running_mean_variance_with_infinite_half_life_equals_the_cumulative_statistics():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (30, 3, 2))
    weight, mean, variance = statistics(values, np.ones((30, 3), bool), math.inf, [4, 9])
    assert weight == 90
    np.testing.assert_allclose(mean, values.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(variance, values.var((0, 1)), rtol=1e-12)


def test_running_mean_variance_of_an_empty_rollout_is_unchanged():
    moments = RunningMeanVariance((2,))
    moments.update(np.ones((3, 2)), decaying_weights(np.ones((3, 1), bool), 1.0))
    before = moments.state_dict()
    moments.update(np.empty((0, 2)), decaying_weights(np.zeros((4, 2), bool), 1.0))
    assert moments.state_dict() == before
