"""MountainCar and MountainCarContinuous for many sub-environments at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from rl_rms.envs.classic_control.base import ClassicControlVectorEnv, Value
from rl_rms.envs.native_vector import Array, Floats, Mask, clip

_VALLEY = ("min_position", "max_position", "max_speed", "goal_position", "goal_velocity")


class _ValleyVectorEnv(ClassicControlVectorEnv):
    """A car in a valley, whose state consists of position and velocity."""

    _BOUNDS = (-0.6, -0.4)
    min_position: Value
    max_position: Value
    max_speed: Value
    goal_position: Value
    goal_velocity: Value

    def _roll(self, position: Array, velocity: Array) -> tuple[Array, Mask]:
        """Move from a position with a new velocity, and return the new state and the terminations."""
        left, right, fastest, goal, goal_velocity = (
            np.asarray(getattr(self, name), dtype=position.dtype) for name in _VALLEY
        )
        velocity = clip(velocity, -fastest, fastest)
        position = clip(position + velocity, left, right)
        velocity[(position == left) & (velocity < 0)] = 0
        return np.array((position, velocity)), (position >= goal) & (velocity >= goal_velocity)

    def _observe(self, state: Array) -> npt.NDArray[np.float32]:
        observations = np.empty((state.shape[1], 2), dtype=np.float32)
        observations[:] = state.T
        return observations

    def _draw(self, generator: np.random.Generator, low: Any, high: Any) -> Array:
        return np.array([generator.uniform(low, high), 0.0])


class MountainCarVectorEnv(_ValleyVectorEnv):
    """Gymnasium's ``MountainCar-v0``."""

    _SINGLE = MountainCarEnv
    _PARAMETERS = (*_VALLEY, "force", "gravity")
    force: Value
    gravity: Value

    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        position, velocity = state
        velocity = velocity + ((actions - 1) * self.force + np.cos(3 * position) * -self.gravity)
        moved, terminated = self._roll(position, velocity)
        return moved, np.full(self.num_envs, -1.0), terminated


class MountainCarContinuousVectorEnv(_ValleyVectorEnv):
    """Gymnasium's ``MountainCarContinuous-v0``, which rounds the state to float32 after each step."""

    _SINGLE = Continuous_MountainCarEnv
    _PARAMETERS = (*_VALLEY, "min_action", "max_action", "power")
    min_action: Value
    max_action: Value
    power: Value

    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        actions = actions[:, 0]
        moved, terminated = self._drive(state.astype(np.float32), actions)
        # The initial state is not rounded to float32.
        first = self.steps == 0
        if first.any():
            exact, terminated_exactly = self._drive(state, actions)
            moved[:, first], terminated[first] = exact[:, first], terminated_exactly[first]
        rewards = np.where(terminated, 100.0, 0.0) - actions.astype(np.float64) ** 2 * 0.1
        return moved.astype(np.float64), rewards, terminated

    def _drive(self, state: Array, actions: npt.NDArray[np.float32]) -> tuple[Array, Mask]:
        """Make a step in the precision of the state."""
        position, velocity = state
        slope = 0.0025 * np.cos((3 * position).astype(np.float64))
        low, high = np.float32(self.min_action), np.float32(self.max_action)
        # The single environment computes the acceleration in float32, but in float64 if the action was clipped.
        free = actions * np.float32(self.power) - slope.astype(np.float32)
        clipped = np.where(actions < low, self.min_action, self.max_action) * self.power - slope
        acceleration = np.where((actions < low) | (actions > high), clipped, free)
        return self._roll(position, velocity + acceleration.astype(state.dtype))
