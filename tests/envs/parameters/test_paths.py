from enum import Enum

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import AcrobotEnv

from rl_rms.envs import make_vec
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import find_parameter
from rl_rms.envs.parameters.paths import AttributePath
from rl_rms.envs.schedules import Linear, Redraw
from tests.envs.parameters.typed import Typed
from tests.naming import naming


class Inner:
    def __init__(self):
        self.numbers, self.frozen, self.name = [1.0, [2.0, 3.0]], (4.0, 5.0), "inner"
        self._vector = np.array([6.0, 7.0])

    @property
    def vector(self):
        return self._vector.copy()  # as in Box2D

    @vector.setter
    def vector(self, vector):
        self._vector = vector

    shape = property(lambda self: self._vector.size)


@pytest.mark.parametrize(
    "path", ["inner.numbers[0]", "inner.numbers[1][-1]", "inner.vector[1]", "inner._vector[0]", "array[2]"]
)
def test_path_of_any_number_reads_and_writes_it(probe, path):
    env = probe()
    env.inner, env.array = Inner(), np.arange(3.0)
    parameter = find_parameter(env, path)
    assert parameter.value(env) == {"[0]": 1.0, "][-1]": 3.0, "r[1]": 7.0, "array[2]": 2.0}.get(
        path.removeprefix("inner.numbers").removeprefix("[1").removeprefix("inner.vecto"), 6.0
    )
    parameter.setter(env)(9.5)
    assert parameter.value(env) == 9.5
    assert find_parameter(env, path) == parameter


def test_path_of_a_dictionary_key_reads_and_writes_its_value(probe):
    env = probe()
    env.config = {"reward": -1, "cars": [{"speed": 2.0}], "items": 3.0}
    for path, value in (("config.reward", -2), ("config.cars[0].speed", 5.5), ("config.items", 4.0)):
        parameter = find_parameter(env, path)
        parameter.setter(env)(float(value))
        assert parameter.value(env) == value
    assert env.config == {"reward": -2, "cars": [{"speed": 5.5}], "items": 4.0}
    assert type(env.config["reward"]) is int


def test_path_into_a_list_or_array_of_a_class_changes_only_the_environment(probe):
    class Shared(probe):
        numbers, array = [1.0, [2.0]], np.zeros(2)

    env, other = Shared(), Shared()
    for path in ("numbers[1][0]", "array[1]"):
        parameter = find_parameter(env, path)
        parameter.setter(other)(5.0)
        assert (parameter.value(env), parameter.value(other)) == (2.0 if path[0] == "n" else 0.0, 5.0)
    assert (Shared.numbers, Shared.array.tolist()) == ([1.0, [2.0]], [0.0, 0.0])
    for mode in ("sync", "native"):
        make_vec("Acrobot-v1", 2, {"AVAIL_TORQUE[0]": -2.0}, vectorization_mode=mode)
    assert AcrobotEnv.AVAIL_TORQUE == [-1.0, 0.0, 1.0]


def test_path_of_a_missing_dictionary_key_raises(probe):
    env = probe()
    env.config = {"reward": 1.0}
    with pytest.raises(ValueError, match=naming("Probe", "'config'", "'rewards'")):
        find_parameter(env, "config.rewards")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "inner.nombres[0]",
            ("Probe", "'inner.nombres[0]'", "'inner'", "Inner", "'nombres'"),
        ),
        ("inner.numbers[7]", ("'inner.numbers'", "'[7]'")),
        ("later.mass", ("'later'", "NoneType", "'mass'", "reset")),
        (
            "inner.numbers[1]",
            ("number", "list", "'inner.numbers[1][0]'"),
        ),
        ("inner.name", ("number", "str")),
        ("inner.frozen[0]", ("'inner.frozen[0]'", "Probe", "read-only")),
        ("inner.shape", ("'inner.shape'", "Probe", "read-only")),
    ],
)
def test_path_without_a_number_raises(probe, path, said):
    env = probe()
    env.inner, env.later = Inner(), None
    with pytest.raises(ValueError, match=naming(*said)):
        find_parameter(env, path)


@pytest.mark.parametrize("path", ["inner", "outer.mass", "a..b", "level[", "1level", ""])
def test_path_that_begins_with_no_attribute_is_none(probe, path):
    env = probe()
    env.inner = Inner()
    assert find_parameter(env, path) is None


def test_path_through_objects_replaced_by_reset_is_resolved_again():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("LunarLander-v3"), {"world.gravity[0]": 1.5})
    for seed in (0, 1):
        env.reset(seed=seed)
        assert tuple(env.unwrapped.world.gravity) == (1.5, -10.0)


@pytest.mark.parametrize(
    ("path", "value", "right"),
    [
        ("n", 4.0, 4),
        ("flag", 1.0, True),
        ("small", 5.0, np.int8(5)),
        ("single", 0.25, np.float32(0.25)),
        ("scalar", 7.0, np.array(7, dtype=np.int16)),
        ("counts[1]", 6.0, np.int32(6)),
        ("table[0]", 2.0, 2),
        ("table[1]", 0.0, False),
    ],
)
def test_attribute_keeps_its_own_type(path, value, right):
    env = NonStationary(Typed(), {path: value})
    env.reset(seed=0)
    env.step(0)
    found = AttributePath(path).get(env.unwrapped)
    assert (type(found), found) == (type(right), right)
    assert np.asarray(found).dtype == np.asarray(right).dtype


@pytest.mark.parametrize(
    ("path", "value", "needed"),
    [
        ("n", 2.5, ("int", "whole number")),
        ("n", np.inf, ("int", "whole number")),
        ("flag", 0.5, ("bool", "0 or 1")),
        ("small", 128.0, ("int8", "whole number")),
        ("scalar", 1.5, ("ndarray", "whole number", "int16")),
        ("counts[0]", 1.5, ("int32", "whole number")),
        ("table[1]", 2.0, ("bool", "0 or 1")),
    ],
)
def test_value_that_does_not_fit_the_type_raises(path, value, needed):
    env = Typed()
    with pytest.raises(ValueError, match=naming(f"'{path}'", "Typed", *needed, str(value), "schedule")):
        find_parameter(env, path).setter(env)(value)


def test_continuous_schedule_of_an_integer_stops_at_the_first_fraction():
    env = NonStationary(Typed(), {"n": Linear(start=3.0, end=5.0, over=4)})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("'n'", "Typed", "3.5", "3.0")):
        env.step(0)


class Mode(Enum):
    SLOW = "slow"
    FAST = "fast"


class Gear(Enum):
    FIRST = 10
    SECOND = 20


class Switched(gym.Env):
    """An environment whose rewards depend on a bool and two enumerations."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(2)

    def __init__(self):
        self.flag, self.mode, self.gear = False, Mode.SLOW, Gear.FIRST

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return (
            0,
            float(self.flag) + 2 * (self.mode is Mode.FAST) + 4 * (self.gear is Gear.SECOND),
            False,
            False,
            {},
        )


@pytest.mark.parametrize(
    ("name", "values", "both"),
    [
        ("flag", [False, True], {False, True}),
        ("mode", [Mode.SLOW, Mode.FAST], set(Mode)),
        ("mode", [0, 1], set(Mode)),
        ("gear", list(Gear), set(Gear)),
        ("gear", [10, 20], set(Gear)),
    ],
)
def test_redraw_of_bools_and_enumerations_sets_members(name, values, both):
    env = NonStationary(Switched(), {name: Redraw(values=values, every=1)}, seed=0)
    env.reset(seed=0)
    seen = set()
    for _ in range(20):
        env.step(0)
        seen.add(getattr(env.unwrapped, name))
    assert seen == both
    assert {type(one) for one in seen} == {type(one) for one in both}


def test_value_outside_of_an_enumeration_raises():
    env = Switched()
    with pytest.raises(ValueError, match=naming("'gear'", "Switched", "FIRST", "SECOND", "15")):
        find_parameter(env, "gear").setter(env)(15.0)


def test_enumeration_without_effect_raises():
    class Indifferent(Switched):
        def step(self, action):
            return 0, 0.0, False, False, {}

    with pytest.raises(ValueError, match=naming("'gear'", "Indifferent", "20", "10")):
        NonStationary(Indifferent(), {"gear": 20})
