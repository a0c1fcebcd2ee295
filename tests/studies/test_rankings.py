"""Rankings and their agreement, compared with hand-computed values."""

import numpy as np
import pytest

from rl_rms.studies.rankings import agreement, noise_floor, regret, tau


def test_shortfall_equals_hand_computed_values():
    lost, low, high = regret(np.array([[1.0, 2.0, 3.0], [3.0, 3.0, 6.0]]), 0)
    # The differences 2, 1, 3 have the mean 2 and the standard error 1 / sqrt(3). Student's 97.5 % point is 4.303.
    assert (lost, low, high) == pytest.approx((2.0, 2.0 - 4.303 / 3**0.5, 2.0 + 4.303 / 3**0.5), abs=1e-3)
    assert regret(np.ones((2, 3)), 0) == (0.0, 0.0, 0.0)


def test_tau_equals_hand_computed_values():
    # Five of six pairs have the same order.
    assert tau(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0])) == pytest.approx(4 / 6)


@pytest.mark.parametrize("networks", range(2, 12))
def test_tau_of_scores_with_ties_equals_scipy(networks):
    from scipy.stats import kendalltau

    random = np.random.default_rng(networks)
    one, other = random.integers(0, 9, networks) / 3, random.normal(size=networks).round(1)
    assert tau(one, other) == kendalltau(one, other).statistic
    assert np.isnan(tau(one, np.zeros(networks)))
    one[0] = np.inf
    assert tau(one, other) == kendalltau(one, other).statistic
    one[0] = np.nan
    assert np.isnan(tau(one, other))


def scores(means, noise, seeds=8):
    rng = np.random.default_rng(5)
    return np.array(means)[:, None] + noise * rng.normal(size=(len(means), seeds))


def test_agreement_and_noise_floor_equal_hand_computed_values():
    rng = np.random.default_rng(0)
    clear, same = scores([1, 2, 3, 4, 5], 0.01), scores([10, 20, 30, 40, 50], 0.01)
    assert agreement(clear, same, rng) == pytest.approx((1.0, 1.0, 1.0))
    assert agreement(clear, same[::-1], rng)[0] == pytest.approx(-1.0)
    assert noise_floor(clear, rng) == pytest.approx(1.0)
    noise = scores([1, 1, 1, 1, 1], 1.0)
    assert abs(noise_floor(noise, rng)) < 0.6
    _, low, high = agreement(clear, noise, rng)
    assert high - low > 0.3
