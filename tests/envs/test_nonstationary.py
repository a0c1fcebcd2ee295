import copy
import json
import math
import pickle
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.wrappers import NormalizeReward, RescaleObservation
from stable_baselines3 import A2C
from stable_baselines3.common.env_checker import check_env as stable_baselines3_check

from rl_rms.envs import NonStationary
from rl_rms.envs.curricula import Staged
from rl_rms.envs.drift import BLOCK, regime_changes, trace
from rl_rms.envs.schedules import (
    Burst,
    Constant,
    Key,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    RandomWalk,
    Redraw,
    Sinusoid,
    Step,
    Trace,
    stream_of,
)
from tests.envs.schedules.test_base import EVERY
from tests.naming import naming

CHANGES = {
    "gravity": Sinusoid(mean=9.8, amplitude=4, period=300),
    "length": Redraw(low=0.3, high=0.9, every=40),
    "masscart": PoissonJumps(low=0.5, high=2, mean_dwell=25),
    "reward.scale": Step(before=1, after=3, at=60),
    "observation.offset": Redraw(values=[-0.5, 0.5], every=70),
    "action.flip": Step(before=0, after=1, at=90),
}


def cartpole(changes=CHANGES, **kwargs):
    return NonStationary(gym.make("CartPole-v1"), changes, **kwargs)


def play_randomly(env, steps, seed=None):
    """Play random actions for some env steps; return the transitions."""
    env.action_space.seed(5)
    if seed is not None:
        env.reset(seed=seed)
    shown = []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        shown.append((observation.tolist(), reward, terminated, info["rl_rms.regime"], dict(env.parameters)))
        if terminated or truncated:
            env.reset()
    return shown


def test_step_at_a_clock_uses_the_value_of_that_clock(probe):
    env = NonStationary(probe(length=3), {"level": Linear(start=0, end=100, over=100)})
    env.reset(seed=0)
    for clock in range(9):
        assert (env.clock, env.parameters) == (clock, {"level": clock})
        _, reward, terminated, _, _ = env.step(env.action_space.sample())
        assert reward == clock
        assert env.unwrapped.level == env.parameters["level"] == clock + 1
        if terminated:
            env.reset()


@pytest.mark.parametrize("episode_length", [1, 7, 10_000])
def test_drift_with_episodes_of_any_length_is_the_same(probe, episode_length):
    env = NonStationary(probe(length=episode_length), {"level": Linear(start=0, end=40, over=2_000)})
    play_randomly(env, 2_000, seed=0)
    assert env.parameters["level"] == 40


def test_regime_under_poisson_jumps_counts_jumps_at_their_rate(probe):
    env = NonStationary(probe(length=30), {"level": PoissonJumps(low=0, high=1, mean_dwell=100)}, seed=2)
    play_randomly(env, 20_000, seed=0)
    assert env.regime == pytest.approx(200, abs=3 * math.sqrt(200))


def test_step_under_schedules_gives_their_parameters_and_regimes():
    env = cartpole(seed=11, env_index=3)
    shown = play_randomly(env, 500, seed=0)
    traced = trace(CHANGES, np.arange(501), 11, 3)
    events = regime_changes(CHANGES, 0, 500, 11, 3)
    assert {name: env.parameters[name] for name in CHANGES} == {name: traced[name][500] for name in CHANGES}
    for clock, (*_, regime, parameters) in enumerate(shown, start=1):
        assert parameters == {name: values[clock] for name, values in traced.items()}
        assert regime == np.count_nonzero(events <= clock)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_step_with_dynamics_parameters_alone_equals_a_step_with_a_transform(schedule):
    def transitions(changes):
        env, shown = cartpole(changes, seed=3), []

        def play(steps):
            for _ in range(steps):
                observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
                shown.append((observation.tolist(), reward, terminated, truncated, info))
                shown.append((env.clock, env.regime, env.parameters["gravity"], env.unwrapped.gravity))
                assert env.last_observation is observation
                if terminated or truncated:
                    env.reset()

        env.action_space.seed(5)
        env.reset(seed=0, options={"rl_rms.clock": BLOCK - 60})
        play(40)
        with env.frozen():
            play(10)
        play(60)
        env.clock = 10
        play(10)
        env = copy.deepcopy(env)
        play(10)
        return shown

    without = transitions({"gravity": schedule})
    # A transform such as reward.offset makes a step take another path through the code.
    assert without == transitions({"gravity": schedule, "reward.offset": 0.0})
    assert without == transitions({"gravity": schedule, "tau": 0.02})


def test_only_reset_with_a_seed_rewinds_the_clock():
    env = cartpole(seed=1)
    play_randomly(env, 100, seed=0)
    assert env.clock == 100
    _, info = env.reset()
    assert (env.clock, info["rl_rms.regime"]) == (100, env.regime)
    assert env.regime > 3
    _, info = env.reset(seed=0)
    assert (env.clock, info["rl_rms.regime"], env.parameters["reward.scale"]) == (0, 0, 1)


def test_clock_that_is_set_sets_the_parameters(probe):
    env = NonStationary(probe(), {"level": Linear(0, 100, over=100)})
    env.reset(seed=0, options={"rl_rms.clock": 40, "low": 3})
    assert (env.clock, env.unwrapped.level) == (40, 40)
    assert env.unwrapped.options == {"low": 3}
    env.clock = 70
    assert env.step(env.action_space.sample())[1] == 70
    env.reset(options={"rl_rms.clock": 10})
    assert env.clock == 10
    for wrong in (-1, 2.5, "now"):
        with pytest.raises(ValueError, match=naming("clock", ">= 0")):
            env.reset(options={"rl_rms.clock": wrong})
        with pytest.raises(ValueError, match=naming("clock")):
            env.clock = wrong


def test_drift_without_a_seed_of_the_constructor_takes_the_seed_of_reset():
    def lengths(env, seed):
        return [shown[-1]["length"] for shown in play_randomly(env, 100, seed)]

    assert lengths(cartpole(seed=1), 5) == lengths(cartpole(seed=1), 6)
    assert lengths(cartpole(seed=1), 5) != lengths(cartpole(seed=2), 5)
    assert lengths(cartpole(), 1) == lengths(cartpole(seed=1), 5) != lengths(cartpole(), 2)
    assert lengths(cartpole(seed=1), 5) != lengths(cartpole(seed=1, env_index=1), 5)


def test_reset_of_an_unseeded_drift_keeps_its_parameters():
    env = cartpole()
    env.reset()
    before = env.parameters
    env.reset()
    assert env.parameters == before
    assert cartpole().parameters != before


def test_step_under_transforms_changes_rewards_observations_and_actions(probe):
    env = NonStationary(
        probe(),
        {
            "reward.scale": 2.0,
            "reward.offset": 0.5,
            "observation.gain": 10,
            "observation.offset": Step(1, 2, at=2),
            "action.flip": 1,
            "action.gain": 0.5,
        },
    )
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [1, 1]
    observation, reward, *_ = env.step(np.array([1.0, -0.5], np.float32))
    assert (observation.tolist(), reward, observation.dtype) == ([11, 11], 2.5, np.float32)
    assert env.unwrapped.action.tolist() == [-0.5, 0.25]
    # A step uses the values before the clock advances; the next step has the jump.
    assert [env.step(np.zeros(2, np.float32))[0][0] for _ in range(2)] == [21, 32]
    assert env.reset()[0].tolist() == [2, 2]


def test_noise_with_the_same_seed_and_clock_is_the_same(probe):
    changes = {
        "reward.noise": 2.0,
        "observation.noise": 1.0,
        "observation.offsets": 1.0,
        "observation.offsets_draw": Step(0, 1, at=4),
        "action.noise": 0.1,
    }

    def play(env, steps):
        shown = [env.step(np.zeros(2, np.float32))[:2] for _ in range(steps)]
        return [(*observation.tolist(), reward) for observation, reward in shown]

    env = NonStationary(probe(length=100), changes, seed=3)
    env.reset(seed=0)
    shown = play(env, 8)
    assert len({value for one in shown for value in one}) == 24
    env.reset(seed=1)
    assert play(env, 8) == shown
    env.reset(options={"rl_rms.clock": 5})
    assert [reward for *_, reward in play(env, 3)] == [reward for *_, reward in shown[5:]]
    other = NonStationary(probe(length=100), changes, seed=4)
    other.reset(seed=0)
    assert play(other, 8) != shown


def test_noise_has_the_given_standard_deviation(probe):
    env = NonStationary(
        probe(length=10**6),
        {"reward.noise": 3.0, "observation.noise": 2.0, "observation.gain": 0.0, "action.noise": 0.1},
        seed=0,
    )
    env.reset(seed=0)
    rewards, observations, actions = [], [], []
    for _ in range(3_000):
        observation, reward, *_ = env.step(np.zeros(2, np.float32))
        rewards.append(reward - 1)
        observations.append(observation)
        actions.append(env.unwrapped.action)
    for drawn, std in ((rewards, 3), (observations, 2), (actions, 0.1)):
        assert np.mean(drawn) == pytest.approx(0, abs=4 * std / math.sqrt(3_000))
        assert np.std(drawn) == pytest.approx(std, rel=0.05)


def test_offsets_at_each_draw_number_are_drawn_again(probe):
    changes = {"observation.offsets": Step(0, 2, at=1), "observation.offsets_draw": Linear(0, 10, over=10)}
    env = NonStationary(probe(length=100), {**changes, "observation.gain": 0.0}, seed=3)
    assert env.reset(seed=0)[0].tolist() == [0, 0]  # at clock 0, the offsets have the standard deviation 0
    vectors = [tuple(env.step(np.zeros(2, np.float32))[0]) for _ in range(5)]
    assert vectors[0] == (0, 0)
    assert len(set(vectors)) == 5
    with pytest.raises(ValueError, match=naming("nothing", "'observation.offsets'")):
        NonStationary(probe(), {"observation.offsets_draw": 1})


def test_noise_of_discrete_actions_replaces_the_given_share():
    def pushed(share):
        env = cartpole({"action.noise": share}, seed=0)
        inside = env.unwrapped
        sent = []
        step = inside.step
        inside.step = lambda action: sent.append(action) or step(action)
        for _ in range(1_000):
            env.reset()
            env.step(1)
        return sent

    assert set(pushed(0.0)) == {1}
    sent = pushed(0.5)
    assert sent.count(0) == pytest.approx(250, abs=4 * math.sqrt(250))
    assert {type(one) for one in sent} == {int}


def test_delay_is_reset_with_each_episode(probe):
    env = NonStationary(probe(length=4), {"action.delay": 2})
    for _ in range(2):
        env.reset(seed=0)
        carried = []
        for k in range(1, 5):
            env.step(np.full(2, k / 10, np.float32))
            carried.append(round(float(env.unwrapped.action[0]), 3))
        assert carried == [0, 0, 0.1, 0.2]


def test_step_with_a_value_out_of_bounds_raises_value_error():
    env = cartpole({"observation.mask": Linear(0, 2, over=10)})
    env.reset(seed=0, options={"rl_rms.clock": 5})
    with pytest.raises(ValueError, match=naming("observation.mask", "[0, 1]", "1.2")):
        env.step(0)


def test_action_flip_of_one_reverses_the_action():
    def first(action, flip):
        env = cartpole({"action.flip": flip})
        env.reset(seed=0)
        return env.step(action)[0].tolist()

    assert first(0, 1) == first(1, 0) != first(0, 0) == first(1, 1)


def test_observation_space_under_an_observation_offset_is_unbounded():
    inside = RescaleObservation(gym.make("MountainCar-v0"), np.zeros(2, np.float32), np.ones(2, np.float32))
    assert NonStationary(inside, {"gravity": 0.001}).observation_space == inside.observation_space
    moved = NonStationary(inside, {"observation.offset": Constant(3)})
    assert (moved.observation_space.low == -np.inf).all()
    assert (moved.observation_space.high == np.inf).all()
    assert moved.reset(seed=0)[0] in moved.observation_space
    assert moved.reset(seed=0)[0] == pytest.approx(inside.reset(seed=0)[0] + 3)


def test_reset_around_other_wrappers_sets_the_unwrapped_environment():
    env = NonStationary(NormalizeReward(gym.make("CartPole-v1")), {"gravity": 3.0})
    env.reset(seed=0)
    assert env.unwrapped.gravity == 3.0
    assert not any("gravity" in vars(layer) for layer in (env, env.env, env.env.env))


def test_reset_of_an_environment_that_restores_its_values_sets_them_again(probe):
    class Restoring(probe):
        def reset(self, **kwargs):
            self.level = 1.0
            return super().reset(**kwargs)

    env = NonStationary(Restoring(), {"level": 5.0})
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1] == 5.0


def test_reset_of_one_environment_leaves_another_unchanged():
    drifting, still = cartpole({"gravity": 1.0}), gym.make("CartPole-v1")
    drifting.reset(seed=0)
    still.reset(seed=0)
    assert (drifting.unwrapped.gravity, still.unwrapped.gravity) == (1.0, 9.8)


@pytest.mark.parametrize("duplicate", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_copy_gives_the_same_transitions(duplicate):
    env = cartpole(seed=3)
    play_randomly(env, 137, seed=0)
    twin = duplicate(env)
    assert play_randomly(twin, 1_000) == play_randomly(env, 1_000)


def test_copy_of_an_environment_with_its_own_unpickling_has_the_values():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("LunarLander-v3"), {"gravity": Linear(-10, -2, over=10)})
    env.reset(seed=0, options={"rl_rms.clock": 5})
    twin = pickle.loads(pickle.dumps(env))
    assert (twin.clock, twin.unwrapped.gravity, twin.unwrapped.world.gravity[1]) == (5, -6.0, -6.0)


def test_load_state_dict_from_json_gives_the_same_drift():
    env, other = cartpole(seed=3), cartpole()
    play_randomly(env, 137, seed=0)
    state = json.loads(json.dumps(env.state_dict()))
    other.reset(seed=9)
    other.load_state_dict(state)
    assert (other.clock, other.parameters, other.regime) == (env.clock, env.parameters, env.regime)
    assert other.unwrapped.gravity == env.parameters["gravity"]
    for one in (env, other):
        one.reset()
    assert [shown[-2:] for shown in play_randomly(other, 200)] == [shown[-2:] for shown in play_randomly(env, 200)]


def test_timescale_and_schedules_equal_those_of_the_changes():
    assert cartpole().timescale == 25
    assert cartpole({"gravity": 3.0}).timescale == cartpole(None).timescale == math.inf
    assert cartpole().schedules == CHANGES


def test_curriculum_at_each_reset_sets_the_task(probe):
    curriculum = Staged([{"level": 1.0}, {"level": 5.0}], threshold=3.0, window=2)
    env = NonStationary(probe(length=3), {"reward.offset": Step(0, 1, at=100)}, curriculum=curriculum)
    assert (env.parameters["level"], env.curriculum) == (1.0, curriculum)
    env.reset(seed=0)
    rewards, regimes = [], []
    for _ in range(9):
        _, reward, terminated, _, info = env.step(env.action_space.sample())
        rewards.append(reward)
        regimes.append(info["rl_rms.regime"])
        if terminated:
            env.reset()
    assert rewards == [1, 1, 1, 1, 1, 1, 5, 5, 5]
    assert regimes == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert (env.curriculum.stage, env.regime) == (1, 1)
    env.reset(options={"rl_rms.clock": 100})
    assert env.regime == 2

    other = NonStationary(probe(length=3), {"reward.offset": 0.0}, curriculum=Staged(curriculum.stages, 3.0, 2))
    other.reset(seed=0)
    other.load_state_dict(json.loads(json.dumps(env.state_dict())))
    assert (other.curriculum.stage, other.parameters["level"], other.clock) == (1, 5.0, 100)
    with pytest.raises(ValueError, match=naming("with a curriculum")):
        NonStationary(probe()).load_state_dict(env.state_dict())


def test_curriculum_does_not_count_an_episode_that_the_user_cut_short(probe):
    curriculum = Staged([{"level": 1.0}, {"level": 5.0}], threshold=3.0, window=1)
    env = NonStationary(probe(length=3), curriculum=curriculum)
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
        env.step(env.action_space.sample())
        env.reset()
    assert curriculum.stage == 0


def test_constructor_with_a_target_of_both_changes_and_curriculum_raises_value_error():
    with pytest.raises(ValueError, match=naming("'length'", "changes", "curriculum")):
        cartpole(curriculum=Staged([{"length": 1.0}], threshold=1))


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"seed": -1}, ("seed", ">= 0", "-1")),
        ({"env_index": 0.5}, ("env_index", ">= 0", "0.5")),
        ({"changes": {"gravity": "fast"}}, ("changes.gravity", "schedule")),
    ],
)
def test_constructor_with_a_wrong_argument_names_it(kwargs, said):
    with pytest.raises(ValueError, match=naming(*said)):
        cartpole(**kwargs)


@pytest.mark.parametrize("check", [gymnasium_check, stable_baselines3_check])
@pytest.mark.parametrize("seed", [None, 4])
def test_checkers_give_the_same_warnings_as_for_the_inner_environment(check, seed):
    def complaints(env):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check(env, skip_render_check=True)
        # One of the warnings contains the repr of the environment.
        return {re.sub(r"<.*>", "<env>", str(one.message)) for one in caught}

    assert complaints(cartpole(seed=seed)) <= complaints(gym.make("CartPole-v1"))


def test_make_from_the_spec_gives_the_same_transitions():
    env = cartpole(seed=3)
    again = gym.make(env.spec)
    assert [shown[1:] for shown in play_randomly(again, 50, seed=0)] == [
        shown[1:] for shown in play_randomly(env, 50, seed=0)
    ]


def test_stable_baselines3_learning_advances_the_clock():
    env = cartpole(seed=0)
    A2C("MlpPolicy", env, seed=0).learn(100)
    assert env.clock == 100


class OwnKeys(gym.Wrapper):
    """An environment whose info entries and reset options have rl_rms's names without the prefix ``rl_rms.``."""

    def reset(self, *, seed=None, options=None):
        observation, info = self.env.reset(seed=seed)
        return observation, {**info, "regime": "mine", "restarted": "mine", "clock": dict(options or {})["clock"]}

    def step(self, action):
        *transition, info = self.env.step(action)
        return *transition, {**info, "regime": "mine", "restarted": "mine"}


def test_info_keys_and_reset_options_of_the_environment_are_passed_on():
    env = NonStationary(OwnKeys(gym.make("CartPole-v1")), {"gravity": 9.0})
    _, info = env.reset(seed=0, options={"clock": "noon", "rl_rms.clock": 7})
    assert (info["regime"], info["restarted"], info["clock"], info["rl_rms.regime"]) == ("mine", "mine", "noon", 0)
    assert env.clock == 7
    info = env.step(0)[-1]
    assert (info["regime"], info["restarted"], info["rl_rms.regime"]) == ("mine", "mine", 0)


@pytest.mark.parametrize("reward", [None, "1", np.ones(1), np.ones(())])
def test_reward_that_is_no_number_is_named_under_reward_drift(reward):
    class Odd(gym.Wrapper):
        def step(self, action):
            observation, _, *rest = self.env.step(action)
            return observation, reward, *rest

    env = NonStationary(Odd(gym.make("CartPole-v1", disable_env_checker=True)), {"reward.scale": 2.0})
    env.reset(seed=0)
    if isinstance(reward, np.ndarray) and reward.shape == ():
        assert env.step(0)[1] == 2.0
        return
    with pytest.raises(ValueError, match=naming("reward")):
        env.step(0)


def play(changes, steps, policy_seed):
    """Parameters and regimes before each step and after the last, under a random policy."""
    env = NonStationary(gym.make("CartPole-v1"), changes, seed=0)
    env.action_space.seed(policy_seed)
    _, info = env.reset(seed=policy_seed)
    parameters, regimes = [env.parameters], [info["rl_rms.regime"]]
    episodes = 0
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        parameters.append(env.parameters)
        regimes.append(info["rl_rms.regime"])
        if terminated or truncated:
            episodes += 1
            env.reset()
    env.close()
    assert episodes > 10
    return parameters, regimes


@pytest.mark.parametrize("policy_seed", [0, 1])
def test_parameter_with_regular_increments_counts_them_across_episodes(policy_seed):
    stairs = PiecewiseConstant([(50 * step, 9.8 + step) for step in range(41)])
    parameters, regimes = play({"gravity": stairs}, 2_000, policy_seed)
    assert parameters[-1]["gravity"] - parameters[0]["gravity"] == pytest.approx(40)
    assert [one["gravity"] for one in parameters[::50]] == pytest.approx([9.8 + step for step in range(41)])
    assert regimes[::50] == list(range(41))


@pytest.mark.parametrize("policy_seed", [0, 1])
def test_poisson_events_in_20000_steps_have_their_rate(policy_seed):
    # The count is Poisson, with the mean 200 and the standard deviation 14.
    _, regimes = play({"gravity": PoissonJumps(low=5, high=15, mean_dwell=100)}, 20_000, policy_seed)
    assert regimes[-1] == pytest.approx(200, abs=3 * 200**0.5)


def test_drift_is_independent_of_other_targets():
    changes = {
        "gravity": RandomWalk(9.8, std=0.1, low=5, high=15),
        "length": OrnsteinUhlenbeck(0.5, 0.05, tau=500).clip(low=0.1),
        "masspole": Markov([0.1, 0.5], mean_dwell=300) * Burst(1, 2, duration=20, rate=0.01),
        "force_mag": Trace([10, -10, 5], every=100, end="repeat"),
    }
    parameters, regimes = play(changes, 6_000, policy_seed=0)
    jumps = set()
    for target, schedule in changes.items():
        key = Key(0, stream_of(target))
        assert [one[target] for one in parameters] == schedule.values(np.arange(6_001), key).tolist()
        jumps |= set(schedule.events(0, 6_000, key).tolist())
    assert regimes == [sum(jump <= t for jump in jumps) for t in range(6_001)]
