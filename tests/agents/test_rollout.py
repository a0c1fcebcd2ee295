import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rl_rms.agents.rollout import Collector, as_vector_env


def rollout_of(env, num_steps):
    collector = Collector(env)
    collector.start(seed=0)
    zeros = np.zeros(env.num_envs, dtype=np.int64)
    return collector, collector.collect(lambda _: (zeros, zeros), lambda steps, _: steps == num_steps)


# The first world is truncated after 2 steps, the second terminates after 3.
KINDS = [(2, True), (3, False)]


def test_next_step_autoreset_marks_reset_frames(counting):
    collector, rollout = rollout_of(counting(KINDS, AutoresetMode.NEXT_STEP), 5)
    assert rollout.observations[:, :, 0].tolist() == [[0, 0], [1, 1], [2, 2], [0, 3], [1, 0], [2, 1]]
    assert rollout.valid.tolist() == [[True, True], [True, True], [False, True], [True, False], [True, True]]
    assert rollout.truncated[:, 0].tolist() == [False, True, False, False, True]
    assert rollout.terminated[:, 1].tolist() == [False, False, True, False, False]
    assert len(rollout.final_index) == 0  # the next row holds the final observation
    assert rollout.env_steps == collector.num_timesteps == 8


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_other_modes_keep_the_true_final_observation_of_truncated_episodes(counting, mode):
    collector, rollout = rollout_of(counting(KINDS, mode), 4)
    assert rollout.observations[:, :, 0].tolist() == [[0, 0], [1, 1], [0, 2], [1, 0], [0, 1]]
    assert rollout.valid.all()
    assert rollout.final_index.tolist() == [[1, 0], [3, 0]]  # not the terminated one at step 2
    assert rollout.final_observations.tolist() == [[2.0], [2.0]]
    assert rollout.env_steps == collector.num_timesteps == 8


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_episodes_have_their_return_length_and_time(counting, mode):
    _, rollout = rollout_of(counting([(2, True)], mode), 4)
    first = rollout.episodes[0]
    assert (first.ret, first.length, first.num_timesteps) == (30.0, 2, 2)


def test_a_collector_goes_on_where_the_last_rollout_stopped(counting):
    env = counting([(4, True)])
    collector, first = rollout_of(env, 3)
    zeros = np.zeros(1, dtype=np.int64)
    second = collector.collect(lambda _: (zeros, zeros), lambda steps, _: steps == 2)
    assert first.observations[-1].tolist() == second.observations[0].tolist() == [[3.0]]
    assert second.episodes[0].ret == 100.0


def test_a_world_that_does_not_say_how_it_resets_is_refused(counting):
    env = counting(KINDS)
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match="autoreset_mode"):
        Collector(env)


def test_buffers_that_the_environment_reuses_are_copied():
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync", vector_kwargs={"copy": False})
    _, rollout = rollout_of(env, 3)
    assert not np.array_equal(rollout.observations[0], rollout.observations[1])


def test_ids_and_single_environments_become_vectors():
    assert as_vector_env("CartPole-v1").num_envs == 1
    assert as_vector_env(gym.make("Pendulum-v1")).num_envs == 1
    with pytest.raises(TypeError, match="env must be"):
        as_vector_env(3)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_successes_are_read_at_the_episodes_end(mode):
    class Goal(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.steps = 0
            return np.zeros(1, np.float32), {"is_success": False}

        def step(self, action):
            self.steps += 1
            return np.zeros(1, np.float32), 0.0, self.steps == 2, False, {"is_success": bool(action)}

    env = gym.vector.SyncVectorEnv([Goal, Goal], autoreset_mode=mode)
    collector = Collector(env)
    collector.start(seed=0)
    actions = np.array([0, 1])
    rollout = collector.collect(lambda _: (actions, actions), lambda steps, _: steps == 5)
    assert {(episode.env_index, episode.success) for episode in rollout.episodes} == {(0, False), (1, True)}


def test_episodes_of_worlds_that_do_not_tell_have_no_success(counting):
    _, rollout = rollout_of(counting(KINDS), 5)
    assert [episode.success for episode in rollout.episodes] == [None, None, None][: len(rollout.episodes)]


def test_rollouts_use_the_same_memory_again(counting):
    collector, first = rollout_of(counting([(4, True)]), 3)
    zeros = np.zeros(1, dtype=np.int64)
    second = collector.collect(lambda _: (zeros, zeros), lambda steps, _: steps == 3)
    assert np.shares_memory(first.observations, second.observations)
    assert np.shares_memory(first.rewards, second.rewards)
    longer = collector.collect(lambda _: (zeros, zeros), lambda steps, _: steps == 9)
    assert longer.observations.shape == (10, 1, 1)
    assert longer.rewards[:, 0].tolist() == [20.0, 30.0, 40.0, 0.0, 10.0, 20.0, 30.0, 40.0, 0.0]


def test_there_are_no_observations_before_the_start(counting):
    collector = Collector(counting([(3, False)]))
    with pytest.raises(RuntimeError, match=r"start\(\) must be called before there are observations"):
        _ = collector.observations
