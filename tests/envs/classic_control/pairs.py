"""Native vector environments, and SyncVectorEnvs of the same single environments."""

import gymnasium as gym
import numpy as np

from rl_rms.envs.specs import native

LIMITS = {"Acrobot-v1": 60, "MountainCar-v0": 90, "MountainCarContinuous-v0": 90, "Pendulum-v1": 40}
# Parameters with which episodes end early. Except for AVAIL_TORQUE, each has one value per sub-environment.
COLUMNS = {
    "Acrobot-v1": {"LINK_MASS_2": [0.2, 0.1, 1.0], "AVAIL_TORQUE": [-4.0, 0.0, 4.0], "dt": [0.2, 0.1, 0.25]},
    "MountainCar-v0": {"force": [0.001, 0.004, 0.003], "max_speed": [0.07, 0.05, 0.06]},
    "MountainCarContinuous-v0": {"power": [0.0015, 0.004, 0.003], "max_action": [1.0, 0.7, 0.8]},
    "Pendulum-v1": {"g": [10.0, 3.0, 12.0], "max_torque": [2.0, 1.5, 0.3], "l": [1.0, 0.7, 1.2]},
}


def pair(id, mode="NextStep", limit=None, columns=None, num_envs=3, **kwargs):
    """A native vector environment and a SyncVectorEnv."""
    limit = LIMITS[id] if limit is None else limit
    ours = gym.make_vec(
        native(gym.spec(id)), num_envs, "vector_entry_point", None, None, max_episode_steps=limit,
        autoreset_mode=mode, **kwargs,
    )  # fmt: skip
    theirs = gym.make_vec(id, num_envs, "sync", {"autoreset_mode": mode}, None, max_episode_steps=limit, **kwargs)
    for name, column in (columns or {}).items():
        is_column = name != "AVAIL_TORQUE"
        setattr(ours, name, np.array(column) if is_column else column)
        for row, env in enumerate(theirs.envs):
            setattr(env.unwrapped, name, column[row] if is_column else column)
    return ours, theirs


def swinging(id, observations, random):
    """Random actions for Pendulum-v1, else mostly actions that push in the direction of motion."""
    n = len(observations)
    if id == "Pendulum-v1":
        return random.uniform(-3.0, 3.0, (n, 1)).astype(np.float32)
    speeds = observations[:, -1]
    if id == "MountainCarContinuous-v0":
        return (np.sign(speeds) * random.uniform(-0.2, 1.5, n)).astype(np.float32)[:, None]
    return np.where(random.random(n) < 0.1, random.integers(3, size=n), np.where(speeds > 0, 2, 0))


def states(env):
    """The states of a SyncVectorEnv, shape (state size, num_envs)."""
    return np.array([one.unwrapped.state for one in env.envs], dtype=np.float64).T
