import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation, TransformReward

from rl_rms.agents import A2C
from rl_rms.envs.config import EnvConfig
from rl_rms.envs.make import FEWEST_NATIVE, make_from_config, make_vec
from rl_rms.envs.schedules import Redraw, Sinusoid
from tests.naming import naming

STACK = {"FrameStackObservation": {"stack_size": 3}}
STAGED = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400}}


def test_make_from_config_has_the_configured_environment():
    config = EnvConfig(
        id="Pendulum-v1",
        num_envs=3,
        autoreset_mode="SameStep",
        changes={"g": {"redraw": {"low": 1, "high": 9, "every": 10}}},
        sharing="independent",
        kwargs={"render_mode": "rgb_array"},
    )
    env = make_from_config(config, seed=5)
    assert (env.num_envs, env.render_mode, env.metadata["autoreset_mode"].value) == (3, "rgb_array", "SameStep")
    env.reset(seed=0)
    state = env.state_dict()
    assert {name: state[name] for name in ("clocks", "seed", "sharing")} == {
        "clocks": [0, 0, 0],
        "seed": 5,
        "sharing": "independent",
    }
    assert make_from_config(EnvConfig(drift_seed=8), seed=5).state_dict()["seed"] == 8
    assert make_from_config(EnvConfig(curriculum=STAGED), seed=5).curriculum.stage == 0


def test_stacked_frames_show_the_last_observations():
    env = make_from_config(EnvConfig(id="CartPole-v1", num_envs=2, wrappers=[STACK]), seed=0)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.zeros(2, dtype=int))
    assert first.shape == (2, 3, 4)
    assert np.array_equal(second[:, 1], first[:, 2])
    assert not np.array_equal(second[:, 2], second[:, 1])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_wrappers_take_an_id_with_a_module(mode, tmp_path, monkeypatch):
    (tmp_path / "breezy.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Breezy-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = EnvConfig(id="breezy:Breezy-v0", num_envs=2, wrappers=[STACK], vectorization_mode=mode)
    env = make_from_config(config, seed=0)
    assert env.single_observation_space.shape == (3, 4)
    env.close()


def test_make_vec_of_a_task_id_with_a_module_makes_the_task():
    env = make_vec("rl_rms.envs.tasks:rl_rms/DriftingCartPole-v0", 2, seed=0)
    assert set(env.parameters) == set(make_vec("rl_rms/DriftingCartPole-v0", 2, seed=0).parameters)


def test_make_vec_wrappers_of_a_task_are_around_its_drift():
    env = make_vec("rl_rms/DriftingCartPole-v0", 2, wrappers=[STACK], seed=0)
    assert env.parameters
    assert env.single_observation_space.shape == (3, 4)


@pytest.mark.parametrize("name", ["seed", "sharing", "num_envs"])
def test_kwargs_argument_of_make_vec_is_named(name):
    with pytest.raises(ValueError, match=naming("env.kwargs", f"'{name}'", "leave it out")):
        make_from_config(EnvConfig(kwargs={name: 3}), seed=0)


def test_make_vec_wrappers_are_around_the_changing_environment():
    env = make_vec(
        "Pendulum-v1", 2, {"reward.scale": 0.0}, wrappers=[lambda env: TransformReward(env, lambda r: r + 1)]
    )
    assert isinstance(env.unwrapped, SyncVectorEnv)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mode", [None, "sync", "async"])
def test_make_vec_of_a_function_changes_its_environments(mode):
    def make(limit):
        return TransformReward(gym.make("Pendulum-v1", max_episode_steps=limit), lambda _: 1.0)

    env = make_vec(make, 2, {"reward.scale": 3.0}, vectorization_mode=mode, limit=2)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    _, rewards, _, truncated, _ = env.step(env.action_space.sample())
    assert rewards.tolist() == [3.0, 3.0]
    assert truncated.all()
    env.close()


def test_make_vec_function_that_returns_one_environment_raises():
    one = gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match=naming("id", "lambda", "new")):
        make_vec(lambda: one, 2)
    assert make_vec(lambda: one, 1).num_envs == 1


def test_make_vec_with_a_wrong_id_names_it():
    with pytest.raises(TypeError, match=naming("id", "TimeLimit", "lambda")):
        make_vec(gym.make("Pendulum-v1"))
    with pytest.raises(TypeError, match=naming("id", "None")):
        make_vec(lambda: None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"id": "CartPole-v1", "wrappers": ["FlattenObservation"]}, "wrappers"), ({"id": CartPoleEnv}, "function")],
)
def test_make_vec_native_with_wrappers_or_a_function_names_the_modes(arguments, named):
    with pytest.raises(
        ValueError, match=naming("vectorization_mode", "vector_entry_point", named, "sync", "async")
    ):
        make_vec(**arguments, vectorization_mode="vector_entry_point")


@pytest.mark.parametrize(
    ("wrappers", "reward"), [(["double"], 4.0), (["drift", "double"], 4.0), (["double", "drift"], 3.0)]
)
def test_make_vec_drift_is_inside_the_wrappers_or_at_its_position(wrappers, reward):
    def double(env):
        return TransformReward(env, lambda reward: 2 * reward)

    env = make_vec(
        "CartPole-v1", 1, {"reward.offset": 1.0}, wrappers=[double if one == "double" else one for one in wrappers]
    )
    env.reset(seed=0)
    assert env.step(np.array([0]))[1].tolist() == [reward]


def test_make_vec_observe_is_added_outside_the_wrappers():
    wrappers = [STACK, "FlattenObservation"]
    env = make_vec("CartPole-v1", 1, {"gravity": Sinusoid(9.8, 1.0, 100)}, observe="params", wrappers=wrappers)
    assert env.single_observation_space.shape == (3 * 4 + 1,)


@pytest.mark.parametrize("mode", ["native", "vector_entry_point"])
@pytest.mark.parametrize("id", ["Pendulum-v1", "gymnasium:MountainCar-v0", "Acrobot", "CartPole-v1"])
def test_make_vec_with_a_native_mode_makes_a_native_environment(id, mode):
    env = make_vec(id, 2, vectorization_mode=mode)
    assert not isinstance(env.unwrapped, SyncVectorEnv)
    assert env.spec.id.startswith(id.rpartition(":")[2])
    env.reset(seed=0)
    env.step(env.action_space.sample())


@pytest.mark.parametrize(
    ("id", "num_envs", "kwargs", "is_native"),
    [
        ("Pendulum-v1", FEWEST_NATIVE, {}, True),
        ("CartPole-v1", 1, {}, True),
        ("Pendulum-v1", FEWEST_NATIVE - 1, {}, False),
        ("Pendulum-v1", 8, {"vector_kwargs": {"autoreset_mode": "SameStep"}}, False),
        ("Acrobot-v1", 8, {"wrappers": [lambda env: TransformReward(env, float)]}, False),
        (TimeAwareObservation(gym.make("MountainCar-v0")).spec, 8, {}, False),
    ],
)
def test_make_vec_without_a_mode_is_native_if_that_is_faster(id, num_envs, kwargs, is_native):
    assert isinstance(make_vec(id, num_envs, **kwargs).unwrapped, SyncVectorEnv) != is_native


def test_make_vec_native_passes_vector_kwargs():
    kwargs = {"autoreset_mode": "SameStep"}
    env = make_vec("Acrobot-v1", 2, vectorization_mode="native", vector_kwargs=kwargs)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def _truncates_at(id, mode, steps, **kwargs):
    """Return the steps that truncate the first sub-environment's episode, with a registered limit of 7."""
    spec = copy.deepcopy(gym.spec(id))
    spec.max_episode_steps = 7
    env = make_vec(spec, 2, vectorization_mode=mode, **kwargs)
    env.reset(seed=0)
    actions = np.zeros(env.action_space.shape, env.action_space.dtype)
    return [step for step in range(steps) if env.step(actions)[3][0]]


@pytest.mark.parametrize("id", ["Pendulum-v1", "CartPole-v1"])
def test_make_vec_native_has_the_time_limit_of_gymnasium_make(id):
    for kwargs, expected in (({}, [6]), ({"max_episode_steps": None}, [6]), ({"max_episode_steps": 3}, [2, 6])):
        for mode in ("native", "sync"):
            assert _truncates_at(id, mode, 8, disable_env_checker=True, **kwargs) == expected
    assert not any(_truncates_at(id, mode, 9, max_episode_steps=-1) for mode in ("native", "sync"))
    with pytest.raises(ValueError, match=naming("max_episode_steps", ">= 1", "0")):
        make_vec(id, 2, vectorization_mode="native", max_episode_steps=0)


def test_make_vec_native_of_an_environment_without_one_raises_an_error():
    with pytest.raises(gym.error.Error, match="FrozenLake-v1"):
        make_vec("FrozenLake-v1", 2, vectorization_mode="native")


def test_make_vec_indivisible_sub_environments_names_the_numbers():
    with pytest.raises(ValueError, match=naming("num_envs", "3 workers", "8")):
        make_from_config(EnvConfig(num_envs=8), seed=0, shard=(0, 3))


class Camera(gym.Env):
    """An environment whose observations have a gray image and a position."""

    observation_space = gym.spaces.Dict(
        {"image": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), "position": gym.spaces.Box(-1.0, 1.0, (1,))}
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.step(0)[0], {}

    def step(self, action):
        seen = {"image": np.full((8, 8, 3), 100, np.uint8), "position": np.zeros(1, np.float32)}
        return seen, float(action), False, False, {}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_parts_of_observations_change_in_vectors_and_agents_learn(mode):
    noise = Redraw(values=[0.0, 30.0], every=40)
    changes = {"observation.image.noise": noise, "observation.position.offset": 0.5}
    env = make_vec(Camera, 2, changes, vectorization_mode=mode, seed=0)
    seen, _ = env.reset(seed=0)
    assert seen["image"].dtype == np.uint8
    assert seen["position"].tolist() == [[0.5], [0.5]]
    spreads = []
    for _ in range(100):
        seen = env.step(env.action_space.sample())[0]
        assert env.observation_space.contains(seen)
        spreads.append(seen["image"].std())
    assert min(spreads) == 0.0
    assert 20.0 < max(spreads) < 40.0
    assert A2C(env, seed=0).learn(20).num_timesteps >= 20
    env.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_make_from_config_native_environment_takes_the_autoreset_mode(mode):
    config = EnvConfig(id="Pendulum-v1", num_envs=2, vectorization_mode="native", autoreset_mode=mode)
    env = make_from_config(config, seed=0)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)


def test_make_vec_native_environment_without_autoreset_modes_raises():
    with pytest.raises(ValueError, match=naming("CartPole-v1", "autoreset_mode", "SameStep", "sync")):
        make_vec("CartPole-v1", 2, vectorization_mode="native", vector_kwargs={"autoreset_mode": "SameStep"})
