"""An environment that is saved, pickled or copied in the middle of an episode goes on exactly."""

import copy
import json
import pickle
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import NonStationary, NonStationaryVector, make_vec, register_state, replay
from rl_rms.envs.curricula import DomainRandomization, Staged
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.schedules import AdversarialBurst, Redraw, Sinusoid
from tests.naming import mentions, naming

with warnings.catch_warnings():
    # Raised as an error, what Box2D's binding warns of ends the interpreter.
    warnings.simplefilter("ignore")
    import gymnasium.envs.box2d

STAGES = [{"length": 1.0}, {"length": 0.5}, {"length": 0.2}]
WORLDS = {
    "CartPole-v1": {"gravity": Sinusoid(9.8, 3.0, period=100), "observation.noise": 0.1},
    "Acrobot-v1": {"LINK_MASS_2": Redraw(low=0.5, high=1.5, every=37)},
    "MountainCar-v0": {"force": Redraw(low=0.0005, high=0.002, every=37)},
    "MountainCarContinuous-v0": {"power": Redraw(low=0.0005, high=0.002, every=37)},
    "Pendulum-v1": {"g": Redraw(low=5.0, high=15.0, every=37), "action.delay": 2.0},
    "FrozenLake-v1": {"success_rate": Sinusoid(0.6, 0.3, period=50)},
    "CliffWalking-v1": {"reward.scale": Redraw(values=[1.0, 10.0], every=20)},
    max(id for id in gym.registry if id.startswith("Taxi-v")): {"reward.noise": 0.1},
    "Blackjack-v1": {"reward.scale": Redraw(values=[1.0, 10.0], every=20)},
    "LunarLander-v3": {"gravity": Sinusoid(-8.0, 2.0, period=100)},
    "BipedalWalker-v3": {"gravity": Redraw(low=-12.0, high=-8.0, every=100)},
    "Hopper-v5": {"friction": Redraw(low=0.5, high=2.0, every=60), "gravity": Sinusoid(-9.81, 2.0, period=100)},
    "HalfCheetah-v5": {"mass.torso": Redraw(low=4.0, high=8.0, every=60)},
    "Ant-v5": {"friction": Redraw(low=0.5, high=2.0, every=60)},
}


def live(env, steps, seed):
    """All that an environment shows under random actions, single or vector."""
    random, seen = np.random.default_rng(seed), []
    space = env.action_space
    for _ in range(steps):
        if hasattr(space, "n"):
            action = int(random.integers(space.n))
        elif hasattr(space, "nvec"):
            action = random.integers(space.nvec)
        else:
            action = random.uniform(space.low, space.high).astype(space.dtype)
        *transition, info = env.step(action)
        seen.append((*transition, info["rl_rms.regime"], env.clock, dict(env.parameters)))
        done = np.logical_or(transition[2], transition[3])
        if not isinstance(env, NonStationaryVector) and done:
            seen.append(env.reset()[0])
        elif (
            isinstance(env, NonStationaryVector)
            and env.metadata["autoreset_mode"].value == "Disabled"
            and done.any()
        ):
            seen.append(env.reset(options={"reset_mask": done})[0])
    return seen


def same(one, other):
    return len(one) == len(other) and all(
        data_equivalence(a, b, exact=True) for a, b in zip(one, other, strict=True)
    )


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


@pytest.mark.slow
@pytest.mark.parametrize("id", WORLDS)
def test_it_goes_on_for_a_thousand_steps(id):
    env = NonStationary(gym.make(id), WORLDS[id], seed=3)
    env.reset(seed=1)
    live(env, 777, seed=0)
    loaded = NonStationary(gym.make(id), WORLDS[id], seed=5)
    loaded.reset(seed=9)
    live(loaded, 50, seed=4)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert data_equivalence(loaded.last_observation, env.last_observation, exact=True)
    twins = [loaded, pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    with env.frozen(clock=5):
        env.reset(seed=4)
        live(env, 60, seed=8)
    seen = live(env, 1_000, seed=1)
    for twin in twins:
        assert same(live(twin, 1_000, seed=1), seen)


VECTORS = {
    "native": {},
    **{
        f"{how} {mode}": {"vectorization_mode": how, "vector_kwargs": {"autoreset_mode": mode}}
        for how in ("sync", "async")
        for mode in ("NextStep", "SameStep", "Disabled")
    },
}
WITH = {
    "independent": {"sharing": "independent", "observe": "params"},
    "phase": {"sharing": "phase", "observe": ["change", "time"]},
    "curriculum": {"curriculum": Staged(STAGES, threshold=20, window=5)},
    "adversary": {"force_mag": AdversarialBurst(10.0, 5.0, 15.0, threshold=20, duration=50, window=5)},
}


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("kind", WITH)
def test_so_do_vectors_of_them(vector, kind):
    if kind == "curriculum" and vector == "async SameStep":
        pytest.skip("its workers begin episodes on their own")

    def make():
        arguments = copy.deepcopy(WITH[kind])
        burst = arguments.pop("force_mag", None)
        changes = WORLDS["CartPole-v1"] | ({} if burst is None else {"force_mag": burst})
        return make_vec("CartPole-v1", 3, changes, seed=3, **VECTORS[vector], **arguments)

    env, loaded = make(), make()
    env.reset(seed=1)
    live(env, 157, seed=0)
    state = through_json(env.state_dict())
    loaded.reset(seed=5)
    live(loaded, 33, seed=2)
    loaded.load_state_dict(state)
    assert data_equivalence(loaded.last_observations, env.last_observations, exact=True)
    with env.frozen(clock=7):
        env.reset(seed=9)
        live(env, 30, seed=5)
    assert same(live(loaded, 150, seed=1), live(env, 150, seed=1))
    assert through_json(env.state_dict()) == through_json(loaded.state_dict())
    env.close()
    loaded.close()


@pytest.mark.parametrize("vector", ["sync NextStep", "async NextStep"])
@pytest.mark.parametrize("id", ["LunarLander-v3", "Hopper-v5", "Pendulum-v1"])
def test_vectors_of_all_engines_do(vector, id):
    env, loaded = (make_vec(id, 2, WORLDS[id], seed=3, sharing="independent", **VECTORS[vector]) for _ in range(2))
    env.reset(seed=1)
    live(env, 130, seed=0)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(live(loaded, 300, seed=1), live(env, 300, seed=1))
    env.close()
    loaded.close()


@pytest.mark.parametrize("vector", ["sync NextStep", "async NextStep"])
def test_an_episode_that_is_over_begins_anew_in_the_next_step_after_loading_too(vector):
    env, loaded = (make_vec("CartPole-v1", 2, {"gravity": 9.8}, seed=3, **VECTORS[vector]) for _ in range(2))
    env.reset(seed=1)
    while not np.logical_or(*env.step(np.array([1, 0]))[2:4]).any():
        pass
    loaded.load_state_dict(through_json(env.state_dict()))
    theirs, ours = loaded.step(np.array([1, 0])), env.step(np.array([1, 0]))
    assert same([theirs[:4]], [ours[:4]])
    assert (np.abs(theirs[0]) < 0.06).all(axis=1).any()  # where CartPole begins
    assert 0.0 in theirs[1]  # a reset frame pays nothing
    env.close()
    loaded.close()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_after_loading_a_partial_reset_shows_the_others_observations(how):
    env, loaded = (
        make_vec("CartPole-v1", 2, {"gravity": 9.8}, seed=3, **VECTORS[f"{how} Disabled"]) for _ in range(2)
    )
    env.reset(seed=1)
    live(env, 7, seed=0)
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    first = {"reset_mask": np.array([True, False])}
    ours, theirs = (one.reset(options=dict(first))[0] for one in (env, loaded))
    assert np.array_equal(ours, theirs)
    env.close()
    loaded.close()


def test_bipedal_walkers_episodes_do_not_depend_on_those_before():
    """With Gymnasium's own, an environment that has been used goes through the same contacts in another order."""
    seen = []
    for earlier in (0, 3):
        env = NonStationary(gym.make("BipedalWalker-v3"), {"gravity": -10.0})
        env.reset(seed=0)
        for _ in range(earlier):
            live(env, 60, seed=0)
            env.reset()
        env.reset(seed=7)
        seen.append(live(env, 100, seed=1))
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(*seen, strict=True))


class Own(gym.Env):
    """Whose state nobody has registered, with a generator that nobody knows."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    secret = np.random.default_rng(0)
    level = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = self.np_random.normal() if not self.secretive else self.secret.normal()
        return np.array([self.total]), {}

    def __init__(self, secretive=False):
        self.secretive = secretive

    def step(self, action):
        self.total += self.level * (2 * action - 1)
        return np.array([self.total]), 0.0, False, False, {}


def test_an_environment_of_the_users_own_is_lived_through_again_or_registered():
    class Known(Own):
        pass

    register_state(Known, "total")
    sizes = []
    for kind in (Own, Known):
        env, loaded = (
            NonStationary(kind(), {"level": Redraw(low=0.0, high=1.0, every=3)}, seed=0) for _ in range(2)
        )
        env.reset(seed=0)
        live(env, 30, seed=0)
        state = through_json(env.state_dict())
        loaded.load_state_dict(state)
        sizes.append(len(json.dumps(state["environment"])))
        assert same(live(loaded, 30, seed=1), live(env, 30, seed=1))
    assert sizes[1] < sizes[0] / 2


def test_a_state_without_the_episode_keeps_its_task():
    def make():
        curriculum = DomainRandomization({"level": [0.0, 1.0]})
        return NonStationary(Own(), curriculum=curriculum, seed=0)

    env, loaded = make(), make()
    env.reset(seed=0)
    live(env, 3, seed=0)
    before = env.parameters
    env.reset()
    assert env.parameters != before
    loaded.reset(seed=1)
    loaded.load_state_dict(through_json(env.state_dict(environment=False)))
    assert loaded.parameters == env.parameters
    for one in (env, loaded):
        one.reset()
    assert loaded.parameters == env.parameters


def test_generators_of_any_kind_are_kept():
    env, loaded = (NonStationary(gym.make("CartPole-v1")) for _ in range(2))
    for seed, one in enumerate((env, loaded)):
        one.reset(seed=0)
        one.unwrapped.np_random = np.random.Generator(np.random.MT19937(seed))
        live(one, 20, seed=seed)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(live(loaded, 200, seed=5), live(env, 200, seed=5))


def test_one_that_cannot_be_brought_back_says_so():
    class Secretive(Own):
        pass

    with pytest.warns(UserWarning, match=naming("two copies", "seed")):
        env = NonStationary(Secretive(secretive=True), {"level": 1.0})
    env.reset(seed=0)
    env.step(1)
    state = env.state_dict()
    with pytest.warns(UserWarning, match=naming("Secretive", "replay", "not restored exactly")):
        env.load_state_dict(state)


def test_an_episode_that_is_too_long_is_not_kept(monkeypatch):
    monkeypatch.setattr(replay, "LONGEST", 5)
    env = NonStationary(Own(), {"level": 1.0})
    env.reset(seed=0)
    live(env, 5, seed=0)
    assert env.state_dict()["environment"] is not None
    live(env, 1, seed=0)
    with pytest.warns(UserWarning, match=naming("5 env steps", "register_state")):
        assert env.state_dict()["environment"] is None


def test_state_of_a_long_mujoco_episode_stays_small_and_goes_on_exactly():
    env, loaded = (NonStationary(gym.make("HalfCheetah-v5", max_episode_steps=None), {}) for _ in range(2))
    sizes = []
    env.reset(seed=0)
    for _ in range(3):
        live(env, 200, seed=0)
        sizes.append(len(json.dumps(env.state_dict())))
    assert max(sizes) < 1.1 * min(sizes) < 100_000
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(live(loaded, 100, seed=1), live(env, 100, seed=1))


def test_state_of_a_replayed_episode_takes_a_few_bytes_for_each_action():
    class Arm(Own):
        action_space = gym.spaces.Box(-1.0, 1.0, (8,), np.float32)

        def step(self, action):
            self.total += self.level * float(action.sum())
            return np.array([self.total]), 0.0, False, False, {}

    env, loaded = (NonStationary(Arm(), {"level": 1.0}) for _ in range(2))
    env.reset(seed=0)
    live(env, 1_000, seed=0)
    state = through_json(env.state_dict())
    assert len(json.dumps(state)) < 1_000 * 8 * 4 * 1.4 + 5_000
    loaded.load_state_dict(state)
    assert same(live(loaded, 100, seed=1), live(env, 100, seed=1))


def test_workers_that_were_not_made_ready_are_not_kept():
    env = NonStationaryVector(AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2))
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=naming("rl_rms.envs.make_vec")):
        assert env.state_dict()["environment"] is None
    env.close()


def test_states_of_other_worlds_are_refused():
    one, many = NonStationary(gym.make("CartPole-v1")), make_vec("CartPole-v1", 2)
    for env, other in ((one, many), (many, one)):
        with pytest.raises(ValueError, match=naming(type(env).__name__, "state_dict()")):
            env.load_state_dict(other.state_dict())
    one.reset(seed=0)
    wrapped = NonStationary(gym.wrappers.FrameStackObservation(gym.make("CartPole-v1"), 2))
    wrapped.reset(seed=0)
    with pytest.raises(ValueError, match=naming("wrappers", "FrameStackObservation")):
        wrapped.load_state_dict(one.state_dict())
    many.reset(seed=0)
    with pytest.raises(ValueError, match=naming("state", "vectorization_mode", "wrappers")):
        make_vec("CartPole-v1", 2, vectorization_mode="sync").load_state_dict(many.state_dict())


def test_numbers_keep_their_kinds():
    kept = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        3: (np.int64(4), [None, True, "x", 0.1], {"deep": np.float64(1 / 3)}),
    }
    back = decode(through_json(encode(kept)))
    assert back["a"].dtype == np.float32
    assert np.array_equal(back["a"], kept["a"])
    assert back[3] == kept[3]
    assert type(back[3][0]) is np.int64
    wild = (np.array([[np.nan, np.inf], [-np.inf, 0.1]], np.float32), np.float64(np.inf), float("nan"))
    array, number, plain = decode(through_json(encode(wild)))
    assert np.array_equal(array, wild[0], equal_nan=True)
    assert (array.dtype, number) == (np.float32, np.inf)
    assert type(plain) is float
    assert np.isnan(plain)
    with pytest.raises(ValueError, match=naming("type object", "JSON")):
        encode([object()])


def test_a_state_with_other_adversaries_is_refused():
    changes = {"force_mag": AdversarialBurst(10.0, 5.0, 15.0, threshold=20, duration=50)}
    with_one, without = (NonStationary(gym.make("CartPole-v1"), one) for one in (changes, {}))
    for env in (with_one, without):
        env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("adversaries", "['force_mag']", "nothing")):
        without.load_state_dict(with_one.state_dict())


class Drawing(gym.Env):
    """An environment whose random source is not Gymnasium's own."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    kind = np.random.RandomState

    def __init__(self):
        self.np_random = self.kind()

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.np_random = self.kind(seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        return np.array([self.np_random.normal() if self.kind is np.random.RandomState else 0.0])

    def step(self, action):
        self.steps += 1
        return self.observe(), 0.0, False, self.steps == 5, {}


class OtherSource(Drawing):
    kind = random.Random


class Unreadable(Drawing):
    np_random = property(lambda self: self.source, lambda self, source: None)

    def observe(self):
        return np.zeros(1)


def test_snapshot_with_a_random_state_continues_in_a_later_episode():
    env, loaded = (NonStationary(Drawing()) for _ in range(2))
    env.reset(seed=0)
    env.reset()
    live(env, 3, seed=0)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(live(loaded, 30, seed=5), live(env, 30, seed=5))


@pytest.mark.parametrize(("kind", "named"), [(OtherSource, "Random"), (Unreadable, "AttributeError")])
@pytest.mark.parametrize("world", [True, False], ids=["NonStationary", "plain"])
def test_agent_trains_and_saves_where_the_random_source_cannot_be_saved(kind, named, world, tmp_path):
    def make():
        return NonStationary(kind()) if world else kind()

    agent = A2C(make(), seed=0).learn(20)
    with pytest.warns(UserWarning, match=naming(kind.__name__, "np_random", named)):
        path = agent.save(tmp_path / "agent")
    assert A2C.load(path, make()).learn(20).num_timesteps >= 40


def test_snapshot_is_none_where_a_registered_attribute_cannot_be_written():
    class Holder(Own):
        pass

    register_state(Holder, "total")
    env = NonStationary(Holder())
    env.reset(seed=0)
    env.unwrapped.total = object()
    with pytest.warns(UserWarning, match=naming("Holder", "type object")):
        assert env.state_dict()["environment"] is None


def test_native_snapshot_is_none_where_a_registered_attribute_cannot_be_written():
    env = make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.unwrapped.low = object()
    with pytest.warns(UserWarning, match=naming("CartPoleVectorEnv", "type object")):
        assert env.state_dict()["environment"] is None


class Opaque(gym.Wrapper):
    """Holds an object of its own kind."""

    def __init__(self, env):
        super().__init__(env)
        self.holder = object()


def unkept(kind):
    """An environment whose state cannot be kept."""
    if kind == "single":
        env = NonStationary(Unreadable())
    elif kind == "sub-environments":
        env = NonStationaryVector(SyncVectorEnv([Unreadable] * 3))
    elif kind == "wrapped":
        env = make_vec("CartPole-v1", 2, wrappers=[Opaque], vectorization_mode="sync")
    elif kind == "workers":
        env = NonStationaryVector(AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2))
    else:
        env = make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.reset()
    if kind == "native":
        env.unwrapped.low = object()
    return env


@pytest.mark.parametrize("kind", ["single", "sub-environments", "wrapped", "workers", "native"])
def test_state_that_cannot_be_kept_is_warned_of_once_by_each_environment(kind):
    for _ in range(2):
        env = unkept(kind)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3):
                assert env.state_dict()["environment"] is None
        assert len(told) == 1
        env.close()


def test_state_that_is_not_restored_exactly_is_warned_of_once_by_each_environment():
    class Lucky(Own):
        """A random source that no seed governs moves the total."""

        def step(self, action):
            self.total += np.random.default_rng().random()
            return super().step(action)

    for env in (NonStationary(Lucky()), NonStationaryVector(SyncVectorEnv([Lucky] * 3))):
        env.reset(seed=0)
        env.step(env.action_space.sample())
        state = env.state_dict()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                env.load_state_dict(state)
        assert len(caught) == 1
        assert mentions(str(caught[0].message), "Lucky", "not restored exactly")
