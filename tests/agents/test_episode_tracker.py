import gymnasium as gym
import numpy as np

from rl_rms.agents.episode_tracker import EpisodeTracker
from rl_rms.agents.rollout import Episode


def tracker(num_envs):
    return EpisodeTracker(gym.make_vec("CartPole-v1", num_envs, vectorization_mode="sync"))


def test_close_returns_the_sums_and_lengths_of_finished_episodes_and_begins_new_ones():
    counted = tracker(3)
    assert counted.count(np.array([1.0, 2.0, 4.0]), None) == 3
    assert counted.count(np.array([1.0, 2.0, 4.0]), None) == 3
    done = np.array([False, True, True])
    info = {"is_success": np.array([True, False, True]), "_is_success": np.array([False, True, True])}
    assert counted.close(done, info, 6) == [Episode(4.0, 2, 1, 6, False), Episode(8.0, 2, 2, 6, True)]
    assert counted.returns.tolist() == [2.0, 0.0, 0.0]
    assert counted.lengths.tolist() == [2, 0, 0]


def test_close_without_a_reported_success_has_none():
    counted = tracker(1)
    counted.count(np.ones(1), None)
    assert counted.close(np.array([True]), {}, 1)[0].success is None


def test_count_leaves_out_reset_frames():
    counted = tracker(2)
    assert counted.count(np.array([np.nan, 1.0]), np.array([False, True])) == 1
    assert counted.returns.tolist() == [0.0, 1.0]
    assert counted.lengths.tolist() == [0, 1]


def test_loaded_state_continues_the_episodes():
    counted, loaded = tracker(2), tracker(2)
    counted.count(np.array([1.0, 2.0]), None)
    loaded.load_state_dict(counted.state_dict())
    loaded.count(np.array([1.0, 2.0]), None)
    assert loaded.returns.tolist() == [2.0, 4.0]
    assert loaded.lengths.tolist() == [2, 2]


def test_restart_begins_new_episodes_everywhere():
    counted = tracker(2)
    counted.count(np.ones(2), None)
    counted.restart()
    assert (counted.returns.tolist(), counted.lengths.tolist()) == ([0.0, 0.0], [0, 0])
