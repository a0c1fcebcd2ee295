"""What an agent can know and log of a changing environment: its parameters, regime and curriculum stage."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from rl_rms.envs import NonStationaryVector


def find_world(env: VectorEnv) -> NonStationaryVector | None:
    """The `NonStationaryVector` among an environment's wrappers, if there is one."""
    layer: Any = env
    while not isinstance(layer, NonStationaryVector):
        if not isinstance(layer, VectorWrapper):
            return None
        layer = layer.env
    return layer


def world_scalars(world: NonStationaryVector) -> dict[str, float]:
    """Scalars under ``env/``: each changing parameter (its mean over sub-environments), regime and stage."""
    scalars = {f"env/{name}": float(np.mean(value)) for name, value in world.parameters.items()}
    scalars["env/regime"] = float(np.max(world.regime))
    if world.curriculum is not None:
        scalars["env/curriculum_stage"] = float(world.curriculum.stage)
    return scalars
