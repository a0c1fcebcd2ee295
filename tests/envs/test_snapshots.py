"""Environments that are saved, pickled or copied within an episode continue exactly."""

import copy
import pickle
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import NonStationary, NonStationaryVector, make_vec, register_state
from rl_rms.envs.curricula import DomainRandomization, Staged
from rl_rms.envs.schedules import AdversarialBurst, Redraw, Sinusoid
from tests.envs.lives import Own, play, same, through_json
from tests.naming import mentions, naming

with warnings.catch_warnings():
    # If pytest raised this warning of Box2D's binding as an error, the interpreter would end.
    warnings.simplefilter("ignore")
    import gymnasium.envs.box2d

STAGES = [{"length": 1.0}, {"length": 0.5}, {"length": 0.2}]
CHANGES = {
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


@pytest.mark.slow
@pytest.mark.parametrize("id", CHANGES)
def test_load_of_a_snapshot_continues_exactly_for_a_thousand_steps(id):
    env = NonStationary(gym.make(id), CHANGES[id], seed=3)
    env.reset(seed=1)
    play(env, 777, seed=0)
    loaded = NonStationary(gym.make(id), CHANGES[id], seed=5)
    loaded.reset(seed=9)
    play(loaded, 50, seed=4)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert data_equivalence(loaded.last_observation, env.last_observation, exact=True)
    twins = [loaded, pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    with env.frozen(clock=5):
        env.reset(seed=4)
        play(env, 60, seed=8)
    seen = play(env, 1_000, seed=1)
    for twin in twins:
        assert same(play(twin, 1_000, seed=1), seen)


@pytest.mark.parametrize("id", ["CartPole-v1", "Hopper-v5"])
def test_load_of_a_snapshot_before_the_first_reset_continues_exactly(id):
    env = NonStationary(gym.make(id), CHANGES[id], seed=3)
    env.reset(seed=1)
    play(env, 5, seed=0)
    loaded = NonStationary(gym.make(id), CHANGES[id], seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 100, seed=1), play(env, 100, seed=1))


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
def test_load_of_a_vector_snapshot_continues_exactly(vector, kind):
    if kind == "curriculum" and vector == "async SameStep":
        pytest.skip("workers with SameStep autoreset begin episodes before the curriculum chooses their tasks")

    def make():
        arguments = copy.deepcopy(WITH[kind])
        burst = arguments.pop("force_mag", None)
        changes = CHANGES["CartPole-v1"] | ({} if burst is None else {"force_mag": burst})
        return make_vec("CartPole-v1", 3, changes, seed=3, **VECTORS[vector], **arguments)

    env, loaded = make(), make()
    env.reset(seed=1)
    play(env, 157, seed=0)
    state = through_json(env.state_dict())
    loaded.reset(seed=5)
    play(loaded, 33, seed=2)
    loaded.load_state_dict(state)
    assert data_equivalence(loaded.last_observations, env.last_observations, exact=True)
    with env.frozen(clock=7):
        env.reset(seed=9)
        play(env, 30, seed=5)
    assert same(play(loaded, 150, seed=1), play(env, 150, seed=1))
    assert through_json(env.state_dict()) == through_json(loaded.state_dict())
    env.close()
    loaded.close()


@pytest.mark.parametrize("vector", ["sync NextStep", "async NextStep"])
@pytest.mark.parametrize("id", ["LunarLander-v3", "Hopper-v5", "Pendulum-v1"])
def test_load_of_a_vector_snapshot_of_every_engine_continues_exactly(vector, id):
    env, loaded = (
        make_vec(id, 2, CHANGES[id], seed=3, sharing="independent", **VECTORS[vector]) for _ in range(2)
    )
    env.reset(seed=1)
    play(env, 130, seed=0)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 300, seed=1), play(env, 300, seed=1))
    env.close()
    loaded.close()


@pytest.mark.parametrize("vector", ["sync NextStep", "async NextStep"])
def test_load_of_an_ended_episode_resets_in_the_next_step(vector):
    env, loaded = (make_vec("CartPole-v1", 2, {"gravity": 9.8}, seed=3, **VECTORS[vector]) for _ in range(2))
    env.reset(seed=1)
    while not np.logical_or(*env.step(np.array([1, 0]))[2:4]).any():
        pass
    loaded.load_state_dict(through_json(env.state_dict()))
    theirs, ours = loaded.step(np.array([1, 0])), env.step(np.array([1, 0]))
    assert same([theirs[:4]], [ours[:4]])
    # The reset frame has an initial observation of CartPole and the reward 0.
    assert (np.abs(theirs[0]) < 0.06).all(axis=1).any()
    assert 0.0 in theirs[1]
    env.close()
    loaded.close()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_load_then_a_partial_reset_keeps_the_other_observations(how):
    env, loaded = (
        make_vec("CartPole-v1", 2, {"gravity": 9.8}, seed=3, **VECTORS[f"{how} Disabled"]) for _ in range(2)
    )
    env.reset(seed=1)
    play(env, 7, seed=0)
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    first = {"reset_mask": np.array([True, False])}
    ours, theirs = (one.reset(options=dict(first))[0] for one in (env, loaded))
    assert np.array_equal(ours, theirs)
    env.close()
    loaded.close()


def test_load_without_the_episode_keeps_the_task():
    def make():
        curriculum = DomainRandomization({"level": [0.0, 1.0]})
        return NonStationary(Own(), curriculum=curriculum, seed=0)

    env, loaded = make(), make()
    env.reset(seed=0)
    play(env, 3, seed=0)
    before = env.parameters
    env.reset()
    assert env.parameters != before
    loaded.reset(seed=1)
    loaded.load_state_dict(through_json(env.state_dict(environment=False)))
    assert loaded.parameters == env.parameters
    for one in (env, loaded):
        one.reset()
    assert loaded.parameters == env.parameters


def test_load_restores_random_generators_of_every_type():
    env, loaded = (NonStationary(gym.make("CartPole-v1")) for _ in range(2))
    for seed, one in enumerate((env, loaded)):
        one.reset(seed=0)
        one.unwrapped.np_random = np.random.Generator(np.random.MT19937(seed))
        play(one, 20, seed=seed)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 200, seed=5), play(env, 200, seed=5))


def test_load_of_the_state_of_another_environment_raises():
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


def test_load_with_other_adversaries_raises():
    changes = {"force_mag": AdversarialBurst(10.0, 5.0, 15.0, threshold=20, duration=50)}
    with_one, without = (NonStationary(gym.make("CartPole-v1"), one) for one in (changes, {}))
    for env in (with_one, without):
        env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("adversarial_burst", "['force_mag']", "no target")):
        without.load_state_dict(with_one.state_dict())


class Drawing(gym.Env):
    """An environment whose ``np_random`` is not a ``numpy.random.Generator``."""

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
    play(env, 3, seed=0)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 30, seed=5), play(env, 30, seed=5))


@pytest.mark.parametrize(("kind", "named"), [(OtherSource, "Random"), (Unreadable, "AttributeError")])
@pytest.mark.parametrize("is_wrapped", [True, False], ids=["NonStationary", "plain"])
def test_agent_trains_and_saves_with_an_unserializable_random_generator(kind, named, is_wrapped, tmp_path):
    def make():
        return NonStationary(kind()) if is_wrapped else kind()

    agent = A2C(make(), seed=0).learn(20)
    with pytest.warns(UserWarning, match=naming(kind.__name__, "np_random", named)):
        path = agent.save(tmp_path / "agent")
    assert A2C.load(path, make()).learn(20).num_timesteps >= 40


class Coin(Own):
    """An environment with a second random generator."""

    def __init__(self):
        super().__init__()
        self.source = random.Random(0)

    def step(self, action):
        self.total += self.source.random()
        return super().step(action)


def test_snapshot_with_registered_functions_continues_exactly():
    register_state(
        Coin,
        "total",
        get=lambda env: env.source.getstate(),
        set=lambda env, value: env.source.setstate(value),
    )
    for wrap in (NonStationary, lambda env: NonStationaryVector(SyncVectorEnv([lambda: env]))):
        env, loaded = wrap(Coin()), wrap(Coin())
        env.reset(seed=0)
        loaded.reset(seed=1)
        play(env, 10, seed=0)
        loaded.load_state_dict(through_json(env.state_dict()))
        assert same(play(loaded, 30, seed=5), play(env, 30, seed=5))


@pytest.mark.parametrize(("given", "missing"), [("get", "set"), ("set", "get")])
def test_register_state_with_one_function_names_the_other(given, missing):
    with pytest.raises(ValueError, match=naming(f"{missing}=None")):
        register_state(Own, **{given: print})


def test_snapshot_with_an_unserializable_attribute_is_none():
    class Holder(Own):
        pass

    register_state(Holder, "total")
    env = NonStationary(Holder())
    env.reset(seed=0)
    env.unwrapped.total = object()
    with pytest.warns(UserWarning, match=naming("Holder", "type object")):
        assert env.state_dict()["environment"] is None


class Opaque(gym.Wrapper):
    """A wrapper with an attribute that cannot be saved."""

    def __init__(self, env):
        super().__init__(env)
        self.holder = object()


def unkept(kind):
    """An environment whose state cannot be saved."""
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
def test_unserializable_state_gives_one_warning_per_environment(kind):
    for _ in range(2):
        env = unkept(kind)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                assert env.state_dict()["environment"] is None
        assert len(caught) == 1
        env.close()


def test_inexact_restoration_gives_one_warning_per_environment():
    class Lucky(Own):
        """An environment whose transitions depend on an unseeded random generator."""

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
