import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rl_rms.agents.collector import Collector
from rl_rms.agents.env_state import as_vector_env
from rl_rms.envs import ResilientSyncVectorEnv, make_vec
from tests.naming import naming


def rollout_of(env, num_steps):
    collector = Collector(env)
    collector.start(seed=0)
    zeros = np.zeros(env.num_envs, dtype=np.int64)
    return collector, collector.collect(lambda *_: (zeros, zeros), lambda steps, _: steps == num_steps)


# The first sub-environment is truncated after 2 steps. The second sub-environment terminates after 3 steps.
KINDS = [(2, True), (3, False)]


def test_collect_next_step_autoreset_marks_reset_frames(counting):
    collector, rollout = rollout_of(counting(KINDS, AutoresetMode.NEXT_STEP), 5)
    assert rollout.observations[:, :, 0].tolist() == [[0, 0], [1, 1], [2, 2], [0, 3], [1, 0], [2, 1]]
    assert rollout.valid.tolist() == [[True, True], [True, True], [False, True], [True, False], [True, True]]
    assert rollout.truncated[:, 0].tolist() == [False, True, False, False, True]
    assert rollout.terminated[:, 1].tolist() == [False, False, True, False, False]
    assert len(rollout.final_index) == 0
    assert rollout.env_steps == collector.num_timesteps == 8


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_collect_other_autoreset_modes_keep_final_observations(counting, mode):
    collector, rollout = rollout_of(counting(KINDS, mode), 4)
    assert rollout.observations[:, :, 0].tolist() == [[0, 0], [1, 1], [0, 2], [1, 0], [0, 1]]
    assert rollout.valid.all()
    assert rollout.final_index.tolist() == [[1, 0], [3, 0]]
    assert rollout.final_observations.tolist() == [[2.0], [2.0]]
    assert rollout.env_steps == collector.num_timesteps == 8


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_collect_episodes_have_return_length_and_time(counting, mode):
    _, rollout = rollout_of(counting([(2, True)], mode), 4)
    first = rollout.episodes[0]
    assert (first.ret, first.length, first.num_timesteps) == (30.0, 2, 2)


def test_collect_continues_at_the_end_of_the_last_rollout(counting):
    env = counting([(4, True)])
    collector, first = rollout_of(env, 3)
    zeros = np.zeros(1, dtype=np.int64)
    second = collector.collect(lambda *_: (zeros, zeros), lambda steps, _: steps == 2)
    assert first.observations[-1].tolist() == second.observations[0].tolist() == [[3.0]]
    assert second.episodes[0].ret == 100.0


def test_collector_env_without_autoreset_mode_raises(counting):
    env = counting(KINDS)
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match="autoreset_mode"):
        Collector(env)


def test_collect_env_that_reuses_its_buffers_copies_them():
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync", vector_kwargs={"copy": False})
    _, rollout = rollout_of(env, 3)
    assert not np.array_equal(rollout.observations[0], rollout.observations[1])


def test_as_vector_env_of_an_id_or_a_single_environment_is_a_vector():
    assert as_vector_env("CartPole-v1").num_envs == 1
    assert as_vector_env(gym.make("Pendulum-v1")).num_envs == 1
    with pytest.raises(TypeError, match=naming("env")):
        as_vector_env(3)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("key", "success_key"), [("is_success", None), ("success", None), ("won", "won")])
def test_collect_reads_success_at_the_end_of_an_episode(key, success_key, mode):
    class Goal(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.steps = 0
            return np.zeros(1, np.float32), {key: False}

        def step(self, action):
            self.steps += 1
            return np.zeros(1, np.float32), 0.0, self.steps == 2, False, {key: bool(action)}

    env = make_vec(Goal, 2, success_key=success_key, vector_kwargs={"autoreset_mode": mode})
    collector = Collector(env)
    collector.start(seed=0)
    actions = np.array([0, 1])
    rollout = collector.collect(lambda *_: (actions, actions), lambda steps, _: steps == 5)
    assert {(episode.env_index, episode.success) for episode in rollout.episodes} == {(0, False), (1, True)}


@pytest.mark.parametrize("success", [{"arm": True}, np.ones(3, np.bool_)])
def test_collect_success_of_several_values_is_left_out(success):
    class Goals(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {"is_success": success}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, True, False, {"is_success": success}

    _, rollout = rollout_of(gym.vector.SyncVectorEnv([Goals, Goals]), 3)
    assert [episode.success for episode in rollout.episodes] == [None] * 4


def test_collect_env_without_success_gives_none(counting):
    _, rollout = rollout_of(counting(KINDS), 5)
    assert [episode.success for episode in rollout.episodes] == [None, None, None][: len(rollout.episodes)]


def test_collect_reuses_the_rollout_buffers(counting):
    collector, first = rollout_of(counting([(4, True)]), 3)
    zeros = np.zeros(1, dtype=np.int64)
    second = collector.collect(lambda *_: (zeros, zeros), lambda steps, _: steps == 3)
    assert np.shares_memory(first.observations, second.observations)
    assert np.shares_memory(first.rewards, second.rewards)
    longer = collector.collect(lambda *_: (zeros, zeros), lambda steps, _: steps == 9)
    assert longer.observations.shape == (10, 1, 1)
    assert longer.rewards[:, 0].tolist() == [20.0, 30.0, 40.0, 0.0, 10.0, 20.0, 30.0, 40.0, 0.0]


def test_observations_before_the_start_raises(counting):
    collector = Collector(counting([(3, False)]))
    with pytest.raises(RuntimeError, match=naming("start()")):
        _ = collector.observations


class InPlace(gym.Env):
    """Counts the 3 steps of an episode, and overwrites the arrays and the info that it has returned before."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, nested):
        self.nested = nested
        count = gym.spaces.Box(-10, 10, (1,), np.float32)
        self.observation_space = gym.spaces.Dict(count=count) if nested else count
        self.array, self.reward, self.over = np.zeros(1, np.float32), np.zeros(()), np.zeros((), np.bool_)
        self.info = {"is_success": False}

    def _shown(self):
        return {"count": self.array} if self.nested else self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.array[:] = self.reward[...] = 0.0
        self.over[...] = self.info["is_success"] = False
        return self._shown(), self.info

    def step(self, action):
        self.array += 1
        self.reward[...] = self.array[0]
        self.over[...] = self.info["is_success"] = self.array[0] == 3
        return self._shown(), self.reward, False, self.over, self.info


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("copy", [False, True])
def test_collect_environment_that_reuses_its_arrays_keeps_each_transition(mode, nested, copy):
    env = ResilientSyncVectorEnv([lambda: InPlace(nested)] * 2, autoreset_mode=mode, copy=copy)
    _, rollout = rollout_of(env, 6 + 1)
    valid = rollout.valid[:, 0]
    assert rollout.rewards[valid, 0].tolist()[:6] == [1, 2, 3, 1, 2, 3]
    assert rollout.truncated[valid, 0].tolist()[:6] == [False, False, True] * 2
    assert [(one.ret, one.length, one.success) for one in rollout.episodes[:2]] == [(6.0, 3, True)] * 2
    finals = rollout.final_observations["count"] if nested else rollout.final_observations
    assert (finals == 3).all()
    assert len(finals) == (0 if mode is AutoresetMode.NEXT_STEP else 4)
    counts = rollout.observations["count"] if nested else rollout.observations
    expected = [0, 1, 2, 3, 0, 1, 2, 3] if mode is AutoresetMode.NEXT_STEP else [0, 1, 2, 0, 1, 2, 0, 1]
    assert counts[:, 0, 0].tolist() == expected


def test_collect_worker_that_reuses_its_arrays_keeps_the_final_observation():
    spec = gym.envs.registration.EnvSpec("InPlace-v0", lambda: InPlace(False), disable_env_checker=True)
    env = make_vec(spec, 2, vectorization_mode="async", vector_kwargs={"autoreset_mode": "SameStep"})
    _, rollout = rollout_of(env, 3)
    env.close()
    assert rollout.final_observations.tolist() == [[3.0], [3.0]]
    assert [one.success for one in rollout.episodes] == [True, True]


@pytest.mark.parametrize("reuses", [True, False])
@pytest.mark.parametrize("kind", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_collect_gymnasiums_environment_that_overwrites_the_final_observation_warns(kind, reuses):
    class Worker(InPlace):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            return observation if reuses else observation.copy(), float(reward), terminated, bool(truncated), info

    env = kind([lambda: Worker(False)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rollout_of(env, 13)
    env.close()
    assert ["rl_rms.envs.make_vec" in str(one.message) for one in caught] == [True] * reuses


class NativeInPlace(gym.vector.VectorEnv):
    """A native vector environment whose resets overwrite arrays that its steps returned."""

    num_envs = 2
    single_observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    single_action_space = gym.spaces.Discrete(2)
    observation_space = gym.vector.utils.batch_space(single_observation_space, 2)
    action_space = gym.vector.utils.batch_space(single_action_space, 2)

    def __init__(self, mode, tells_finals=True):
        self.metadata = {"autoreset_mode": mode}
        self.mode, self.tells_finals = mode, tells_finals
        self.array, self.rewards = np.zeros((2, 1), np.float32), np.zeros(2)
        self.terminated, self.truncated = np.zeros((2, 2), np.bool_)
        self.final = np.zeros((2, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(2, np.bool_))
        for one in (self.array, self.rewards, self.truncated):
            one[mask] = 0
        return self.array, {}

    def step(self, actions):
        self.array += 1
        self.rewards[:] = self.array[:, 0]
        self.truncated[:] = self.array[:, 0] == 3
        infos = {}
        if self.mode is AutoresetMode.SAME_STEP and self.truncated.any():
            self.final[:] = self.array + 10 * actions[:, None]
            self.array[:] = 0
            infos = {"final_obs": self.final} if self.tells_finals else {}
        return self.array, self.rewards, self.terminated, self.truncated, infos


def test_collect_vector_environment_that_reuses_its_arrays_keeps_rewards_and_ends():
    _, rollout = rollout_of(NativeInPlace(AutoresetMode.DISABLED), 4)
    assert rollout.rewards[:, 0].tolist() == [1, 2, 3, 1]
    assert rollout.truncated[:, 0].tolist() == [False, False, True, False]
    assert rollout.final_observations.tolist() == [[3.0], [3.0]]
    assert [one.ret for one in rollout.episodes] == [6.0, 6.0]


def test_collect_vector_environment_that_reuses_final_observations_keeps_each():
    collector = Collector(NativeInPlace(AutoresetMode.SAME_STEP))
    collector.start(seed=0)
    rollout = collector.collect(lambda t, *_: (np.full(2, t),) * 2, lambda steps, _: steps == 6)
    assert rollout.final_observations[:, 0].tolist() == [23.0, 23.0, 53.0, 53.0]


def test_collect_same_step_without_final_observations_raises():
    env = NativeInPlace(AutoresetMode.SAME_STEP, tells_finals=False)
    with pytest.raises(ValueError, match=naming("info['final_obs'][0]", "final observation", "autoreset_mode")):
        rollout_of(env, 3)
