"""Random walks and Ornstein-Uhlenbeck processes have the distributions of their step-by-step definitions."""

import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Key,
    OrnsteinUhlenbeck,
    RandomWalk,
    bridges,
)
from rl_rms.envs.schedules.diffusion import fold
from tests.envs.schedules.tables import decay_test, error_test, timescale_test, values_test

KEY = Key(seed=7, stream=3)


@pytest.mark.parametrize("start", [0, 10**9])
@pytest.mark.parametrize("tau", [5.0, 40.0])
def test_ornstein_uhlenbeck_autocorrelation_is_exponential(tau, start):
    values = OrnsteinUhlenbeck(mean=3, std=2, tau=tau).values(np.arange(start, start + 4_000_000), KEY)
    standard = (values - 3) / 2
    # At tau = 40, 4,000,000 correlated values are worth about 4,000,000 / (2 tau) = 50,000 independent values.
    assert standard.mean() == pytest.approx(0, abs=0.02)
    assert standard.var() == pytest.approx(1, abs=0.03)
    for lag in (1, tau // 2, tau, 1.5 * tau):
        correlation = np.mean(standard[: -int(lag)] * standard[int(lag) :]) / standard.var()
        assert correlation == pytest.approx(np.exp(-int(lag) / tau), rel=0.05)


def test_ornstein_uhlenbeck_steps_are_consistent_across_blocks():
    tau, number = 20.0, 800 * bridges.BLOCK
    values = OrnsteinUhlenbeck(mean=0, std=1, tau=tau).values(np.arange(number), KEY)
    r = np.exp(-1 / tau)
    innovations = (values[1:] - r * values[:-1]) / np.sqrt(1 - r * r)
    at_edges = innovations[bridges.BLOCK - 1 :: bridges.BLOCK]
    for some in (innovations, at_edges):
        # The innovations have the moments of a standard normal, and are uncorrelated with the past.
        error = 5 / np.sqrt(len(some))
        assert some.mean() == pytest.approx(0, abs=error)
        assert some.var() == pytest.approx(1, abs=1.5 * error)
        assert np.mean(some**4) == pytest.approx(3, abs=10 * error)
    assert np.mean(innovations[1:] * innovations[:-1]) == pytest.approx(0, abs=0.003)
    assert np.mean(innovations[1:] * values[1:-1]) == pytest.approx(0, abs=0.005)


def test_ornstein_uhlenbeck_variance_is_the_same_at_every_clock():
    schedule = OrnsteinUhlenbeck(mean=0, std=1, tau=10**12)
    clocks = np.array([0, 1, 2**40, 2**61, 2**62 - 1])
    values = np.array([schedule.values(clocks, Key(seed)) for seed in range(400)])
    assert values.var(axis=0) == pytest.approx(np.ones(5), abs=0.32)
    correlation = np.corrcoef(values.T)
    assert correlation[0, 1] > 0.999
    assert correlation[0, 2] == pytest.approx(np.exp(-(2**40) / 10**12), abs=0.2)
    assert np.abs(correlation[3:, :3]).max() < 0.2


@pytest.mark.parametrize("start", [0, 10**9])
def test_random_walk_has_independent_steps(start):
    walk = RandomWalk(start=1, std=0.5)
    values = walk.values(np.arange(start, start + 500 * bridges.BLOCK), KEY)
    steps = np.diff(values) / 0.5
    assert steps.mean() == pytest.approx(0, abs=0.004)
    assert steps.var() == pytest.approx(1, abs=0.006)
    assert np.mean(steps**4) == pytest.approx(3, abs=0.05)
    assert np.mean(steps[1:] * steps[:-1]) == pytest.approx(0, abs=0.004)
    assert steps[bridges.BLOCK - 1 :: bridges.BLOCK].var() == pytest.approx(1, abs=0.32)
    assert walk.value(0, KEY) == 1


def test_random_walk_deviation_grows_with_the_root_of_time():
    clocks = np.array([1, 100, 5_000, 10**9, 2**61])
    values = np.array([RandomWalk(start=0, std=1).values(clocks, Key(seed)) for seed in range(400)])
    assert values.var(axis=0) / clocks == pytest.approx(np.ones(5), abs=0.32)


def test_reflected_walk_is_uniform_with_steps_of_its_size():
    walk = RandomWalk(start=0.2, std=0.2, low=-1, high=1)
    values = walk.values(np.arange(2_000_000), KEY)
    assert np.histogram(values, bins=8, range=(-1, 1))[0] / 250_000 == pytest.approx(np.ones(8), abs=0.03)
    # Away from the walls, the walk has free steps.
    free = np.abs(values[:-1]) < 0.1
    assert np.diff(values)[free].std() == pytest.approx(0.2, rel=0.01)
    # Near a wall, the next value is the reflection of the value plus noise.
    at_wall = values[:-1] > 0.95
    expected = fold(0.975 + 0.2 * np.random.default_rng(0).standard_normal(100_000), -1, 1).mean()
    assert values[1:][at_wall].mean() == pytest.approx(expected, abs=0.005)
    # At lag k, the correlation of Brownian motion between walls has the first mode
    # 96 / pi**4 * exp(-pi**2 std**2 k / (2 width**2)).
    lag = 40
    correlation = np.corrcoef(values[:-lag], values[lag:])[0, 1]
    mode = np.exp(-(np.pi**2) * 0.2**2 * lag / (2 * 2**2))
    assert correlation == pytest.approx(96 / np.pi**4 * mode, rel=0.1)


def test_fold_reflects_any_number_of_times():
    values = np.array([0.0, 1.0, 1.25, 2.0, 2.25, 3.5, -0.25, -1.0, -1.5, 100.75])
    assert fold(values, 0, 1).tolist() == [0, 1, 0.75, 0, 0.25, 0.5, 0.25, 1, 0.5, 0.75]
    assert fold(values, 1, None).tolist() == [2, 1, 1.25, 2, 2.25, 3.5, 2.25, 3, 3.5, 100.75]
    assert fold(values, None, 1).tolist() == [0, 1, 0.75, 0, -0.25, -1.5, -0.25, -1, -1.5, -98.75]


def test_timescale_of_the_smallest_steps_is_infinite():
    assert RandomWalk(start=0, std=2.3e-243, low=-1, high=1).timescale == math.inf
    assert RandomWalk(start=0, std=0.5, low=-1, high=1).timescale == 16 / 6


test_values_equal_hand_computed_values = values_test(
    (RandomWalk(3, 0, low=0), [0, 99], [3, 3]), (OrnsteinUhlenbeck(3, 0, tau=5), [0, 99], [3, 3])
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (OrnsteinUhlenbeck(9, 2, tau=30), 30, 2),
    (OrnsteinUhlenbeck(9, 0, tau=30), math.inf, 0),
    (RandomWalk(1, std=0.1, low=0, high=6), 600, 3),
    (RandomWalk(1, std=0.1, low=0), math.inf, math.inf),
    (RandomWalk(1, std=0), math.inf, 0),
)

test_timescale_equals_the_initial_decay_of_the_autocovariance = decay_test(
    OrnsteinUhlenbeck(0, 1, tau=40), RandomWalk(0.5, std=0.02, low=0, high=1)
)

test_wrong_argument_is_named = error_test(
    (lambda: OrnsteinUhlenbeck(0, -1, tau=3), ("std", ">= 0", "-1")),
    (lambda: OrnsteinUhlenbeck(0, 1, tau=0), ("tau", "> 0")),
    (lambda: RandomWalk(0, 1, low=1, high=1), ("low=1.0", "high=1.0")),
    (lambda: RandomWalk(5, 1, high=1), ("start=5.0", "low", "high")),
    (lambda: RandomWalk(0, 1).half_life(steps_per_update=1, snr=1), ("variance", "low", "high")),
    (lambda: (RandomWalk(0, 1) + 1).half_life(steps_per_update=1, snr=1), ("variance",)),
)
