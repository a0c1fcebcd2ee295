import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.agents.returns import bootstrap_values, explained_variance, generalized_advantages
from tests.examples import fewer


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def flags(*values):
    return np.array(values, dtype=bool)[:, None]


def test_advantages_with_lambda_one_equal_returns_minus_values():
    advantages = generalized_advantages(
        rewards=column(1, 2, 3),
        values=column(10, 20, 30),
        next_values=column(20, 30, 40),
        done=flags(0, 0, 0),
        gamma=0.5,
        gae_lambda=1.0,
    )
    # 1 + 2/2 + 3/4 + 40/8 = 7.75; 2 + 3/2 + 40/4 = 13.5; 3 + 40/2 = 23
    assert advantages == pytest.approx(column(7.75 - 10, 13.5 - 20, 23.0 - 30))


def test_advantages_with_lambda_zero_equal_one_step_errors():
    advantages = generalized_advantages(
        column(1, 2), column(10, 20), column(20, 5), flags(0, 0), gamma=0.5, gae_lambda=0.0
    )
    assert advantages == pytest.approx(column(1 + 10 - 10, 2 + 2.5 - 20))


def test_bootstrap_values_are_zero_after_terminations_only():
    values = np.array([[5.0, 5.0], [7.0, 7.0]])
    terminated = np.array([[True, False], [False, False]])
    following = bootstrap_values(values, last_values=np.array([9.0, 9.0]), terminated=terminated)
    assert following.tolist() == [[0.0, 7.0], [9.0, 9.0]]


def test_advantages_ignore_rewards_of_the_next_episode():
    done = flags(0, 1, 0, 0)
    quiet = generalized_advantages(column(0, 0, 0, 0), column(0, 0, 0, 0), column(0, 0, 0, 0), done, 0.99, 0.95)
    loud = generalized_advantages(column(0, 0, 100, 100), column(0, 0, 0, 0), column(0, 0, 0, 0), done, 0.99, 0.95)
    assert loud[:2] == pytest.approx(quiet[:2])
    assert loud[2, 0] == pytest.approx(100 + 0.99 * 0.95 * 100)


@fewer(2)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_advantages_equal_the_sum_of_discounted_errors(seed, gamma, gae_lambda):
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, 6, 2))
    done = rng.random((6, 2)) < 0.3
    advantages = generalized_advantages(rewards, values, next_values, done, gamma, gae_lambda)
    for t in range(6):
        for i in range(2):
            total, weight = 0.0, 1.0
            for k in range(t, 6):
                total += weight * (rewards[k, i] + gamma * next_values[k, i] - values[k, i])
                weight *= gamma * gae_lambda
                if done[k, i]:
                    break
            assert advantages[t, i] == pytest.approx(total, abs=1e-9)


def test_explained_variance_equals_hand_computed_values():
    returns = np.array([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.full(4, 2.5), returns) == 0.0
    assert np.isnan(explained_variance(returns, np.ones(4)))
