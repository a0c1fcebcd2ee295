import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_rms.envs.checked import Checked, check_observation
from tests.naming import naming

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
KEYED = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (BOX, np.zeros(3, np.float32)),
        (BOX, np.full(3, 9.0)),  # out of bounds, and float64 instead of float32
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
def test_check_observation_of_the_space_passes(space, observation):
    check_observation(space, observation)


@pytest.mark.parametrize(
    ("space", "observation", "sentence"),
    [
        (BOX, np.zeros(1, np.float32), ("observation", "(3,)", "(1,)")),
        (BOX, np.zeros((3, 1)), ("observation", "(3,)", "(3, 1)")),
        (BOX, None, ("observation", "(3,)", "NoneType None")),
        (BOX, [[0], [0, 1], 2], ("observation", "(3,)", "list [[0], [0, 1], 2]")),
        (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2), ("observation", "uint8", "float64")),
        (BOX, np.zeros(3, complex), ("observation", "float32", "complex128")),
        (spaces.Discrete(3), 3, ("observation", "Discrete(3)", "int 3")),
        (spaces.Discrete(3), 1.0, ("observation", "int64", "float64")),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 3]), ("observation", "MultiDiscrete")),
        (KEYED, {"a": np.zeros(3)}, ("observation", "Dict")),
        (KEYED, {"a": np.zeros(2), "b": 0}, ("observation['a']", "(3,)")),
        (spaces.Tuple((BOX, BOX)), (np.zeros(3),), ("observation", "Tuple")),
        (spaces.Tuple((BOX, BOX)), [np.zeros(3)] * 2, ("observation", "Tuple")),
    ],
)
def test_check_observation_of_another_shape_or_type_raises_value_error(space, observation, sentence):
    with pytest.raises(ValueError, match=naming(*sentence)):
        check_observation(space, observation)


class Told(gym.Env):
    """An environment that returns given values."""

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
            ("step()", "(observation, reward, terminated, truncated, info)", "tuple"),
        ),
        (None, ("step()", "NoneType None")),
        ((3, 1.0, False, False, {}), ("observation",)),
        ((0, None, False, False, {}), ("reward", "NoneType None")),
        ((0, np.ones(2), False, False, {}), ("reward", "ndarray")),
        ((0, "1", False, False, {}), ("reward", "str '1'")),
        ((0, 1.0, 0.5, False, {}), ("terminated", "True", "False", "float 0.5")),
        ((0, 1.0, False, None, {}), ("truncated", "True", "False", "NoneType None")),
        ((0, 1.0, False, False, None), ("info", "dictionary", "NoneType None")),
    ],
)
def test_checked_step_that_breaks_the_interface_raises_value_error(step, sentence):
    with pytest.raises(ValueError, match=naming(*sentence)):
        Checked(Told(step=step)).step(0)


@pytest.mark.parametrize("reward", [1, 1.0, np.float32(1.0), np.int8(1), np.array(1.0)])
@pytest.mark.parametrize("over", [True, np.True_, np.array(True)])
def test_checked_step_of_any_number_type_passes(reward, over):
    step = (0, reward, over, False, {})
    assert Checked(Told(step=step)).step(0) == step


@pytest.mark.parametrize("reset", [0, (0, {}, 1)])
def test_checked_reset_that_breaks_the_interface_raises_value_error(reset):
    with pytest.raises(ValueError, match=naming("reset()", "(observation, info)")):
        Checked(Told(reset=reset)).reset()
