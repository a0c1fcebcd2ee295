import json
import math

import pytest

from rl_rms.envs.episodes import EpisodeCounter, success_in


def test_add_sums_valid_transitions_and_returns_ended_episodes():
    counter = EpisodeCounter(num_envs=3)
    nobody = [None] * 3
    assert counter.add([1.0, 2.0, 3.0], [True, True, True], [False, True, False], nobody) == [
        ({}, 2.0, 1, None, 1)
    ]
    counter.begin(1)
    ended = counter.add([10.0, 99.0, 30.0], [True, False, True], [True, False, True], [True, None, False])
    assert ended == [({}, 11.0, 2, True, 0), ({}, 33.0, 2, False, 2)]
    counter.begin(0)
    again = EpisodeCounter(num_envs=3)
    again.load_state_dict(json.loads(json.dumps(counter.state_dict())))
    for one in (counter, again):
        ended = one.add([0.5, 0.25, 7.0], [True, True, True], [True, True, False], nobody)
        assert ended == [({}, 0.5, 1, None, 0), ({}, 0.25, 1, None, 1)]


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_add_counts_a_non_finite_reward_as_0(reward):
    counter = EpisodeCounter()
    counter.add([2.0], [True], [False], [None])
    assert counter.add([reward], [True], [True], [None]) == [({}, 2.0, 2, None, 0)]


def test_success_in_reads_either_key():
    assert success_in({"is_success": 1}) is True
    assert success_in({"success": False}) is False
    assert success_in({}) is None
