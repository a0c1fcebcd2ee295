import warnings
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import SyncVectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import EnvError, NonStationary, ResilientSyncVectorEnv, make_vec
from rl_rms.envs.resilience import set_reaction
from rl_rms.envs.schedules import Linear
from tests.faulty import Faulty, fail_in_the_third_step
from tests.naming import naming

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
KEYED = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})


def vector(*kinds, on_env_error="raise"):
    make = [lambda kind=kind: Faulty(**kind) for kind in kinds]
    return ResilientSyncVectorEnv(make, on_env_error=on_env_error)


@pytest.mark.parametrize(
    ("how", "problem"),
    [("raise", "RuntimeError: the motor burnt .*faulty.py, line"), ("shape", "ValueError: observation must")],
)
def test_step_fault_raises_an_error_with_number_seed_and_cause(how, problem):
    env = vector({}, {"how": how, "at": 3}, {})
    assert isinstance(fail_in_the_third_step(env, problem).__cause__, (RuntimeError, ValueError))


@pytest.mark.parametrize("how", ["raise", "shape"])
def test_step_restart_does_not_affect_other_sub_environments(how):
    plain, env = vector({}, {}, {}), vector({}, {"how": how, "at": 3}, {}, on_env_error="restart")
    shown, whole = [env.reset(seed=7)[0]], [plain.reset(seed=7)[0]]
    flags = []
    for t in range(9):
        whole.append(plain.step(np.zeros(3, int))[0])
        if t in (2, 6):  # the old and the new environment fail in their third step
            with pytest.warns(UserWarning, match=naming("sub-environment 1", "seed", "restarted")):
                transition = env.step(np.zeros(3, int))
        else:
            transition = env.step(np.zeros(3, int))
        shown.append(transition[0])
        flags.append((transition[3][1], "rl_rms.restarted" in transition[4]))
    others = [0, 2]
    assert np.array_equal(np.array(shown)[:, others], np.array(whole)[:, others])
    # Steps 1 and 2, then the reset and the reset frame of the new environment, and so on.
    assert np.array(shown)[:, 1, 0].tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 0, 1]
    assert flags == [(t in (2, 6),) * 2 for t in range(9)]


def test_step_restart_of_all_does_not_advance_the_clock():
    changes = {"reward.scale": Linear(0.0, 100.0, over=100)}
    env = make_vec("Faulty-v0", 2, changes, seed=0, vectorization_mode="sync", at=3)
    set_reaction(env, "restart")
    env.reset(seed=0)
    rewards = []
    for t in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if t == 2 else "error")
            rewards.append(env.step(np.zeros(2, int))[1].tolist())
    # Both sub-environments fail in their third step. Neither the failed step nor the reset frame is a transition,
    # so neither advances the clock.
    assert rewards == [[0, 0], [2, 2], [0, 0], [0, 0], [4, 4], [6, 6]]
    assert env.clock == 8


def test_reset_fault_restarts_or_raises_after_five_in_a_row():
    env = vector({}, {"at_reset": 2}, on_env_error="restart")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=naming("sub-environment 1", "seed 1", "restarted")):
        observations, infos = env.reset()
    assert observations[:, 0].tolist() == [0, 0]
    assert infos["rl_rms.restarted"].tolist() == [False, True]
    hopeless = vector({"at_reset": 1}, on_env_error="restart")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(EnvError, match=naming("restarted 5 times")):
            hopeless.reset(seed=0)


class Varied(gym.Env):
    """Episodes that are truncated after 2 steps, with sampled observations and changing info keys."""

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {"begun": True, "options": str(options)}

    def step(self, action):
        self.count += 1
        info = {"sum": action.sum(), "deep": {"count": self.count}} if self.np_random.random() < 0.5 else {}
        return self.observation_space.sample(), float(action[0]), self.count == 3, self.count == 2, info


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(
    "space",
    [
        BOX,
        spaces.Box(-1.0, 1.0, (), np.float32),
        spaces.Box(0, 255, (2, 3, 4), np.uint8),
        spaces.Discrete(3),
        KEYED,
        spaces.Tuple((BOX, spaces.Discrete(3))),
        spaces.Text(3),
    ],
)
def test_step_and_reset_equal_those_of_gymnasium(space, mode, copy):
    def play(env):
        env.action_space.seed(0)
        seen = [env.reset(seed=7)]
        for _ in range(10):
            transition = env.step(env.action_space.sample())
            seen.append(transition)
            over = transition[2] | transition[3]
            if mode == "Disabled" and over.any():
                seen.append(env.reset(options={"reset_mask": over, "level": 3}))
            if not copy:
                seen = [*seen[:-1], (deepcopy(seen[-1][0]), *seen[-1][1:])]
        return seen

    def make(kind):
        return kind([lambda: Varied(deepcopy(space))] * 3, autoreset_mode=mode, copy=copy)

    env = make(ResilientSyncVectorEnv)
    assert data_equivalence(play(env), play(make(SyncVectorEnv)))
    assert any("final_obs" in seen[-1] for seen in play(env)) == (mode == "SameStep")


def test_step_without_autoreset_after_an_end_raises_reset_needed():
    env = ResilientSyncVectorEnv([Faulty] * 2, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(2, int))
    with pytest.raises(ResetNeeded, match=naming("sub-environments 0 and 1", "autoreset")):
        env.step(np.zeros(2, int))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=naming("sub-environments 1", "autoreset")):
        env.step(np.zeros(2, int))


@pytest.mark.parametrize("mask", [np.ones(2), np.ones(3, bool), np.zeros(2, bool)])
def test_reset_with_a_wrong_mask_raises_value_error(mask):
    env = vector({}, {})
    with pytest.raises(ValueError, match=naming('options["reset_mask"]', "bool", "(2,)")):
        env.reset(options={"reset_mask": mask})


def test_step_with_a_wrong_number_of_actions_raises_value_error():
    env = vector({}, {})
    env.reset(seed=0)
    for actions in (np.zeros(1, int), np.zeros(3, int)):
        with pytest.raises(ValueError, match=r"zip\(\) argument 2 is (longer|shorter) than argument 1"):
            env.step(actions)


def test_reset_seeds_are_recorded_and_checked():
    env = vector({}, {})
    env.reset(seed=np.int64(3))
    assert env.fault_log.seeds == [3, 4]
    env.reset(seed=[None, 9])
    assert env.fault_log.seeds == [3, 9]
    with pytest.raises(ValueError, match=naming("seed", "2 sub-environments", "3")):
        env.reset(seed=[1, 2, 3])


def test_valid_step_resets_the_count_of_restarts_in_a_row():
    env = vector({"at": 2}, on_env_error="restart")
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(30):
            env.step(np.zeros(1, int))
    assert env.fault_log.restarts == [10]


def test_learn_info_key_restarted_of_the_environment_loses_no_transition():
    class Told(Faulty):
        def step(self, action):
            return self.observation(), 1.0, False, True, {"restarted": True}

    trained = A2C(ResilientSyncVectorEnv([Told]), n_steps=4, on_env_error="restart", seed=0).learn(8)
    assert {one.ret for one in trained.episodes} == {1.0}
    assert len(trained.episodes) >= 4


def test_deepcopy_of_a_started_environment_continues_independently():
    env = vector({}, {})
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    copy = deepcopy(env)
    observations = [one.step(np.zeros(2, int))[0] for one in (env, copy)]
    assert np.array_equal(*observations)
    assert observations[0][:, 0].tolist() == [2, 2]


def test_constructor_restart_of_changing_sub_environments_raises_value_error():
    make = [lambda: NonStationary(Faulty(), {"level": 2.0})]
    with pytest.raises(
        ValueError, match=naming("on_env_error='restart'", "NonStationary", 'sharing="independent"')
    ):
        ResilientSyncVectorEnv(make, on_env_error="restart")
