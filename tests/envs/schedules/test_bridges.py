"""Sampling by bridges has the distribution of the step-by-step process."""

import numpy as np

from rl_rms.envs.schedules import Key, Markov, OrnsteinUhlenbeck, RandomWalk, bridges

KEY = Key(seed=7, stream=3)


def count_draws(monkeypatch):
    """A list of the number of values in each draw."""
    drawn = []

    def count(key, block, lane, number):
        drawn.append(number)
        return original(key, block, lane, number)

    original = bridges.draw
    monkeypatch.setattr(bridges, "draw", count)
    return drawn


def test_distant_clock_needs_few_draws(monkeypatch):
    asked = count_draws(monkeypatch)
    for schedule in (OrnsteinUhlenbeck(0, 1, 9), RandomWalk(0, 1), Markov([0, 1], mean_dwell=9)):
        asked.clear()
        schedule.value(10**9 + 7, Key(seed=123_456))
        assert sum(asked) < 3 * bridges.BLOCK
        assert len(asked) < 70
        # The earlier readings of the block need no more random numbers. A reading in the next block needs few.
        asked.clear()
        schedule.values(np.arange(10**9 - 10**9 % bridges.BLOCK, 10**9 + 7), Key(seed=123_456))
        assert asked == []
        schedule.value(10**9 + 7 + bridges.BLOCK, Key(seed=123_456))
        assert len(asked) <= 13


def test_evicted_blocks_are_sampled_again_equally(monkeypatch):
    schedule = OrnsteinUhlenbeck(0, 1, 9)
    before = schedule.values(np.arange(20_000), KEY).tolist()
    for seed in range(300):  # more blocks than the cache keeps
        schedule.value(0, Key(seed))
    drawn = count_draws(monkeypatch)
    assert schedule.values(np.arange(19_999, -1, -1), KEY).tolist() == before[::-1]
    assert len(drawn) >= 5  # the blocks were sampled again
