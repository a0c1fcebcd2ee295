import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_rms.envs.checked import Checked, check_observation

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
KEYED = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})


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
def test_check_observation_of_the_space_passes(space, observation):
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
def test_check_observation_of_another_shape_or_type_raises_value_error(space, observation, sentence):
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
def test_checked_step_that_breaks_the_interface_raises_value_error(step, sentence):
    with pytest.raises(ValueError, match=sentence):
        Checked(Told(step=step)).step(0)


@pytest.mark.parametrize("reward", [1, 1.0, np.float32(1.0), np.int8(1), np.array(1.0)])
@pytest.mark.parametrize("over", [True, np.True_, np.array(True)])
def test_checked_step_of_any_number_type_passes(reward, over):
    step = (0, reward, over, False, {})
    assert Checked(Told(step=step)).step(0) == step


@pytest.mark.parametrize("reset", [0, (0, {}, 1)])
def test_checked_reset_that_breaks_the_interface_raises_value_error(reset):
    with pytest.raises(ValueError, match=r"reset\(\) must return \(observation, info\), got"):
        Checked(Told(reset=reset)).reset()
