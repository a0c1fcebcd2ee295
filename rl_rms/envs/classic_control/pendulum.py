"""Pendulum for many sub-environments at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.pendulum import DEFAULT_X, DEFAULT_Y, PendulumEnv
from gymnasium.envs.classic_control.utils import verify_number_and_cast

from rl_rms.envs.classic_control.base import ClassicControlVectorEnv, Value
from rl_rms.envs.native_vector import Array, Floats, Mask, clip


class PendulumVectorEnv(ClassicControlVectorEnv):
    """Gymnasium's ``Pendulum-v1``, whose state consists of the angle and the angular velocity.

    Attributes:
        last_u: Last torques, which the pictures show, shape ``(num_envs,)``; None before the first step.
    """

    _SINGLE = PendulumEnv
    _PARAMETERS = ("max_speed", "max_torque", "dt", "g", "m", "l")
    max_speed: Value
    max_torque: Value
    dt: Value
    g: Value
    m: Value
    l: Value  # noqa: E741
    last_u: npt.NDArray[np.float32] | None = None

    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        theta, velocity = state
        # As in the single environment, products of the torque and constants are float32, and sums are float64.
        limit = np.float32(self.max_torque)
        torque = self.last_u = clip(actions[:, 0], -limit, limit)
        angle = (theta + np.pi) % (2 * np.pi) - np.pi
        costs = angle**2 + 0.1 * velocity**2 + np.float32(0.001) * torque**2
        pull = 3 * self.g / (2 * self.l) * np.sin(theta)
        push = np.float32(3.0 / (self.m * self.l**2)) * torque
        velocity = clip(velocity + (pull + push) * self.dt, -self.max_speed, self.max_speed)
        moved = np.array((theta + velocity * self.dt, velocity))
        return moved, -costs, np.zeros(self.num_envs, dtype=np.bool_)

    def _observe(self, state: Array) -> npt.NDArray[np.float32]:
        theta, velocity = state
        observations = np.empty((len(theta), 3), dtype=np.float32)
        observations[:, 0], observations[:, 1], observations[:, 2] = np.cos(theta), np.sin(theta), velocity
        return observations

    def _bounds(self, options: dict[str, Any]) -> tuple[Any, Any]:
        x, y = options.get("x_init", DEFAULT_X), options.get("y_init", DEFAULT_Y)
        high = np.array([verify_number_and_cast(x), verify_number_and_cast(y)])
        return -high, high

    def _draw(self, generator: np.random.Generator, low: Any, high: Any) -> Array:
        return np.array(generator.uniform(low, high))

    def _picture(self, row: int) -> Array:
        self._single.last_u = None if self.last_u is None or self.steps[row] == 0 else self.last_u[row]
        return super()._picture(row)
