import gymnasium as gym
import pytest

from rl_rms.agents.spaces import space_to_dict


def test_a_space_that_cannot_be_saved_is_named():
    said = r"spaces must be Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple, got Text\(1, 5"
    with pytest.raises(ValueError, match=said):
        space_to_dict(gym.spaces.Dict({"words": gym.spaces.Text(5)}))
