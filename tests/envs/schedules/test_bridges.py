"""Whether what is drawn from coarse to fine has the law of what goes step by step."""

import math

import numpy as np
import pytest

from rl_rms.envs.schedules import Key, Markov, OrnsteinUhlenbeck, RandomWalk, bridges
from rl_rms.envs.schedules.diffusion import fold

KEY = Key(seed=7, stream=3)
WEATHER = ((0.9, 0.1, 0.0), (0.0, 0.8, 0.2), (0.3, 0.0, 0.7))


@pytest.mark.parametrize("start", [0, 10**9])
@pytest.mark.parametrize("tau", [5.0, 40.0])
def test_the_autocorrelation_of_an_ornstein_uhlenbeck_process_is_exponential(tau, start):
    values = OrnsteinUhlenbeck(mean=3, std=2, tau=tau).values(np.arange(start, start + 4_000_000), KEY)
    standard = (values - 3) / 2
    # At tau = 40 these are 50000 independent values.
    assert standard.mean() == pytest.approx(0, abs=0.02)
    assert standard.var() == pytest.approx(1, abs=0.03)
    for lag in (1, tau // 2, tau, 1.5 * tau):
        correlation = np.mean(standard[: -int(lag)] * standard[int(lag) :]) / standard.var()
        assert correlation == pytest.approx(np.exp(-int(lag) / tau), rel=0.05)


def test_an_ornstein_uhlenbeck_process_goes_step_by_step_within_blocks_and_over_their_edges():
    tau, number = 20.0, 800 * bridges._BLOCK
    values = OrnsteinUhlenbeck(mean=0, std=1, tau=tau).values(np.arange(number), KEY)
    r = np.exp(-1 / tau)
    innovations = (values[1:] - r * values[:-1]) / np.sqrt(1 - r * r)
    at_edges = innovations[bridges._BLOCK - 1 :: bridges._BLOCK]
    for some in (innovations, at_edges):
        # Standard normal, as the variance and the fourth moment show, whatever came before.
        error = 5 / np.sqrt(len(some))
        assert some.mean() == pytest.approx(0, abs=error)
        assert some.var() == pytest.approx(1, abs=1.5 * error)
        assert np.mean(some**4) == pytest.approx(3, abs=10 * error)
    assert np.mean(innovations[1:] * innovations[:-1]) == pytest.approx(0, abs=0.003)
    assert np.mean(innovations[1:] * values[1:-1]) == pytest.approx(0, abs=0.005)


def test_an_ornstein_uhlenbeck_process_is_as_spread_at_every_clock():
    schedule = OrnsteinUhlenbeck(mean=0, std=1, tau=10**12)
    clocks = np.array([0, 1, 2**40, 2**61, 2**62 - 1])
    values = np.array([schedule.values(clocks, Key(seed)) for seed in range(400)])
    assert values.var(axis=0) == pytest.approx(np.ones(5), abs=0.32)
    correlation = np.corrcoef(values.T)
    assert correlation[0, 1] > 0.999
    assert correlation[0, 2] == pytest.approx(np.exp(-(2**40) / 10**12), abs=0.2)
    assert np.abs(correlation[3:, :3]).max() < 0.2


@pytest.mark.parametrize("start", [0, 10**9])
def test_a_random_walk_has_independent_steps(start):
    walk = RandomWalk(start=1, std=0.5)
    values = walk.values(np.arange(start, start + 500 * bridges._BLOCK), KEY)
    steps = np.diff(values) / 0.5
    assert steps.mean() == pytest.approx(0, abs=0.004)
    assert steps.var() == pytest.approx(1, abs=0.006)
    assert np.mean(steps**4) == pytest.approx(3, abs=0.05)
    assert np.mean(steps[1:] * steps[:-1]) == pytest.approx(0, abs=0.004)
    assert steps[bridges._BLOCK - 1 :: bridges._BLOCK].var() == pytest.approx(1, abs=0.32)
    assert walk.value(0, KEY) == 1


def test_a_random_walk_spreads_with_the_root_of_time():
    clocks = np.array([1, 100, 5_000, 10**9, 2**61])
    values = np.array([RandomWalk(start=0, std=1).values(clocks, Key(seed)) for seed in range(400)])
    assert values.var(axis=0) / clocks == pytest.approx(np.ones(5), abs=0.32)


def test_a_reflected_walk_comes_to_every_value_alike_and_steps_on():
    walk = RandomWalk(start=0.2, std=0.2, low=-1, high=1)
    values = walk.values(np.arange(2_000_000), KEY)
    assert np.histogram(values, bins=8, range=(-1, 1))[0] / 250_000 == pytest.approx(np.ones(8), abs=0.03)
    # Away from the walls it steps as if there were none.
    free = np.abs(values[:-1]) < 0.1
    assert np.diff(values)[free].std() == pytest.approx(0.2, rel=0.01)
    # At a wall it goes back as far as it would have gone on: from x the next is the fold of x + n.
    at_wall = values[:-1] > 0.95
    expected = fold(0.975 + 0.2 * np.random.default_rng(0).standard_normal(100_000), -1, 1).mean()
    assert values[1:][at_wall].mean() == pytest.approx(expected, abs=0.005)
    # The correlation of Brownian motion between walls, exp(-pi**2 std**2 k / (2 width**2)) from the first mode on.
    lag = 40
    correlation = np.corrcoef(values[:-lag], values[lag:])[0, 1]
    mode = np.exp(-(np.pi**2) * 0.2**2 * lag / (2 * 2**2))
    assert correlation == pytest.approx(96 / np.pi**4 * mode, rel=0.1)


def test_mirrors_throw_back_any_number_of_times():
    values = np.array([0.0, 1.0, 1.25, 2.0, 2.25, 3.5, -0.25, -1.0, -1.5, 100.75])
    assert fold(values, 0, 1).tolist() == [0, 1, 0.75, 0, 0.25, 0.5, 0.25, 1, 0.5, 0.75]
    assert fold(values, 1, None).tolist() == [2, 1, 1.25, 2, 2.25, 3.5, 2.25, 3, 3.5, 100.75]
    assert fold(values, None, 1).tolist() == [0, 1, 0.75, 0, -0.25, -1.5, -0.25, -1, -1.5, -98.75]


@pytest.mark.parametrize("start", [0, 10**9])
def test_a_markov_chain_goes_on_by_its_transitions(start):
    chain = Markov([0, 1, 2], transitions=WEATHER)
    states = chain.values(np.arange(start, start + 500 * bridges._BLOCK), KEY).astype(int)
    counts = np.zeros((3, 3))
    np.add.at(counts, (states[:-1], states[1:]), 1)
    assert counts / counts.sum(axis=1, keepdims=True) == pytest.approx(np.array(WEATHER), abs=0.003)
    assert (counts == 0).tolist() == (np.array(WEATHER) == 0).tolist()
    # x P = x: 6/11, 3/11, 2/11.
    assert chain.stationary == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert np.bincount(states) / len(states) == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.01)
    # Without memory: what came two steps before says nothing beside what came one before.
    after = states[2:][(states[:-2] == 0) & (states[1:-1] == 1)]
    assert np.mean(after == 1) == pytest.approx(0.8, abs=0.01)
    edges = np.flatnonzero(states[bridges._BLOCK - 1 : -1 : bridges._BLOCK] == 0) * bridges._BLOCK + bridges._BLOCK
    assert np.mean(states[edges] == 0) == pytest.approx(0.9, abs=0.1)


def test_a_markov_chain_dwells_as_long_as_asked_and_then_takes_another():
    values = Markov([3, 5, 8], mean_dwell=25).values(np.arange(2_000_000), KEY)
    changed = np.flatnonzero(np.diff(values)) + 1
    dwells = np.diff(changed)
    assert dwells.mean() == pytest.approx(25, rel=0.02)
    assert dwells.var() == pytest.approx(25 * 24, rel=0.05)
    # From 3 half of the ways lead to 5.
    assert np.mean(values[changed][values[changed - 1] == 3] == 5) == pytest.approx(0.5, abs=0.02)


def test_a_chain_that_must_turn_turns_however_far():
    chain = Markov([0, 1], mean_dwell=1)
    first = chain.value(0, KEY)
    clocks = np.array([1, 2, 10**9, 10**9 + 1, 2**61 - 1])
    assert chain.values(clocks, KEY).tolist() == [abs(first - clock % 2) for clock in clocks.tolist()]


def test_a_clock_far_ahead_costs_some_fifty_draws(monkeypatch):
    asked = []

    def count(key, block, lane, number):
        asked.append(number)
        return original(key, block, lane, number)

    original = bridges.draw
    monkeypatch.setattr(bridges, "draw", count)
    for schedule in (OrnsteinUhlenbeck(0, 1, 9), RandomWalk(0, 1), Markov([0, 1], mean_dwell=9)):
        asked.clear()
        schedule.value(10**9 + 7, Key(seed=123_456))
        assert sum(asked) < 3 * bridges._BLOCK
        assert len(asked) < 70
        # Its neighbors in the block are there, and the next block takes few more.
        asked.clear()
        schedule.values(np.arange(10**9 - 10**9 % bridges._BLOCK, 10**9 + 7), Key(seed=123_456))
        assert asked == []
        schedule.value(10**9 + 7 + bridges._BLOCK, Key(seed=123_456))
        assert len(asked) <= 13


def test_forgotten_blocks_come_back_the_same():
    schedule = OrnsteinUhlenbeck(0, 1, 9)
    before = schedule.values(np.arange(20_000), KEY).tolist()
    bridges._states.cache_clear()
    bridges._end.cache_clear()
    assert schedule.values(np.arange(19_999, -1, -1), KEY).tolist() == before[::-1]
    assert bridges._states.cache_info().maxsize is not None
    assert bridges._end.cache_info().maxsize is not None


def test_the_smallest_steps_need_for_ever_from_wall_to_wall():
    assert RandomWalk(start=0, std=2.3e-243, low=-1, high=1).timescale == math.inf
    assert RandomWalk(start=0, std=0.5, low=-1, high=1).timescale == 16 / 6
