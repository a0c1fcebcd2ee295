"""Half-lives in env steps, environments that change, and normalizers with a half-life for Stable-Baselines3."""

from rl_rms.sb3.half_life import HalfLifeCallback, env_steps_per_update
from rl_rms.sb3.normalize import VecNormalize
from rl_rms.sb3.vec_env import ChangeCallback, NonStationaryVecEnv, make_vec_env

__all__ = [
    "ChangeCallback",
    "HalfLifeCallback",
    "NonStationaryVecEnv",
    "VecNormalize",
    "env_steps_per_update",
    "make_vec_env",
]
