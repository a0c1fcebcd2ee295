"""What an agent can know and log of a changing environment: its parameters, regime and curriculum stage."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper

from rl_rms.envs import NonStationary, NonStationaryVector

World = NonStationaryVector | NonStationary


def find_world(env: VectorEnv) -> World | None:
    """The wrapper that makes an environment change, if there is one.

    Args:
        env: A vector environment, or a SyncVectorEnv of a single environment that changes.

    Returns:
        The wrapper, which has a clock, parameters, a regime and a state.
    """
    layer: Any = env
    while isinstance(layer, VectorWrapper):
        if isinstance(layer, NonStationaryVector):
            return layer
        layer = layer.env
    if isinstance(layer, SyncVectorEnv) and layer.num_envs == 1:
        layer = layer.envs[0]
        while isinstance(layer, gym.Wrapper):
            if isinstance(layer, NonStationary):
                return layer
            layer = layer.env
    return None


def world_scalars(world: World) -> dict[str, float]:
    """Scalars of what changes.

    Under ``env/`` each changing parameter (its mean over sub-environments), the regime and, where it is finite,
    the time scale in env steps; under ``curriculum/`` what a curriculum tells of itself.
    """
    scalars = {f"env/{name}": float(np.mean(value)) for name, value in world.parameters.items()}
    scalars["env/regime"] = float(np.max(world.regime))
    if math.isfinite(world.timescale):
        scalars["env/timescale"] = world.timescale
    if world.curriculum is not None:
        scalars.update({f"curriculum/{name}": value for name, value in world.curriculum.log().items()})
    return scalars
