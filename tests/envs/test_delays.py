import numpy as np
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.delays import LONGEST, Delays


def test_exchange_returns_delayed_actions_after_idle_ones():
    delays = Delays(Box(0.5, 2.0, (1,), np.float32), num_envs=2)
    out = [delays.exchange(np.array([[a], [10 * a]], np.float32), np.array([2, 0])).ravel() for a in (1, 2, 3, 4)]
    assert [one.tolist() for one in out] == [[0.5, 10], [0.5, 20], [1, 30], [2, 40]]
    delays.clear([0])
    assert delays.exchange(np.array([[7], [7]], np.float32), np.array([1, 1])).ravel().tolist() == [0.5, 40]


def test_exchange_falling_delay_drops_actions_and_rising_delay_repeats_them():
    delays = Delays(Discrete(9, start=3))
    carried = [delays.exchange(np.array([4 + j]), np.array([k]))[0] for j, k in enumerate([1.4, 1, 0, 2])]
    assert carried == [3, 4, 6, 5]


def test_exchange_longest_delay_is_remembered():
    delays = Delays(Discrete(2 * LONGEST))
    carried = [delays.exchange(np.array([j]), np.array([LONGEST]))[0] for j in range(LONGEST + 5)]
    assert carried[LONGEST:] == [0, 1, 2, 3, 4]


def test_exchange_copies_the_callers_array():
    delays = Delays(Box(-1, 1, (2,), np.float32))
    action = np.array([[0.1, 0.2]], np.float32)
    delays.exchange(action, np.array([1]))
    action[:] = 9
    assert delays.exchange(action, np.array([1])).tolist() == np.array([[0.1, 0.2]], np.float32).tolist()
