"""Sub-environments that fail, in this process; tests/envs/test_worker_faults.py has those in workers."""

import warnings
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import NonStationary, faults, make_vec
from rl_rms.envs.faults import Checked, EnvError, Fault, Watch, broken_in, check_observation, watch
from rl_rms.envs.schedules import Linear
from tests.faulty import Faulty, fail_in_the_third_step

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
KEYED = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})


def vector(*envs):
    return SyncVectorEnv([lambda kind=kind: Faulty(**kind) for kind in envs])


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (BOX, np.zeros(3, np.float32)),
        (BOX, np.full(3, 9.0)),  # out of bounds, and of another kind that is cast safely enough
        (BOX, [0, 0, 0]),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2, np.uint8)),
        (spaces.Discrete(3), 2),
        (spaces.Discrete(3), np.int64(2)),
        (spaces.Discrete(3, start=5), np.array(7)),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2])),
        (spaces.MultiBinary(2), np.array([True, False])),
        (KEYED, {"a": np.zeros(3), "b": 0, "more": None}),
        (spaces.Tuple((BOX, spaces.Discrete(3))), (np.zeros(3), 1)),
        (spaces.Text(3), "abc"),
    ],
)
def test_observations_that_are_let_through(space, observation):
    check_observation(space, observation)


@pytest.mark.parametrize(
    ("space", "observation", "sentence"),
    [
        (BOX, np.zeros(1, np.float32), r"observation must have shape \(3,\), .* got shape \(1,\)"),
        (BOX, np.zeros((3, 1)), r"must have shape \(3,\), .* got shape \(3, 1\)"),
        (BOX, None, "must have shape .* got NoneType None"),
        (BOX, [[0], [0, 1], 2], r"must have shape .* got list \[\[0\], \[0, 1\], 2\]"),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2), "must be of dtype uint8, .* got float64"),
        (BOX, np.zeros(3, complex), "must be of dtype float32, .* got complex128"),
        (spaces.Discrete(3), 3, r"observation must be one of Discrete\(3\), got int 3"),
        (spaces.Discrete(3), 1.0, "must be of dtype int64, .* got float64"),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 3]), "must be one of MultiDiscrete"),
        (KEYED, {"a": np.zeros(3)}, "observation must be of Dict"),
        (KEYED, {"a": np.zeros(2), "b": 0}, r"observation\['a'\] must have shape \(3,\)"),
        (spaces.Tuple((BOX, BOX)), (np.zeros(3),), "observation must be of Tuple"),
        (spaces.Tuple((BOX, BOX)), [np.zeros(3)] * 2, "observation must be of Tuple"),
    ],
)
def test_observations_that_are_refused(space, observation, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_observation(space, observation)


class Told(gym.Env):
    """Returns what it is told to."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def __init__(self, reset=(0, {}), step=(0, 1.0, False, False, {})):
        self.results = reset, step

    def reset(self, *, seed=None, options=None):
        return self.results[0]

    def step(self, action):
        return self.results[1]


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            (0, 1.0, False, {}),
            r"step\(\) must return \(observation, reward, terminated, truncated, info\), got tup",
        ),
        (None, r"step\(\) must return .* got NoneType None"),
        ((3, 1.0, False, False, {}), "observation must be one of"),
        ((0, None, False, False, {}), "reward must be a number, got NoneType None"),
        ((0, np.ones(2), False, False, {}), "reward must be a number, got ndarray"),
        ((0, "1", False, False, {}), "reward must be a number, got str '1'"),
        ((0, 1.0, 0.5, False, {}), "terminated must be True or False, got float 0.5"),
        ((0, 1.0, False, None, {}), "truncated must be True or False, got NoneType None"),
        ((0, 1.0, False, False, None), "info must be a dictionary, got NoneType None"),
    ],
)
def test_steps_that_are_refused(step, sentence):
    with pytest.raises(ValueError, match=sentence):
        Checked(Told(step=step)).step(0)


@pytest.mark.parametrize("reward", [1, 1.0, np.float32(1.0), np.int8(1), np.array(1.0)])
@pytest.mark.parametrize("over", [True, np.True_, np.array(True)])
def test_steps_that_are_let_through(reward, over):
    step = (0, reward, over, False, {})
    assert Checked(Told(step=step)).step(0) == step


@pytest.mark.parametrize("reset", [0, (0, {}, 1)])
def test_resets_that_are_refused(reset):
    with pytest.raises(ValueError, match=r"reset\(\) must return \(observation, info\), got"):
        Checked(Told(reset=reset)).reset()


def test_an_error_says_who_and_what():
    counts = Watch(4)
    counts.seed([10, 11, None, 13])
    error = ZeroDivisionError("nothing left")
    with pytest.raises(EnvError) as raised:
        counts.meet({1: Fault("it broke", error)})
    raised.value.when = " in step 3"
    mend = "mend the environment, or have it made anew each time with on_env_error='restart'"
    assert str(raised.value) == f"sub-environment 1 (seed 11) failed in step 3: it broke; {mend}"
    assert raised.value.__cause__ is error
    with pytest.raises(EnvError, match=r"^sub-environments 2 and 3 \(seeds none and 13\) failed: it broke; mend"):
        counts.meet({2: Fault("it broke"), 3: Fault("it broke")})


def test_restarts_are_counted_and_given_up():
    counts = Watch(3)
    counts.on_error = "restart"
    counts.seed([10, None, 12])
    for number in range(1, faults.MOST_IN_A_ROW + 1):
        with pytest.warns(UserWarning, match=rf"sub-environment 0 \(seed \d+\) .* made anew \(restart {number}"):
            counts.meet({0: Fault("it broke")})
    assert counts.restarts == [5, 0, 0]
    assert counts.seeds[0] != 10
    with pytest.raises(EnvError, match="sub-environment 0 .* made anew 5 times in a row without one good step"):
        counts.meet({0: Fault("it broke"), 1: Fault("it broke")})
    again = Watch(3)
    again.load_state_dict(counts.state_dict())
    again.in_a_row[0] = 0
    again.on_error = "restart"
    with pytest.warns(UserWarning, match="restart 6"):
        again.meet({0: Fault("it broke")})
    assert again.seeds[0] not in (10, counts.seeds[0])


@pytest.mark.parametrize(
    ("how", "problem"),
    [("raise", "RuntimeError: the motor burnt .*faulty.py, line"), ("shape", "ValueError: observation must")],
)
def test_a_fault_here_is_told_of(how, problem):
    env = vector({}, {"how": how, "at": 3}, {})
    watch(env)
    assert isinstance(fail_in_the_third_step(env, problem).__cause__, (RuntimeError, ValueError))


@pytest.mark.parametrize("how", ["raise", "shape"])
def test_the_others_go_on_beside_one_that_is_made_anew(how):
    plain, env = vector({}, {}, {}), vector({}, {"how": how, "at": 3}, {})
    watch(env, "restart")
    shown, whole = [env.reset(seed=7)[0]], [plain.reset(seed=7)[0]]
    told = []
    for t in range(9):
        whole.append(plain.step(np.zeros(3, int))[0])
        if t in (2, 6):  # the new one fails in its third step, too
            with pytest.warns(UserWarning, match=r"sub-environment 1 \(seed \d+\) failed and is made anew"):
                transition = env.step(np.zeros(3, int))
        else:
            transition = env.step(np.zeros(3, int))
        shown.append(transition[0])
        told.append((transition[3][1], "rl_rms.restarted" in transition[4]))
    others = [0, 2]
    assert np.array_equal(np.array(shown)[:, others], np.array(whole)[:, others])
    # Steps 1, 2, then the new one's beginning, its reset frame, and so on.
    assert np.array(shown)[:, 1, 0].tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 0, 1]
    assert told == [(t in (2, 6),) * 2 for t in range(9)]


def test_the_world_goes_on_around_one_that_is_made_anew():
    changes = {"reward.scale": Linear(0.0, 100.0, over=100)}
    env = make_vec("Faulty-v0", 2, changes, seed=0, vectorization_mode="sync", at=3)
    watch(env, "restart")
    env.reset(seed=0)
    rewards = []
    for t in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if t == 2 else "error")
            rewards.append(env.step(np.zeros(2, int))[1].tolist())
    # Both fail in their third step, which is no transition and does not move the clock, nor does the reset frame.
    assert rewards == [[0, 0], [2, 2], [0, 0], [0, 0], [4, 4], [6, 6]]
    assert env.clock == 8


def test_a_reset_that_fails_is_tried_again_in_a_new_one():
    env = vector({}, {"at_reset": 2})
    watch(env, "restart")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"sub-environment 1 \(seed 1\) failed and is made anew"):
        observations, infos = env.reset()
    assert observations[:, 0].tolist() == [0, 0]
    assert infos["rl_rms.restarted"].tolist() == [False, True]
    hopeless = vector({"at_reset": 1})
    watch(hopeless, "restart")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(EnvError, match="made anew 5 times in a row"):
            hopeless.reset(seed=0)


class Varied(gym.Env):
    """Observations of a space's samples, info that comes and goes, episodes of 3 steps."""

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
def test_watching_changes_nothing_that_is_seen(space, mode, copy):
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

    def make():
        return SyncVectorEnv([lambda: Varied(deepcopy(space))] * 3, autoreset_mode=mode, copy=copy)

    watched = make()
    watch(watched)
    assert data_equivalence(play(watched), play(make()))
    assert any("final_obs" in seen[-1] for seen in play(watched)) == (mode == "SameStep")


def test_ended_episodes_have_to_be_begun_where_nothing_else_begins_them():
    env = SyncVectorEnv([Faulty] * 2, autoreset_mode="Disabled")
    watch(env)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros(2, int))
    with pytest.raises(
        ResetNeeded, match=r"of sub-environments 0 and 1 are over and autoreset is disabled: begin"
    ):
        env.step(np.zeros(2, int))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match="of sub-environments 1 are over"):
        env.step(np.zeros(2, int))


@pytest.mark.parametrize("mask", [np.ones(2), np.ones(3, bool), np.zeros(2, bool)])
def test_wrong_reset_masks_are_refused(mask):
    env = vector({}, {})
    watch(env)
    with pytest.raises(
        ValueError, match=r'options\["reset_mask"\] must be an array of bool, shape \(2,\), with one'
    ):
        env.reset(options={"reset_mask": mask})


def test_as_many_actions_as_sub_environments_are_needed():
    env = vector({}, {})
    watch(env)
    env.reset(seed=0)
    for actions in (np.zeros(1, int), np.zeros(3, int)):
        with pytest.raises(ValueError, match=r"zip\(\) argument 2 is (longer|shorter) than argument 1"):
            env.step(actions)


def test_wrong_seeds_are_refused():
    env = vector({}, {})
    watch(env)
    env.reset(seed=np.int64(3))
    assert env.fault_watch.seeds == [3, 4]
    env.reset(seed=[None, 9])
    assert env.fault_watch.seeds == [3, 9]
    with pytest.raises(ValueError, match="seed must be one, or one for each of 2 sub-environments, got 3"):
        env.reset(seed=[1, 2, 3])


def test_those_of_make_vec_can_be_made_anew_by_any_gymnasium(monkeypatch):
    def wrapped(env):
        return gym.wrappers.TransformReward(env, lambda reward: 3.0 * reward)

    make = gym.make_vec

    def make_vec_before(*args, **kwargs):
        env = make(*args, **kwargs)
        env.unwrapped.env_fns = iter(())
        return env

    monkeypatch.setattr(gym, "make_vec", make_vec_before)
    env = make_vec("Faulty-v0", 2, vectorization_mode="sync", wrappers=[wrapped], at=2)
    watch(env, "restart")
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]
    with pytest.warns(UserWarning, match="is made anew"):
        env.step(np.zeros(2, int))
    env.step(np.zeros(2, int))
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]


def test_good_steps_make_hope():
    env = vector({"at": 2})
    watch(env, "restart")
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(30):
            env.step(np.zeros(1, int))
    assert env.fault_watch.restarts == [10]


def test_watching_twice_is_watching_once():
    env = vector({})
    counts = watch(env, "restart")
    assert watch(env) is counts
    assert counts.on_error == "restart"
    assert watch(env, "raise").on_error == "raise"
    assert isinstance(env.envs[0], Faulty)


def test_what_cannot_be_made_anew_is_refused():
    native = gym.make_vec("CartPole-v1", 2)
    assert watch(native) is None
    with pytest.raises(ValueError, match="needs sub-environments that can be made anew one by one, which Cart"):
        watch(native, "restart")
    with pytest.raises(ValueError, match="env_timeout needs sub-environments in workers, .* got SyncVectorEnv"):
        watch(vector({}), timeout=1.0)
    changing = SyncVectorEnv([lambda: NonStationary(Faulty(), {"level": 2.0})])
    with pytest.raises(ValueError, match="cannot be with sub-environments that change each by itself"):
        watch(changing, "restart")
    forgetful = vector({})
    forgetful.env_fns = iter(())
    with pytest.raises(
        ValueError, match="needs the functions that made the sub-environments, which gymnasium.make"
    ):
        watch(forgetful, "restart")
    limited = AsyncVectorEnv([Faulty, Faulty])
    limited.max_concurrency = 1  # an argument since Gymnasium 1.4
    with pytest.raises(ValueError, match="on_env_error='restart' cannot be with max_concurrency"):
        watch(limited, "restart")
    limited.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_make_vec_reset_without_info_raises_a_named_error(mode):
    spec = gym.envs.registration.EnvSpec(
        "Old-v0", lambda: Told(reset=0), disable_env_checker=True, order_enforce=False
    )
    env = make_vec(spec, 2, vectorization_mode=mode)
    watch(env)
    with pytest.raises(EnvError, match=r"reset\(\) must return \(observation, info\), got int 0"):
        env.reset(seed=0)
    env.close()


def test_learn_own_info_key_restarted_loses_no_transition():
    env = SyncVectorEnv([lambda: Told(step=(0, 1.0, False, True, {"restarted": True}))])
    trained = A2C(env, n_steps=4, on_env_error="restart", seed=0).learn(8)
    assert {one.ret for one in trained.episodes} == {1.0}
    assert len(trained.episodes) >= 4
    assert broken_in(env.step(np.zeros(1, np.int64))[4], np.ones(1, np.bool_)) is None
