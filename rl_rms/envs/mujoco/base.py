"""The base class of the native vector environments for MuJoCo: simulations in threads, state and rendering.

Each sub-environment is a Gymnasium environment with its own model and data. MuJoCo releases Python's global
interpreter lock during a step, so several threads step several sub-environments at once. `MujocoVectorEnv` does
not use ``mujoco.rollout``, because this function does not return the warm start of the constraint solver. Without
the warm start, the trajectories differ from Gymnasium's trajectories.
"""

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from operator import attrgetter
from typing import Any, ClassVar

import mujoco
import numpy as np

from rl_rms.envs import mujoco_state
from rl_rms.envs.checks import check_int
from rl_rms.envs.native_vector import Array, Floats, Mask, NativeVectorEnv


class MujocoVectorEnv(NativeVectorEnv):
    """A native vector environment of Gymnasium's MuJoCo environments.

    Args:
        num_envs: Number of sub-environments, >= 1.
        num_threads: Number of threads that step the sub-environments, >= 1; threads beyond ``num_envs`` are
            not used. None uses one thread per core that the process may use.
        **kwargs: See `NativeVectorEnv`.

    Attributes:
        envs: The sub-environments, of which only the parameters may be changed.
        num_threads: Number of threads.

    Raises:
        ValueError: If an argument is out of its range.
    """

    # Class of the sub-environments.
    _SINGLE: ClassVar[Callable[..., Any]]

    envs: Sequence[Any] = ()
    _pool: ThreadPoolExecutor | None = None

    def __init__(self, num_envs: int = 1, *args: Any, num_threads: int | None = None, **kwargs: Any) -> None:
        super().__init__(num_envs, *args, **kwargs)
        if num_threads is None:
            num_threads = _available_cores()
        self.num_threads = min(check_int("num_threads", num_threads, least=1), self.num_envs)

    @property
    def simulations(self) -> list[dict[str, Any]]:
        """The state of each simulation, see `rl_rms.envs.mujoco_state`."""
        return [mujoco_state.read(env) for env in self.envs]

    @simulations.setter
    def simulations(self, states: Sequence[dict[str, Any]]) -> None:
        for env, state in zip(self.envs, states, strict=True):
            mujoco_state.write(env, state)
        self._read()

    def render(self) -> tuple[Array, ...] | None:
        """Return a picture of each sub-environment; None without a render mode."""
        return None if self.render_mode is None else tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the renderers and end the threads."""
        for env in self.envs:
            env.close()
        if self._pool is not None:
            self._pool.shutdown()

    def _make(self, **kwargs: Any) -> Any:
        self._kwargs = kwargs
        self.envs = [self._SINGLE(**copy.deepcopy(kwargs)) for _ in range(self.num_envs)]
        self._controls = [env.data.ctrl for env in self.envs]
        self._options = [env.model.opt for env in self.envs]
        views = [self._find_views(env) for env in self.envs]
        self._views = [view for one in views for view in one.values()]
        ends = np.cumsum([view.size for view in views[0].values()])
        self._columns = {
            name: slice(end - view.size, end) for (name, view), end in zip(views[0].items(), ends, strict=True)
        }
        return self.envs[0]

    def _find_views(self, env: Any) -> dict[str, Array]:
        """One-dimensional views of arrays in a sub-environment's ``MjData``; the first two are qpos and qvel."""
        return {"qpos": env.data.qpos, "qvel": env.data.qvel}

    def _begin(self, begins: Mask, options: dict[str, Any], infos: dict[str, Any]) -> None:
        for row in np.flatnonzero(begins).tolist():
            env = self.envs[row]
            env.np_random = self._generators[row]
            infos.update(self._add_info(infos, env.reset(options=options)[1], row))
        self._read()

    def _simulate(self, actions: Array) -> None:
        """Step the simulations whose episodes continue, and read their data."""
        for control, action in zip(self._controls, actions, strict=True):
            control[:] = action
        rows = np.flatnonzero(~self.ended).tolist()
        if self.num_threads == 1:
            self._step_each(rows)
        else:
            self._step_in_threads(rows)
        self._read()

    def _step_in_threads(self, rows: list[int]) -> None:
        """Divide the simulations among the threads, and step the simulations."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.num_threads - 1)
        shares = [rows[first :: self.num_threads] for first in range(self.num_threads)]
        others = [self._pool.submit(self._step_each, share) for share in shares[1:]]
        try:
            self._step_each(shares[0])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _step_each(self, rows: list[int]) -> None:
        """Step simulations in the same way as ``MujocoEnv.do_simulation``."""
        for row in rows:
            env = self.envs[row]
            mujoco.mj_step(env.model, env.data, nstep=env.frame_skip)  # pyright: ignore[reportAttributeAccessIssue]
            mujoco.mj_rnePostConstraint(env.model, env.data)  # pyright: ignore[reportAttributeAccessIssue]

    def _read(self) -> None:
        """Copy the views of all sub-environments."""
        self._data = np.concatenate(self._views).reshape(self.num_envs, -1)

    def _gather(self, name: str) -> Floats:
        """Return the copied values of one view for all sub-environments, shape ``(num_envs, size)``."""
        return self._data[:, self._columns[name]]

    def _state(self) -> Floats:
        """Return the copies of qpos and qvel side by side, shape ``(num_envs, nq + nv)``."""
        return self._data[:, : self._columns["qvel"].stop]

    def _each(self, *names: str) -> Array:
        """Return attributes of each sub-environment, shape ``(num_envs, ...)``; several names add axis 1."""
        return np.array(list(map(attrgetter(*names), self.envs)))

    def _dt(self) -> Floats:
        """Return the duration of an env step of each sub-environment in seconds, shape ``(num_envs,)``."""
        return np.array([opt.timestep * env.frame_skip for opt, env in zip(self._options, self.envs, strict=True)])

    def __getstate__(self) -> dict[str, Any]:
        made = ("envs", "_single", "_controls", "_options", "_views", "_data", "_pool")
        kept = {name: value for name, value in vars(self).items() if name not in made}
        return {**kept, "simulations": self.simulations}

    def __setstate__(self, state: dict[str, Any]) -> None:
        simulations = state.pop("simulations")
        vars(self).update(state, _pool=None)
        self._single = self._make(**self._kwargs)
        self.simulations = simulations


def _available_cores() -> int:
    """Return the number of cores that the process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
