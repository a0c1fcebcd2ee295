"""Native vector environments for Gymnasium's classic control tasks, which step all sub-environments at once.

A SyncVectorEnv with the same seed and actions makes the same transitions. `rl_rms.envs.make_vec` makes these
environments with ``vectorization_mode="native"``. Gymnasium itself has a native CartPole.
"""

from rl_rms.envs.classic_control.acrobot import AcrobotVectorEnv
from rl_rms.envs.classic_control.base import ClassicControlVectorEnv
from rl_rms.envs.classic_control.mountain_car import MountainCarContinuousVectorEnv, MountainCarVectorEnv
from rl_rms.envs.classic_control.pendulum import PendulumVectorEnv

__all__ = [
    "AcrobotVectorEnv",
    "ClassicControlVectorEnv",
    "MountainCarContinuousVectorEnv",
    "MountainCarVectorEnv",
    "PendulumVectorEnv",
]
