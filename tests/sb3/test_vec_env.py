import copy
import json

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

import rl_rms
from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.drift import trace
from rl_rms.envs.schedules import Redraw, Sinusoid
from rl_rms.sb3 import ChangeCallback, HalfLifeCallback, NonStationaryVecEnv, make_vec_env
from tests.naming import naming

CHANGES = {"gravity": Sinusoid(mean=9.8, amplitude=4.0, period=1_000), "length": Redraw(0.2, 0.9, every=300)}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_vec_env_without_changes_equals_that_of_stable_baselines3(id, mode):
    ours, theirs = make_vec_env(id, 3, vectorization_mode=mode), DummyVecEnv([lambda: gym.make(id)] * 3)
    for env in (ours, theirs):
        env.seed(5)
    assert np.array_equal(ours.reset(), theirs.reset())
    random, ended = np.random.default_rng(0), 0
    for _ in range(250):
        space = theirs.action_space
        discrete = hasattr(space, "n")
        actions = (
            random.integers(space.n, size=3) if discrete else random.uniform(-2, 2, (3, 1)).astype(np.float32)
        )
        (our_obs, our_rewards, our_dones, our_infos), (obs, rewards, dones, infos) = (
            ours.step(actions),
            theirs.step(actions),
        )
        assert np.array_equal(our_obs, obs)
        assert our_obs.dtype == obs.dtype
        assert np.array_equal(our_rewards, rewards)
        assert our_rewards.dtype == rewards.dtype
        assert np.array_equal(our_dones, dones)
        for our_info, info, done in zip(our_infos, infos, dones, strict=True):
            assert our_info["TimeLimit.truncated"] == info["TimeLimit.truncated"]
            assert our_info.keys() - {"rl_rms.regime", "episode"} == info.keys()
            if done:
                ended += 1
                assert np.array_equal(our_info["terminal_observation"], info["terminal_observation"])
                assert our_info["episode"]["l"] > 0
    assert ended > 2
    # A seed sets only the next reset, so a second reset gives another observation. FrozenLake has one start state.
    assert not np.array_equal(ours.reset()[0], our_obs[0]) or id == "FrozenLake-v1"
    ours.close()


@pytest.mark.parametrize("sharing", ["shared", "phase", "independent"])
def test_vec_env_changes_and_info_has_the_parameters(sharing):
    env = make_vec_env("CartPole-v1", 3, CHANGES, sharing=sharing, seed=4)
    env.reset()
    for _ in range(150):
        infos = env.step(np.array([0, 1, 0]))[3]
    inner = env.unwrapped.env
    clocks = [150] * 3 if sharing == "independent" else [450] * 3
    offsets = {"gravity": [0, 333, 667], "length": [0, 80, 160]}
    for row, parameters in enumerate(env.get_attr("parameters")):
        for target, value in parameters.items():
            clock = clocks[row] + (offsets[target][row] if sharing == "phase" else 0)
            index = row if sharing == "independent" else 0
            assert value == trace(CHANGES, [clock], 4, index)[target][0]
            assert env.get_attr(target)[row] == value
    assert env.get_attr("clock", indices=1) == [450]
    assert env.get_attr("regime") == [info["rl_rms.regime"] for info in infos]
    # The inner timescale counts the env steps of all three sub-environments. The attribute counts the env steps of
    # one sub-environment.
    assert env.get_attr("timescale")[0] * 3 == inner.timescale


def test_set_attr_sets_the_attribute_of_the_inner_environment():
    env = make_vec_env("CartPole-v1", 3, CHANGES)
    env.reset()
    env.set_attr("force_mag", 5.0, indices=[0, 2])
    assert env.get_attr("force_mag") == [5.0, 10.0, 5.0]
    assert [one.unwrapped.force_mag for one in env.unwrapped.env.unwrapped.envs] == [5.0, 10.0, 5.0]
    with pytest.raises(ValueError, match=naming("'gravity'", "changes", "curriculum")):
        env.set_attr("gravity", 7.0)
    with pytest.raises(ValueError, match=naming("'clock'", "set_options", "rl_rms.clock")):
        env.set_attr("clock", 50)
    assert env.env_method("has_wrapper_attr", "gravity", indices=[1]) == [True]
    assert env.env_is_wrapped(Monitor) == [False] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [True]


def test_env_method_calls_all_workers_at_once():
    env = make_vec_env("CartPole-v1", 2, CHANGES, vectorization_mode="async")
    env.reset()
    assert env.env_method("has_wrapper_attr", "gravity") == [True, True]
    with pytest.raises(ValueError, match=naming("indices=1")):
        env.env_method("has_wrapper_attr", "gravity", indices=1)
    assert (env.has_attr("gravity"), env.has_attr("clock"), env.has_attr("gravitas")) == (True, True, False)
    env.set_attr("force_mag", 5.0, indices=1)
    assert env.get_attr("force_mag") == [10.0, 5.0]
    assert env.env_is_wrapped(Monitor) == [False, False]
    env.close()


class Kept(KVWriter):
    """A log that keeps its entries."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


def test_learn_in_the_vec_env_logs_the_changes():
    stages = [{"masscart": 1.0}, {"masscart": 1.5}]
    env = make_vec_env("CartPole-v1", 4, CHANGES, curriculum=Staged(stages, threshold=5, window=2), seed=0)
    model = A2C(
        "MlpPolicy",
        env,
        seed=0,
        policy_kwargs={"optimizer_class": rl_rms.RMSprop, "optimizer_kwargs": {"half_life": "match"}},
    )
    log = Kept()
    model.set_logger(Logger(None, [log]))
    model.learn(600, callback=[HalfLifeCallback(log_interval=1), ChangeCallback()], log_interval=10)
    inner = env.unwrapped.env
    assert inner.clock == model.num_timesteps == 600
    assert model.policy.optimizer.timescale.value == CHANGES["gravity"].timescale
    last = log.rows[-1]
    assert {"env/gravity", "env/length", "env/masscart", "env/timescale", "rollout/ep_rew_mean"} <= last.keys()
    assert last["env/gravity"] == inner.parameters["gravity"]
    assert last["env/regime"] == inner.regime.max() if isinstance(inner.regime, np.ndarray) else inner.regime
    assert last["curriculum/stage"] == 1.0


def test_callback_with_independent_clocks_logs_the_changes():
    env = DummyVecEnv([lambda i=i: NonStationary(gym.make("CartPole-v1"), CHANGES, env_index=i) for i in range(2)])
    model, log = A2C("MlpPolicy", env, seed=0), Kept()
    model.set_logger(Logger(None, [log]))
    model.learn(100, callback=ChangeCallback(), log_interval=1)
    assert log.rows[-1]["env/gravity"] == pytest.approx(np.mean([one.parameters["gravity"] for one in env.envs]))
    with pytest.raises(
        ValueError, match=naming("ChangeCallback", "rl_rms.envs.NonStationary", "rl_rms.sb3.make_vec_env")
    ):
        A2C("MlpPolicy", "CartPole-v1").learn(10, callback=ChangeCallback())


def test_callback_logs_parameters_that_only_some_environments_change():
    each = [{"gravity": 9.0, "length": 0.5}, {"length": 0.7}]
    env = DummyVecEnv([lambda own=own: NonStationary(gym.make("CartPole-v1"), own) for own in each])
    model, log = A2C("MlpPolicy", env, seed=0), Kept()
    model.set_logger(Logger(None, [log]))
    model.learn(20, callback=ChangeCallback(), log_interval=1)
    assert log.rows[-1]["env/gravity"] == 9.0
    assert log.rows[-1]["env/length"] == pytest.approx(0.6)


def changing():
    return NonStationary(gym.make("CartPole-v1"), CHANGES)


def still():
    return gym.make("CartPole-v1")


def test_callback_reads_only_attributes_that_workers_have():
    """A worker of SubprocVecEnv ends if it is asked for a missing attribute."""
    matched = {"optimizer_class": rl_rms.RMSprop, "optimizer_kwargs": {"half_life": "match"}}
    env = SubprocVecEnv([changing] * 2)
    model = A2C("MlpPolicy", env, seed=0, policy_kwargs=matched)
    model.learn(40, callback=[HalfLifeCallback(), ChangeCallback()])
    assert model.policy.optimizer.timescale.value == 2 * CHANGES["gravity"].timescale
    env.close()
    env = SubprocVecEnv([still] * 2)
    model = A2C("MlpPolicy", env, seed=0, policy_kwargs={"optimizer_class": rl_rms.RMSprop})
    model.learn(40, callback=HalfLifeCallback("4_000 steps"))
    assert model.policy.optimizer.half_life == 400.0
    with pytest.raises(
        ValueError, match=naming("ChangeCallback", "rl_rms.envs.NonStationary", "rl_rms.sb3.make_vec_env")
    ):
        model.learn(40, callback=ChangeCallback())
    env.close()


def test_matched_half_life_follows_the_timescale_of_a_curriculum():
    levels = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]
    env = make_vec_env("CartPole-v1", 2, curriculum=Staged(levels, threshold=0, window=4))
    matched = {"optimizer_class": rl_rms.RMSprop, "optimizer_kwargs": {"half_life": "match"}}
    model = A2C("MlpPolicy", env, seed=0, policy_kwargs=matched)
    model.learn(600, callback=HalfLifeCallback())
    inner = env.unwrapped.env
    assert inner.curriculum.stage == 2
    assert model.policy.optimizer.timescale.value == pytest.approx(inner.timescale, rel=0.1)


def test_vec_env_works_under_other_wrappers():
    env = VecFrameStack(VecNormalize(make_vec_env("CartPole-v1", 2, CHANGES)), 2)
    A2C("MlpPolicy", env, seed=0).learn(50)
    assert env.get_attr("clock")[0] == 50
    observed = make_vec_env("FrozenLake-v1", 2, {"success_rate": 0.5}, observe=["params", "change"])
    model = A2C("MultiInputPolicy", observed, seed=0).learn(50)
    mean, _ = evaluate_policy(model, observed, n_eval_episodes=4)
    assert 0 <= mean <= 1


def test_vec_env_state_continues_exactly():
    ours, loaded = (make_vec_env("Pendulum-v1", 2, {"g": Redraw(5, 15, every=70)}, seed=3) for _ in range(2))
    random = np.random.default_rng(0)
    for env in (ours, loaded):
        env.seed(1)
        env.reset()
    for _ in range(130):
        ours.step(random.uniform(-2, 2, (2, 1)).astype(np.float32))
    state = json.loads(json.dumps(ours.unwrapped.env.state_dict()))
    loaded.unwrapped.env.load_state_dict(state)
    again = copy.deepcopy(random)
    for _ in range(200):
        ours_now, loaded_now = (
            env.step(one.uniform(-2, 2, (2, 1)).astype(np.float32))
            for env, one in ((ours, random), (loaded, again))
        )
        for one, other in zip(ours_now[:3], loaded_now[:3], strict=True):
            assert np.array_equal(one, other)


def test_reset_options_set_the_clock():
    env = make_vec_env("CartPole-v1", 2, CHANGES)
    env.set_options({"rl_rms.clock": 50})
    env.reset()
    assert env.get_attr("clock") == [50, 50]
    env.reset()
    env.set_options([{"rl_rms.clock": 50}, {"rl_rms.clock": 60}])
    with pytest.raises(ValueError, match=naming("sub-environments", "options")):
        env.reset()


def test_loaded_model_with_a_seed_begins_at_the_clock_of_the_options(tmp_path):
    env = make_vec_env("CartPole-v1", 2, CHANGES)
    A2C("MlpPolicy", env, seed=0).learn(50).learn(50).save(tmp_path / "model")
    assert env.get_attr("clock") == [100, 100]
    loaded = A2C.load(tmp_path / "model", env)
    env.set_options({"rl_rms.clock": 100})
    loaded.learn(50)
    assert env.get_attr("clock") == [150, 150]
    A2C.load(tmp_path / "model", env).learn(50)
    assert env.get_attr("clock") == [50, 50]


def test_get_images_returns_those_of_the_sub_environments():
    env = make_vec_env("CartPole-v1", 2, render_mode="rgb_array")
    env.reset()
    assert [image.shape for image in env.get_images()] == [(400, 600, 3)] * 2
    assert env.render_mode == "rgb_array"


def test_vec_env_of_another_autoreset_mode_raises():
    with pytest.raises(ValueError, match=naming("AutoresetMode.NEXT_STEP")):
        NonStationaryVecEnv(make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match=naming("vectorization_mode", "sync", "async", "'native'")):
        make_vec_env("CartPole-v1", 2, vectorization_mode="native")
