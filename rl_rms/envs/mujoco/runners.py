"""Hopper, Walker2d, HalfCheetah, Swimmer and Ant, which are rewarded for their forward velocity."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from rl_rms.envs.gymnasium_internals import stored_as
from rl_rms.envs.mujoco.base import MujocoVectorEnv
from rl_rms.envs.native_vector import Array, Floats, Mask, clip

Outcome = tuple[Floats, Mask, dict[str, Array]]


class RunnerVectorEnv(MujocoVectorEnv):
    """The base class of the runners: velocities, control costs and observations."""

    # Number of coordinates of the horizontal position.
    _AXES: ClassVar[int]

    def _advance(self, actions: Array) -> Outcome:
        before = self._place()
        self._simulate(actions)
        velocity = (self._place() - before) / self._dt()[:, None]
        forward = self._each(stored_as("forward_reward_weight")) * velocity[:, 0]
        squares = np.square(actions).sum(axis=1)
        # A Python float times a float32 is a float32 in numpy 2 and a float64 in numpy 1.
        weight = stored_as("ctrl_cost_weight")
        costs = np.array([getattr(env, weight) * one for env, one in zip(self.envs, squares, strict=True)])
        infos = {**self._position_infos(), "x_velocity": velocity[:, 0]}
        if self._AXES == 2:
            infos["y_velocity"] = velocity[:, 1]
        return self._judge(forward, costs, {**infos, "reward_forward": forward, "reward_ctrl": -costs})

    def _judge(self, forward: Floats, costs: Array, infos: dict[str, Array]) -> Outcome:
        """Compute the rewards, the terminations and the infos."""
        return forward - costs, np.zeros(self.num_envs, dtype=np.bool_), infos

    def _argument(self, name: str) -> Any:
        """Return a constructor argument, which is equal for all sub-environments."""
        return getattr(self._single, stored_as(name))

    def _place(self) -> Floats:
        """Return the positions from which the velocity is computed, shape ``(num_envs, axes)``."""
        return self._gather("qpos")[:, : self._AXES]

    def _position_infos(self) -> dict[str, Array]:
        place = self._gather("qpos")[:, : self._AXES]
        if self._AXES == 1:
            return {"x_position": place[:, 0]}
        # numpy.linalg.norm computes the norm of one vector as the square root of a dot product.
        distances = np.sqrt([one.dot(one) for one in place])
        return {"x_position": place[:, 0], "y_position": place[:, 1], "distance_from_origin": distances}

    def _observations(self, has_first: bool) -> Floats:
        excluded = self._AXES if self._argument("exclude_current_positions_from_observation") else 0
        return self._state()[:, excluded:].copy()


class HalfCheetahVectorEnv(RunnerVectorEnv):
    """Gymnasium's ``HalfCheetah-v5``."""

    _SINGLE = HalfCheetahEnv
    _AXES = 1


class SwimmerVectorEnv(RunnerVectorEnv):
    """Gymnasium's ``Swimmer-v5``."""

    _SINGLE = SwimmerEnv
    _AXES = 2


class HealthyRunnerVectorEnv(RunnerVectorEnv):
    """The base class of the runners that can be unhealthy. By default, an unhealthy runner's episode ends."""

    @abstractmethod
    def _is_healthy(self) -> Mask:
        """Whether each runner is healthy."""

    def _judge(self, forward: Floats, costs: Array, infos: dict[str, Array]) -> Outcome:
        healthy = self._is_healthy()
        infos["reward_survive"] = survive = healthy * self._each(stored_as("healthy_reward"))
        terminated = np.logical_and(~healthy, self._each(stored_as("terminate_when_unhealthy")))
        return forward + survive - costs, terminated, infos


class UprightRunnerVectorEnv(HealthyRunnerVectorEnv):
    """The base class of the runners that are healthy while their height and angle are within ranges."""

    _AXES = 1

    def _is_healthy(self) -> Mask:
        ranges = self._each(stored_as("healthy_z_range"), stored_as("healthy_angle_range"))
        return _are_within(self._gather("qpos")[:, 1:3], ranges[:, :, 0], ranges[:, :, 1])

    def _position_infos(self) -> dict[str, Array]:
        heights = self._gather("qpos")[:, 1] - self._single.init_qpos[1]
        return {**super()._position_infos(), "z_distance_from_origin": heights}

    def _observations(self, has_first: bool) -> Floats:
        observations = super()._observations(has_first)
        velocities = observations[:, -self._single.model.nv :]
        velocities[...] = clip(velocities, -10, 10)
        return observations


class Walker2dVectorEnv(UprightRunnerVectorEnv):
    """Gymnasium's ``Walker2d-v5``."""

    _SINGLE = Walker2dEnv


class HopperVectorEnv(UprightRunnerVectorEnv):
    """Gymnasium's ``Hopper-v5``."""

    _SINGLE = HopperEnv

    def _is_healthy(self) -> Mask:
        ranges = self._each(stored_as("healthy_state_range"))
        return super()._is_healthy() & _are_within(self._state()[:, 2:], ranges[:, :1], ranges[:, 1:])


class AntVectorEnv(HealthyRunnerVectorEnv):
    """Gymnasium's ``Ant-v5``."""

    _SINGLE = AntEnv
    _AXES = 2

    def _find_views(self, env: Any) -> dict[str, Array]:
        main_body = getattr(env, stored_as("main_body"))
        own = {"xpos": env.data.body(main_body).xpos[:2], "cfrc_ext": env.data.cfrc_ext.reshape(-1)}
        return {**super()._find_views(env), **own}

    def _judge(self, forward: Floats, costs: Array, infos: dict[str, Array]) -> Outcome:
        contacts = self._each(stored_as("contact_cost_weight")) * np.square(self._forces()).sum(axis=1)
        return super()._judge(forward, costs + contacts, {**infos, "reward_contact": -contacts})

    def _place(self) -> Floats:
        return self._gather("xpos")

    def _is_healthy(self) -> Mask:
        state, ranges = self._state(), self._each(stored_as("healthy_z_range"))
        finite = np.isfinite(state).all(axis=1)
        return finite & (ranges[:, 0] <= state[:, 2]) & (state[:, 2] <= ranges[:, 1])

    def _forces(self) -> Floats:
        """Compute the clipped contact forces of all bodies, shape ``(num_envs, 6 * bodies)``."""
        ranges = self._each(stored_as("contact_force_range"))
        return clip(self._gather("cfrc_ext"), ranges[:, :1], ranges[:, 1:])

    def _observations(self, has_first: bool) -> Floats:
        observations = super()._observations(has_first)
        if not self._argument("include_cfrc_ext_in_observation"):
            return observations
        # Body 0 is MuJoCo's world body.
        return np.concatenate((observations, self._forces()[:, 6:]), axis=1)


def _are_within(values: Floats, low: Floats, high: Floats) -> Mask:
    """Whether all values of a sub-environment are between bounds; values have the shape ``(num_envs, size)``."""
    within: Mask = np.all((low < values) & (values < high), axis=1)
    return within
