"""InvertedPendulum and InvertedDoublePendulum."""

from typing import Any

import numpy as np
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from rl_rms.envs.gymnasium_internals import stored_as
from rl_rms.envs.mujoco.base import MujocoVectorEnv
from rl_rms.envs.native_vector import Array, Floats, Mask, clip


class InvertedPendulumVectorEnv(MujocoVectorEnv):
    """Gymnasium's ``InvertedPendulum-v5``."""

    _SINGLE = InvertedPendulumEnv

    def _advance(self, actions: Array) -> tuple[Floats, Mask, dict[str, Array]]:
        self._simulate(actions)
        state = self._state()
        terminated = ~np.isfinite(state).all(axis=1) | (np.abs(state[:, 1]) > 0.2)
        survive = (~terminated).astype(int)
        return survive.astype(np.float64), terminated, {"reward_survive": survive}

    def _observations(self, has_first: bool) -> Floats:
        return self._state().copy()


class InvertedDoublePendulumVectorEnv(MujocoVectorEnv):
    """Gymnasium's ``InvertedDoublePendulum-v5``."""

    _SINGLE = InvertedDoublePendulumEnv

    def _find_views(self, env: Any) -> dict[str, Array]:
        own = {"tip": env.data.site_xpos[0], "qfrc_constraint": env.data.qfrc_constraint[:1]}
        return {**super()._find_views(env), **own}

    def _advance(self, actions: Array) -> tuple[Floats, Mask, dict[str, Array]]:
        self._simulate(actions)
        x, _, y = self._gather("tip").T
        _, first, second = self._gather("qvel").T
        terminated = y <= 1
        distance = 0.01 * _square(x) + _square(y - 2)
        velocity = 0.001 * _square(first) + 0.005 * _square(second)
        survive = self._each(stored_as("healthy_reward")) * (~terminated).astype(int)
        infos = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
        return survive - distance - velocity, terminated, infos

    def _observations(self, has_first: bool) -> Floats:
        position = self._gather("qpos")
        angles = position[:, 1:].copy()
        forces = (self._gather("qvel"), self._gather("qfrc_constraint"))
        clipped = [clip(one, -10, 10) for one in forces]
        return np.concatenate((position[:, :1], np.sin(angles), np.cos(angles), *clipped), axis=1)


def _square(values: Floats) -> Floats:
    # Python numbers are squared, as in the single environment, because an array's square may differ in the last
    # bit.
    return np.array([one**2 for one in values.tolist()])
