import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from rl_rms.envs.draws import Draws
from rl_rms.envs.observation_transform import BoxTransform, PartsTransform
from rl_rms.envs.targets import parse_targets

FLOATS = Box(0.0, 100.0, (2,), np.float32)
IMAGE = Box(0, 255, (1, 3), np.uint8)


def transform_of(values, space=FLOATS, is_batch=False):
    transform = BoxTransform(parse_targets(values), space, Draws(), is_batch)
    transform.values.update(values)
    return transform


def test_gain_and_offset_change_every_component():
    transform = transform_of({"observation.gain": 2.0, "observation.offset": -1.0})
    moved = transform(np.array([1.0, 4.0], np.float32))
    assert (moved.tolist(), moved.dtype) == ([1.0, 7.0], np.float32)


def test_arrays_change_each_row_of_a_batch():
    transform = transform_of({"observation.offset": np.array([0.0, 1.0])}, is_batch=True)
    assert transform(np.zeros((2, 2), np.float32)).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    mask = transform_of({"observation.mask": np.array([0.0, 1.0])}, is_batch=True)
    assert mask(np.ones((2, 2), np.float32)).tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_mask_of_one_gives_zeros():
    assert transform_of({"observation.mask": 1.0})(np.array([1.0, 4.0], np.float32)).tolist() == [0.0, 0.0]


def test_offsets_are_the_same_until_their_draw_changes():
    transform = transform_of({"observation.offsets": 1.0, "observation.offsets_draw": 0.0})
    zeros = np.zeros(2, np.float32)
    before = transform(zeros).tolist()
    transform.values["observation.offsets"] = 2.0
    assert transform(zeros).tolist() == [2 * one for one in before] == transform(zeros, first=True).tolist()
    transform.values["observation.offsets_draw"] = 1.0
    assert transform(zeros).tolist() != [2 * one for one in before]


def test_uint8_is_rounded_and_clipped():
    transform = transform_of({"observation.gain": 1.5, "observation.offset": -20.0}, IMAGE)
    moved = transform(np.array([[10, 101, 250]], np.uint8))
    assert (moved.tolist(), moved.dtype) == ([[0, 132, 255]], np.uint8)
    noisy = transform_of({"observation.noise": 20.0}, IMAGE)
    noise = noisy(np.full((1, 3), 100, np.uint8)).astype(int) - 100
    assert (noise != 0).any()
    assert np.abs(noise).max() < 120


def test_part_of_an_observation_changes_without_the_others():
    space = gym.spaces.Dict({"camera": gym.spaces.Tuple([IMAGE]), "joints": FLOATS})
    offset = transform_of({"observation.offset": 3.0}, space["camera"][0])
    noise = transform_of({"observation.noise": 0.0}, space["joints"])
    transform = PartsTransform({("camera", "0"): offset, ("joints",): noise})
    seen = {"camera": (np.ones((1, 3), np.uint8),), "joints": np.zeros(2, np.float32)}
    moved = transform(seen)
    assert (moved["camera"][0].tolist(), moved["joints"].tolist()) == ([[4, 4, 4]], [0.0, 0.0])
    assert seen["camera"][0].tolist() == [[1, 1, 1]]
    noise.values["observation.noise"] = 1.0
    assert 0.0 not in transform(seen)["joints"].tolist()
    assert transform(seen, first=True)["joints"].tolist() != transform(seen)["joints"].tolist()
