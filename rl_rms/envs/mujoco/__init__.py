"""Native vector environments for MuJoCo tasks of Gymnasium, which step the sub-environments in several threads.

A SyncVectorEnv with the same seed and actions makes bit-identical transitions. `rl_rms.envs.make_vec` makes native
vector environments with ``vectorization_mode="native"``. MuJoCo tasks need the packages of ``rl_rms[mujoco]``.
"""

from rl_rms.envs.mujoco.base import MujocoVectorEnv
from rl_rms.envs.mujoco.pendulums import InvertedDoublePendulumVectorEnv, InvertedPendulumVectorEnv
from rl_rms.envs.mujoco.runners import (
    AntVectorEnv,
    HalfCheetahVectorEnv,
    HopperVectorEnv,
    SwimmerVectorEnv,
    Walker2dVectorEnv,
)

__all__ = [
    "AntVectorEnv",
    "HalfCheetahVectorEnv",
    "HopperVectorEnv",
    "InvertedDoublePendulumVectorEnv",
    "InvertedPendulumVectorEnv",
    "MujocoVectorEnv",
    "SwimmerVectorEnv",
    "Walker2dVectorEnv",
]
