"""MiniGrid with two goals. Only one goal gives a reward. Importing this module registers ``TwoGoals-v0``."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation, TransformObservation
from minigrid.core.grid import Grid
from minigrid.core.world_object import Goal
from minigrid.envs import EmptyEnv
from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper

SIZE = 6
CORNERS = ((1, SIZE - 2), (SIZE - 2, 1))


class TwoGoals(EmptyEnv):
    """An empty room with goals in two corners and the agent at a random place.

    Both goals end the episode.

    Attributes:
        rewarded: Index of the goal that gives MiniGrid's reward, 0 or 1. The other goal gives no reward.
    """

    def __init__(self, **options: Any) -> None:
        self.rewarded = 0.0
        super().__init__(size=SIZE, agent_start_pos=None, **options)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for corner in CORNERS:
            self.put_obj(Goal(), *corner)
        self.place_agent()
        self.mission = "get to the goal that gives the reward"

    def _reward(self) -> float:
        return super()._reward() if self.agent_pos == CORNERS[round(self.rewarded)] else 0.0


def make(**options: Any) -> gym.Env[Any, Any]:
    """Make the environment with the whole room as observation, flattened, in float32."""
    env = FlattenObservation(ImgObsWrapper(FullyObsWrapper(TwoGoals(**options))))
    space = gym.spaces.Box(0.0, 255.0, env.observation_space.shape, np.float32)
    return TransformObservation(env, np.float32, space)


gym.register("TwoGoals-v0", entry_point=make)
