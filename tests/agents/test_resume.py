"""Training runs that are saved, loaded and continued, compared with uninterrupted training runs."""

import itertools
import json
import re
import subprocess
import sys
import warnings
from collections import deque
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.agents import A2C, PPO, MetaConfig, PolicyConfig, Reinforce
from rl_rms.envs import NonStationary, NonStationaryVector, ResilientSyncVectorEnv, make_vec
from rl_rms.envs.config import EnvConfig
from rl_rms.envs.curricula import DomainRandomization, LearningProgress
from rl_rms.envs.make import make_from_config
from rl_rms.envs.schedules import AdversarialBurst, Linear, Redraw, Sinusoid
from tests.naming import naming

with warnings.catch_warnings():
    # If pytest raised this warning of Box2D's binding as an error, the interpreter would end.
    warnings.simplefilter("ignore")
    import gymnasium.envs.box2d


def weights(agent):
    return [one.detach().clone() for one in agent.policy.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def check(make_agent, make_env, path, *, rollouts=6):
    """Compare a training run that continues after saving with one that is loaded from the saved file."""

    def saving(agent):
        if agent.training.num_rollouts == rollouts:
            agent.save(path)
        return agent.training.num_rollouts < 2 * rollouts

    whole = make_agent(make_env()).learn(10**6, callback=saving)
    loaded = type(whole).load(path, env=make_env())
    assert loaded.training.num_rollouts == rollouts
    loaded.learn(10**6, callback=lambda agent: agent.training.num_rollouts < 2 * rollouts)
    assert loaded.num_timesteps == whole.num_timesteps
    assert list(loaded.episodes) == list(whole.episodes)
    assert same(weights(loaded), weights(whole))
    for one, other in zip(loaded.optimizer.state.values(), whole.optimizer.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
    for agent in (loaded, whole):
        agent.env.close()


def a2c(env):
    return A2C(env, seed=0, n_steps=20, normalize_reward=True)


def ppo(env):
    return PPO(env, seed=0, n_steps=20, batch_size=13, n_epochs=2, normalize_reward=True)


def optimistic(env):
    return A2C(env, seed=0, n_steps=20, optimizer_kwargs={"optimism": 1.0, "momentum": -0.3})


def reinforce(env):
    return Reinforce(env, seed=0, normalize_reward=True)


ENVS = {
    "CartPole-v1": {"gravity": Sinusoid(9.8, 3.0, period=500), "observation.noise": 0.05},
    "Pendulum-v1": {"g": Redraw(low=5.0, high=15.0, every=90), "action.delay": 1.0},
    "Hopper-v5": {"friction": Redraw(low=0.5, high=2.0, every=50)},
    "LunarLander-v3": {"gravity": Sinusoid(-8.0, 2.0, period=300)},
}
HOW = {
    "native": {"vectorization_mode": "vector_entry_point"},
    "sync": {"vectorization_mode": "sync"},
    "async": {"vectorization_mode": "async"},
    "same_step": {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "SameStep"}},
    "disabled": {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "Disabled"}},
}


@pytest.mark.parametrize("make_agent", [a2c, ppo, reinforce])
@pytest.mark.parametrize(
    ("id", "how"),
    [("CartPole-v1", how) for how in HOW]
    + [(id, how) for id in ("Pendulum-v1", "Hopper-v5", "LunarLander-v3") for how in ("sync", "async")]
    + [("Pendulum-v1", "native"), ("Hopper-v5", "native")],
)
def test_resume_in_changing_environments_is_bit_identical(id, how, make_agent, tmp_path):
    check(
        make_agent,
        lambda: make_vec(id, 3, ENVS[id], seed=1, **HOW[how]),
        tmp_path / "agent",
        rollouts=3 if make_agent is reinforce else 6,
    )


@pytest.mark.parametrize("make_agent", [a2c, optimistic, reinforce])
@pytest.mark.parametrize("id", ["CartPole-v1", "BipedalWalker-v3"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_resume_in_stationary_environments_is_bit_identical(id, mode, make_agent, tmp_path):
    def make():
        autoreset = gym.vector.AutoresetMode(mode)
        # The state of Box2D in Gymnasium's SyncVectorEnv cannot be saved.
        kind = SyncVectorEnv if id == "CartPole-v1" else ResilientSyncVectorEnv
        return kind([lambda: gym.make(id, max_episode_steps=60)] * 2, autoreset_mode=autoreset)

    check(make_agent, make, tmp_path / "agent", rollouts=4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "CartPole-v1",
        lambda: gym.make("Pendulum-v1"),
        lambda: gym.make_vec("CartPole-v1", 3),
        lambda: NonStationary(gym.make("CartPole-v1"), ENVS["CartPole-v1"], seed=2, observe=["params", "change"]),
        lambda: gym.wrappers.vector.RecordEpisodeStatistics(
            make_vec("CartPole-v1", 2, ENVS["CartPole-v1"], seed=0)
        ),
    ],
)
def test_resume_with_every_input_of_an_agent_is_bit_identical(make, tmp_path):
    check(a2c, make, tmp_path / "agent")


@pytest.mark.parametrize("recurrent", ["none", "gru"])
@pytest.mark.parametrize("fresh", [1, 3])
def test_resume_with_adapted_hyperparameters_is_bit_identical(recurrent, fresh, tmp_path):
    def make_agent(env):
        meta = MetaConfig(adapt=["learning_rate", "half_life", "eps"], window=3, num_eval_rollouts=fresh)
        policy = PolicyConfig(recurrent=recurrent)
        return A2C(env, seed=0, meta=meta, policy=policy, half_life="2_000 steps", normalize_reward=True)

    # The checkpoint is saved within a window of updates, or between the evaluation rollouts after it.
    check(make_agent, lambda: make_vec("CartPole-v1", 3, ENVS["CartPole-v1"], seed=1), tmp_path / "a", rollouts=10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"curriculum": lambda: LearningProgress([{"length": 0.3}, {"length": 0.6}, {"length": 1.0}])},
        {"curriculum": lambda: DomainRandomization({"length": [0.2, 1.0]}), "sharing": "phase"},
        {"observe": ["params", "time", "change"], "sharing": "independent"},
        {"adversary": AdversarialBurst(10.0, 5.0, 15.0, threshold=15, duration=30, window=3)},
    ],
)
def test_resume_with_curricula_adversaries_and_observers_is_bit_identical(arguments, tmp_path):
    def make():
        given = {name: value() if callable(value) else value for name, value in arguments.items()}
        adversary = given.pop("adversary", None)
        changes = {**ENVS["CartPole-v1"], **({} if adversary is None else {"force_mag": adversary})}
        return make_vec("CartPole-v1", 4, changes, seed=1, **given)

    check(a2c, make, tmp_path / "agent", rollouts=10)


@pytest.mark.parametrize(
    "options",
    [
        {"policy": PolicyConfig(recurrent="lstm", recurrent_size=8)},
        {"policy": PolicyConfig(norm="batch")},
        {"normalize_observation": True, "critic_learning_rate": 2e-3, "ent_coef": Linear(0.1, 0.0, over=300)},
        {"normalize_observation": "90 steps", "normalize_reward": 5},
        {"normalize_observation": {"on_jump": "forget"}},
        {"learning_rate": Linear(1e-3, 0.0, over=400), "optimizer": "torch.optim.Adam", "fused": False},
    ],
)
@pytest.mark.parametrize("agent_class", [A2C, partial(PPO, n_steps=20, batch_size=16, n_epochs=2), Reinforce])
def test_resume_with_every_network_and_schedule_is_bit_identical(options, agent_class, tmp_path):
    check(
        lambda env: agent_class(env, seed=0, **options),
        lambda: make_vec("CartPole-v1", 3, ENVS["CartPole-v1"], seed=1),
        tmp_path / "agent",
        rollouts=7,
    )


@pytest.mark.parametrize("on_change", ["reset", "forget"])
def test_resume_with_on_change_is_bit_identical(on_change, tmp_path):
    changes = {"gravity": Redraw(low=5.0, high=15.0, every=60)}
    check(
        lambda env: A2C(env, seed=0, on_change=on_change, forget_updates=3),
        lambda: make_vec("CartPole-v1", 3, changes, seed=1),
        tmp_path / "agent",
        rollouts=30,
    )


def test_resume_with_masks_and_dict_observations_is_bit_identical(tmp_path):
    class Shelves(gym.Env):
        observation_space = gym.spaces.Dict({"at": gym.spaces.Discrete(4), "load": gym.spaces.Box(0, 9, (2,))})
        action_space = gym.spaces.MultiDiscrete([3, 2])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self._tell(), {"action_mask": self._mask()}

        def _tell(self):
            self.at = int(self.np_random.integers(4))
            return {"at": self.at, "load": self.np_random.uniform(0, 9, 2).astype(np.float32)}

        def _mask(self):
            return np.array([1, self.at > 1, 1, 1, self.at < 3], np.int8)

        def step(self, action):
            reward = float(action[0] == self.at % 3)
            return self._tell(), reward, bool(self.np_random.random() < 0.1), False, {"action_mask": self._mask()}

    check(
        lambda env: A2C(env, seed=0, mask_actions=True, normalize_observation=True),
        lambda: ResilientSyncVectorEnv([Shelves] * 2),
        tmp_path / "agent",
        rollouts=9,
    )


@pytest.mark.parametrize("half_life", ["match", "auto", "2_000 steps"])
@pytest.mark.parametrize(
    ("agent_class", "rollouts"), [(A2C, 40), (partial(PPO, n_steps=20, batch_size=12, target_kl=0.02), 6)]
)
def test_resume_with_every_half_life_is_bit_identical(half_life, agent_class, rollouts, tmp_path):
    check(
        lambda env: agent_class(env, seed=0, half_life=half_life),
        lambda: make_vec("CartPole-v1", 4, ENVS["CartPole-v1"], seed=1),
        tmp_path / "agent",
        rollouts=rollouts,
    )


@pytest.mark.slow
def test_resume_in_another_process_is_bit_identical(tmp_path):
    setting = (
        "from rl_rms.agents import A2C\n"
        "from rl_rms.envs import make_vec\n"
        "from rl_rms.envs.schedules import Redraw\n"
        "env = make_vec('Pendulum-v1', 2, {'g': Redraw(low=5.0, high=15.0, every=90)}, seed=0)\n"
        "def until(updates):\n"
        "    return lambda agent: agent.num_updates < updates\n"
        "def show(agent):\n"
        "    print([one.double().sum().item().hex() for one in agent.policy.parameters()], agent.num_timesteps)\n"
    )
    path = str(tmp_path / "agent.safetensors")
    programs = (
        "show(A2C(env, seed=0).learn(10**6, callback=until(30)))",
        f"A2C(env, seed=0).learn(10**6, callback=until(11)).save({path!r})",
        f"show(A2C.load({path!r}, env=env).learn(10**6, callback=until(30)))",
    )
    shown = [
        subprocess.run([sys.executable, "-c", setting + one], capture_output=True, text=True, check=True).stdout
        for one in programs
    ]
    assert shown[0] == shown[2] != ""


def test_save_directly_after_load_gives_the_same_file(tmp_path):
    make = lambda: make_vec("CartPole-v1", 2, ENVS["CartPole-v1"], seed=1)  # noqa: E731
    agent = a2c(make()).learn(200)
    again = A2C.load(A2C.load(agent.save(tmp_path / "one"), env=make()).save(tmp_path / "two"), env=make())
    for one in (agent, again):
        one.learn(200)
    assert same(weights(agent), weights(again))


@pytest.mark.parametrize("recurrent", ["none", "lstm"])
def test_save_after_load_without_an_environment_keeps_the_episodes_in_progress(recurrent, tmp_path):
    agent = A2C(make_vec("CartPole-v1", 2, seed=1), seed=0, policy=PolicyConfig(recurrent=recurrent)).learn(200)
    path = A2C.load(agent.save(tmp_path / "one")).save(tmp_path / "two")
    again = A2C.load(path, env=make_vec("CartPole-v1", 2, seed=1))
    for one in (agent, again):
        one.learn(200)
    assert same(weights(agent), weights(again))


class BlankStart(gym.Wrapper):
    """The first observation of every episode is nan."""

    def reset(self, **options):
        observation, info = super().reset(**options)
        return np.full_like(observation, np.nan), info


def test_resume_counts_no_nonfinite_observation_of_the_reset_before_it(tmp_path):
    make = lambda: ResilientSyncVectorEnv([lambda: BlankStart(gym.make("CartPole-v1"))])  # noqa: E731
    agent = A2C(make(), on_nonfinite="skip", seed=0).learn(200)
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make())
    for one in (agent, loaded):
        one.learn(200)
    assert loaded.num_nonfinite == agent.num_nonfinite > 0
    assert same(weights(loaded), weights(agent))


def test_load_with_another_num_envs_begins_new_episodes_at_the_same_clock(tmp_path):
    for sharing in ("shared", "phase", "independent"):
        agent = a2c(make_vec("CartPole-v1", 2, ENVS["CartPole-v1"], seed=1, sharing=sharing)).learn(200)
        path = agent.save(tmp_path / "agent")
        env = make_vec("CartPole-v1", 5, ENVS["CartPole-v1"], sharing=sharing)
        loaded = A2C.load(path, env=env)
        loaded.prepare()
        assert (env.clock, env.drift_seed) == (agent.session.changing.clock, 1)
        loaded.learn(200)
    plain = a2c(gym.make_vec("CartPole-v1", 2)).learn(200)
    A2C.load(plain.save(tmp_path / "plain"), env=gym.make_vec("CartPole-v1", 5)).learn(200)


def test_load_unrestorable_environment_warns_and_begins_new_episodes(tmp_path):
    env = AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
    agent = a2c(env).learn(100)
    with pytest.warns(UserWarning, match=naming("AsyncVectorEnv", "sub-environments")):
        path = agent.save(tmp_path / "agent")
    env.close()
    loaded = A2C.load(path, env=gym.make_vec("CartPole-v1", 2)).learn(100)
    assert loaded.num_timesteps >= 200
    assert np.isfinite(np.concatenate([one.numpy().ravel() for one in weights(loaded)])).all()


def test_save_several_unrestorable_environments_warns_once(tmp_path):
    def make():
        makers = [
            lambda i=i: NonStationary(gym.make("CartPole-v1"), {"gravity": 5.0}, env_index=i) for i in range(2)
        ]
        return SyncVectorEnv(makers)

    agent = a2c(make()).learn(100)
    with pytest.warns(UserWarning, match=naming("rl_rms.envs.make_vec", 'sharing="independent"')) as caught:
        path, _ = [agent.save(tmp_path / name) for name in ("agent", "again")]
    assert len(caught) == 1
    assert A2C.load(path, env=make()).learn(100).num_timesteps >= 200


class Counting(gym.Wrapper):
    """Rewards and observations depend on state that the wrapper keeps within and across episodes."""

    def __init__(self, env, rate=1e-3):
        super().__init__(env)
        self.rate, self.steps, self.seen, self.rng = rate, 0, deque(maxlen=3), np.random.default_rng(0)
        self.total = {"steps": np.zeros(1)}

    def reset(self, **options):
        self.steps = 0
        return self.env.reset(**options)

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self.total["steps"] += 1
        self.seen.append(float(reward))
        factor = 1 - self.rate * (self.steps + self.total["steps"][0] + sum(self.seen) + self.rng.random())
        return (observation * factor).astype(np.float32), float(reward * factor), terminated, truncated, info


class Opaque(Counting):
    """Keeps its count in an object that cannot be saved."""

    class Count:
        value = 0

    def __init__(self, env):
        super().__init__(env)
        self.count = self.Count()

    def step(self, action):
        self.count.value += 1
        observation, reward, *rest = super().step(action)
        return observation, reward / (1 + self.count.value), *rest


WRAPPERS = {
    "time limit": partial(gym.wrappers.TimeLimit, max_episode_steps=33),
    "frames": partial(gym.wrappers.FrameStackObservation, stack_size=3),
    "delay": partial(gym.wrappers.DelayObservation, delay=2),
    "time": gym.wrappers.TimeAwareObservation,
    "sticky": partial(gym.wrappers.StickyAction, repeat_action_probability=0.3),
    "observations": gym.wrappers.NormalizeObservation,
    "rewards": gym.wrappers.NormalizeReward,
    "statistics": gym.wrappers.RecordEpisodeStatistics,
    "stateless": lambda env: gym.wrappers.TransformReward(env, lambda reward: reward / 2),
    "own": Counting,
}
CHANGES = {"g": Sinusoid(10.0, 3.0, period=500)}


PLACES = ["async", "above a single environment", "inside", "inside a replayed episode"]


@pytest.mark.parametrize(
    ("kind", "where"),
    [*((kind, "sync") for kind in WRAPPERS), *itertools.product(["frames", "own"], PLACES)],
)
def test_resume_stateful_wrapper_saved_within_an_episode_is_exact(kind, where, tmp_path):
    wrap, id = WRAPPERS[kind], "Pendulum-v1"
    if where == "above a single environment":
        make = lambda: wrap(NonStationary(gym.make(id), CHANGES, seed=1))  # noqa: E731
    elif where == "inside":
        make = lambda: NonStationary(wrap(gym.make(id)), CHANGES, seed=1)  # noqa: E731
    elif where == "inside a replayed episode":
        make = lambda: ResilientSyncVectorEnv(  # noqa: E731
            [lambda: wrap(gym.wrappers.TimeLimit(Unregistered(), 200))] * 2
        )
    else:
        make = lambda: make_vec(id, 2, CHANGES, seed=1, wrappers=[wrap], vectorization_mode=where)  # noqa: E731
    for rollouts in (5, 23):
        check(lambda env: A2C(env, seed=0, n_steps=10), make, tmp_path / "agent", rollouts=rollouts)


@pytest.mark.parametrize("kind", ["time limit", "frames", "own"])
@pytest.mark.parametrize("where", ["sync", "async"])
def test_resume_stateful_wrapper_saved_before_a_reset_is_exact(kind, where, tmp_path):
    limit = partial(gym.wrappers.TimeLimit, max_episode_steps=20)

    def make():
        wrappers = [limit, WRAPPERS[kind]] if kind != "time limit" else [limit]
        return make_vec("Pendulum-v1", 2, CHANGES, seed=1, wrappers=wrappers, vectorization_mode=where)

    check(lambda env: A2C(env, seed=0, n_steps=10), make, tmp_path / "agent", rollouts=2)


class Unregistered(PendulumEnv):
    """An environment without a registered state."""


def test_resume_under_vector_wrappers_is_exact(tmp_path):
    def make():
        env = gym.wrappers.vector.NormalizeReward(gym.make_vec("CartPole-v1", 2))
        return gym.wrappers.vector.NormalizeObservation(NonStationaryVector(env, {"gravity": 9.0}, seed=0))

    check(a2c, make, tmp_path / "agent")


def test_load_keeps_the_settings_of_the_new_environments_wrappers(tmp_path):
    make = lambda limit: gym.wrappers.TimeLimit(NonStationary(PendulumEnv()), limit)  # noqa: E731
    agent = A2C(make(50), seed=0).learn(70)
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make(40)).learn(200)
    assert [episode.length for episode in loaded.episodes][1:] == [40] * (len(loaded.episodes) - 1)


@pytest.mark.parametrize("how", ["sync", "async", "single"])
def test_save_wrapper_without_serializable_state_warns_once_and_load_begins_a_new_episode(how, tmp_path):
    if how == "single":
        make = lambda: Opaque(NonStationary(gym.make("Pendulum-v1"), CHANGES, seed=0))  # noqa: E731
    else:
        make = lambda: make_vec(  # noqa: E731
            "Pendulum-v1", 2, CHANGES, seed=0, wrappers=[Opaque], vectorization_mode=how
        )
    agent = a2c(make()).learn(90)
    with pytest.warns(UserWarning, match=naming("state", "Opaque")):
        agent.save(tmp_path / "agent")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = agent.save(tmp_path / "agent")
    loaded = A2C.load(path, env=make())
    loaded.prepare()
    assert not loaded.session.collector.state_dict()["lengths"].any()
    for one in (agent, loaded):
        one.env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("place", ["inside", "outside"])
@pytest.mark.parametrize(
    "wrapper",
    [
        "NormalizeObservation",
        "NormalizeReward",
        "RecordEpisodeStatistics",
        "TimeAwareObservation",
        {"TimeLimit": {"max_episode_steps": 50}},
        {"FrameStackObservation": {"stack_size": 3}},
        {"DelayObservation": {"delay": 2}},
        {"StickyAction": {"repeat_action_probability": 0.3}},
        {"MaxAndSkipObservation": {"skip": 2}},
    ],
    ids=lambda one: one if isinstance(one, str) else next(iter(one)),
)
def test_resume_wrapper_by_name_is_exact(wrapper, place, mode, tmp_path):
    changes = {"g": {"linear": {"start": 8.0, "end": 12.0, "over": 500}}, "reward.scale": 2.0}
    wrappers = [wrapper, "drift"] if place == "inside" else [wrapper]
    config = EnvConfig(
        id="Pendulum-v1", num_envs=2, wrappers=wrappers, changes=changes, vectorization_mode=mode, drift_seed=3
    )
    check(a2c, lambda: make_from_config(config, seed=0), tmp_path / "agent")


def test_resume_sticky_actions_inside_the_drift_of_a_replayed_environment_is_exact(tmp_path):
    wrappers = [{"StickyAction": {"repeat_action_probability": 0.3}}, "drift"]
    check(a2c, lambda: make_vec("LunarLander-v3", 2, {"reward.scale": 2.0}, wrappers=wrappers), tmp_path / "agent")


@pytest.mark.parametrize("is_added", [True, False])
@pytest.mark.parametrize("how", ["plain", "sync", "async", "single", "vector wrapper"])
def test_load_into_other_wrappers_warns_with_their_names_and_begins_new_episodes(how, is_added, tmp_path):
    def make(is_wrapped):
        wrap = gym.wrappers.RecordEpisodeStatistics if is_wrapped else lambda env: env
        if how == "plain":
            return SyncVectorEnv([lambda: wrap(gym.make("Pendulum-v1"))] * 2)
        if how == "single":
            return wrap(NonStationary(gym.make("Pendulum-v1"), CHANGES, seed=1))
        if how == "vector wrapper":
            env = make_vec("Pendulum-v1", 2, CHANGES, seed=1)
            return gym.wrappers.vector.RecordEpisodeStatistics(env) if is_wrapped else env
        return make_vec("Pendulum-v1", 2, CHANGES, seed=1, wrappers=[wrap], vectorization_mode=how)

    agent = a2c(make(not is_added)).learn(90)
    path = agent.save(tmp_path / "agent")
    loaded = A2C.load(path, env=make(is_added))
    with pytest.warns(UserWarning, match="new episodes begin.*RecordEpisodeStatistics") as warned:
        loaded.learn(40)
    assert len(warned) == 1
    if how != "plain":
        assert loaded.session.changing.clock == loaded.num_timesteps
    for one in (agent, loaded):
        one.env.close()


@pytest.mark.parametrize("how", ["plain", "sync", "async"])
def test_load_wrapper_attribute_of_another_type_raises_one_value_error(how, tmp_path, monkeypatch):
    def make():
        if how == "plain":
            return SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 2)
        return make_vec("Pendulum-v1", 2, CHANGES, seed=1, vectorization_mode=how)

    agent = a2c(make()).learn(90)
    state = type(agent.session).state_dict

    def damaged(session):
        place = json.loads(state(session)["place"].numpy().tobytes())
        text = re.sub(r'("_elapsed_steps": {"value": )\d+', r"\1[]", json.dumps(place))
        return {"place": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    monkeypatch.setattr(type(agent.session), "state_dict", damaged)
    path = agent.save(tmp_path / "agent")
    monkeypatch.undo()
    loaded = A2C.load(path, env=make())
    with pytest.raises(ValueError, match=r"_elapsed_steps of TimeLimit .*int.*list \[\]"):
        loaded.learn(40)
    for one in (agent, loaded):
        one.env.close()


@pytest.mark.parametrize("how", ["plain", "sync", "async"])
def test_load_without_a_wrapper_that_has_no_state_continues_the_episodes(how, tmp_path):
    class Silent(gym.Wrapper):
        pass

    def make(wrap):
        if how == "plain":
            return SyncVectorEnv([lambda: wrap(gym.make("Pendulum-v1"))] * 2)
        return make_vec("Pendulum-v1", 2, CHANGES, seed=1, wrappers=[wrap], vectorization_mode=how)

    agent = a2c(make(Silent)).learn(90)
    path = agent.save(tmp_path / "agent")
    loaded = A2C.load(path, env=make(lambda env: env)).learn(90)
    agent.learn(90)
    assert same(weights(agent), weights(loaded))
    for one in (agent, loaded):
        one.env.close()
