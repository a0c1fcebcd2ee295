"""A Markov chain has the distribution of its step-by-step definition."""

import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Key,
    Markov,
    bridges,
)
from tests.envs.schedules.tables import decay_test, error_test, timescale_test

KEY = Key(seed=7, stream=3)


WEATHER = ((0.9, 0.1, 0.0), (0.0, 0.8, 0.2), (0.3, 0.0, 0.7))


@pytest.mark.parametrize("start", [0, 10**9])
def test_markov_chain_follows_its_transition_probabilities(start):
    chain = Markov([0, 1, 2], transitions=WEATHER)
    states = chain.values(np.arange(start, start + 500 * bridges.BLOCK), KEY).astype(int)
    counts = np.zeros((3, 3))
    np.add.at(counts, (states[:-1], states[1:]), 1)
    assert counts / counts.sum(axis=1, keepdims=True) == pytest.approx(np.array(WEATHER), abs=0.003)
    assert (counts == 0).tolist() == (np.array(WEATHER) == 0).tolist()
    # The stationary distribution is 6/11, 3/11, 2/11.
    assert chain.stationary == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert np.bincount(states) / len(states) == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.01)
    # Given the last state, the state before it does not change the probabilities.
    after = states[2:][(states[:-2] == 0) & (states[1:-1] == 1)]
    assert np.mean(after == 1) == pytest.approx(0.8, abs=0.01)
    edges = np.flatnonzero(states[bridges.BLOCK - 1 : -1 : bridges.BLOCK] == 0) * bridges.BLOCK + bridges.BLOCK
    assert np.mean(states[edges] == 0) == pytest.approx(0.9, abs=0.1)


def test_markov_chain_dwell_time_is_geometric_with_the_given_mean():
    values = Markov([3, 5, 8], mean_dwell=25).values(np.arange(2_000_000), KEY)
    changed = np.flatnonzero(np.diff(values)) + 1
    dwells = np.diff(changed)
    assert dwells.mean() == pytest.approx(25, rel=0.02)
    assert dwells.var() == pytest.approx(25 * 24, rel=0.05)
    # Half of the changes from 3 lead to 5.
    assert np.mean(values[changed][values[changed - 1] == 3] == 5) == pytest.approx(0.5, abs=0.02)


def test_deterministic_markov_chain_alternates_at_any_clock():
    chain = Markov([0, 1], mean_dwell=1)
    first = chain.value(0, KEY)
    clocks = np.array([1, 2, 10**9, 10**9 + 1, 2**61 - 1])
    assert chain.values(clocks, KEY).tolist() == [abs(first - clock % 2) for clock in clocks.tolist()]


test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (Markov([0, 1], mean_dwell=100), 50, 0.5),
    (Markov([0, 1, 2], transitions=[[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), 20 / 3, 1),
    (Markov([2, 2], mean_dwell=100), math.inf, 0),
)

test_timescale_equals_the_initial_decay_of_the_autocovariance = decay_test(
    Markov([0, 1, 4], transitions=[[0.9, 0.1, 0], [0, 0.98, 0.02], [0.05, 0, 0.95]])
)

test_wrong_argument_is_named = error_test(
    (lambda: Markov([1], mean_dwell=3), ("values", "two")),
    (lambda: Markov(3, mean_dwell=3), ("Markov", "values", "3")),
    (lambda: Markov([1, 2]), ("mean_dwell=None", "transitions")),
    (lambda: Markov([1, 2], mean_dwell=0.5), ("mean_dwell", ">= 1", "0.5")),
    (lambda: Markov([1, 2], transitions=[[1, 0]]), ("transitions", "2 rows", "2 probabilities")),
    (lambda: Markov([1, 2], transitions=[[1, 0.5], [1, 0]]), ("sum to 1", "[1.0, 0.5]", "1.5")),
    (lambda: Markov([1, 2], transitions=[[1, 0], [1, 0]]), ("values[1]", "values[0]")),
    (
        lambda: Markov([1, 2], transitions=[[2, -1], [1, 0]]),
        ("transitions", ">= 0", "-1"),
    ),
)
