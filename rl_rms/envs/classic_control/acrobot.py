"""Acrobot for many sub-environments at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from rl_rms.envs.classic_control.base import ClassicControlVectorEnv, Value
from rl_rms.envs.native_vector import Array, Floats, Mask, clip

_GRAVITY = 9.8


class AcrobotVectorEnv(ClassicControlVectorEnv):
    """Gymnasium's ``Acrobot-v1``, whose state consists of two angles and their velocities."""

    _SINGLE = AcrobotEnv
    _LINKS = ("LINK_LENGTH_1", "LINK_LENGTH_2", "LINK_MASS_1", "LINK_MASS_2", "LINK_COM_POS_1", "LINK_COM_POS_2")
    _PARAMETERS = (
        *_LINKS,
        "LINK_MOI",
        "MAX_VEL_1",
        "MAX_VEL_2",
        "dt",
        "AVAIL_TORQUE",
        "torque_noise_max",
        "book_or_nips",
    )
    _BOUNDS = (-0.1, 0.1)
    _INITIAL_DTYPE = np.float32
    LINK_LENGTH_1: Value
    LINK_MASS_1: Value
    LINK_MASS_2: Value
    LINK_COM_POS_1: Value
    LINK_COM_POS_2: Value
    LINK_MOI: Value
    MAX_VEL_1: Value
    MAX_VEL_2: Value
    dt: Value
    AVAIL_TORQUE: Any  # one value for each action
    torque_noise_max: Value
    book_or_nips: str

    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        torque = np.choose(actions, self.AVAIL_TORQUE) + self._torque_noise()
        # Runge-Kutta of fourth order.
        half = self.dt / 2.0
        k1 = self._derivatives(state, torque)
        k2 = self._derivatives(state + half * k1, torque)
        k3 = self._derivatives(state + half * k2, torque)
        k4 = self._derivatives(state + self.dt * k3, torque)
        moved = state + self.dt / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        moved[:2] -= 2 * np.pi * np.rint(moved[:2] / (2 * np.pi))
        moved[2] = clip(moved[2], -self.MAX_VEL_1, self.MAX_VEL_1)
        moved[3] = clip(moved[3], -self.MAX_VEL_2, self.MAX_VEL_2)
        terminated = -np.cos(moved[0]) - np.cos(moved[1] + moved[0]) > 1.0
        return moved, np.where(terminated, 0.0, -1.0), terminated

    def _torque_noise(self) -> Value:
        if not np.any(self.torque_noise_max):
            return 0.0
        limits = np.broadcast_to(self.torque_noise_max, self.num_envs).tolist()
        # Sub-environments that only begin an episode draw no random numbers.
        return np.array(
            [
                generator.uniform(-limit, limit) if limit > 0 and not ended else 0.0
                for generator, limit, ended in zip(self.np_random, limits, self.ended.tolist(), strict=True)
            ]
        )

    def _derivatives(self, state: Floats, torque: Floats) -> Floats:
        """Compute the state's time derivatives.

        ``book_or_nips`` selects the equations of Sutton and Barto's book or of Sutton's 1996 paper.
        """
        m1, m2, l1 = self.LINK_MASS_1, self.LINK_MASS_2, self.LINK_LENGTH_1
        c1, c2, inertia = self.LINK_COM_POS_1, self.LINK_COM_POS_2, self.LINK_MOI
        theta1, theta2, velocity1, velocity2 = state
        cos2, sin2 = np.cos(theta2), np.sin(theta2)
        d1 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cos2) + inertia + inertia
        d2 = m2 * (c2**2 + l1 * c2 * cos2) + inertia
        phi2 = m2 * c2 * _GRAVITY * np.cos(theta1 + theta2 - np.pi / 2)
        phi1 = (
            -m2 * l1 * c2 * velocity2**2 * sin2
            - 2 * m2 * l1 * c2 * velocity2 * velocity1 * sin2
            + (m1 * c1 + m2 * l1) * _GRAVITY * np.cos(theta1 - np.pi / 2)
            + phi2
        )
        force = torque + d2 / d1 * phi1
        if self.book_or_nips != "nips":
            force = force - m2 * l1 * c2 * velocity1**2 * sin2
        acceleration2 = (force - phi2) / (m2 * c2**2 + inertia - d2**2 / d1)
        acceleration1 = -(d2 * acceleration2 + phi1) / d1
        return np.array((velocity1, velocity2, acceleration1, acceleration2))

    def _observe(self, state: Array) -> npt.NDArray[np.float32]:
        observations = np.empty((state.shape[1], 6), dtype=np.float32)
        observations[:, 0:4:2], observations[:, 1:4:2] = np.cos(state[:2]).T, np.sin(state[:2]).T
        observations[:, 4:] = state[2:].T
        return observations

    def _draw(self, generator: np.random.Generator, low: Any, high: Any) -> Array:
        return generator.uniform(low, high, 4).astype(np.float32)
