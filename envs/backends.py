"""How a vector environment's values reach its sub-environments, and their transitions come back moved.

Sub-environments in this process or in workers are each a `Parametrized` that does the moving itself; a native
vector environment, which has none, is moved as a whole.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from rl_rms.envs.chance import Moment
from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.controls import Controls
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.transforms import DRAWN, NOISES

Transitions = tuple[Any, Any, Any, Any, dict[str, Any]]


class Backend(ABC):
    """One kind of vector environment.

    Attributes:
        moves_observations: Whether any target is an ``observation.*``.
        has_noise: Whether numbers are drawn by chance at each env step.
        is_drawn: Whether any target needs chance at all.
    """

    moves_observations: bool
    has_noise: bool
    is_drawn: bool

    @abstractmethod
    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the targets, in their order: a number for all, or one for each, shape ``(num_envs,)``."""

    @abstractmethod
    def place(self, moment: Moment) -> None:
        """Say who draws numbers by chance, and when."""

    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """The values that the targets have now, where the environment is in this process."""

    @abstractmethod
    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""

    @abstractmethod
    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step, in which the sub-environments that are not ``valid`` only begin an episode."""


class SubEnvs(Backend):
    """Sync and Async: rows of values for the sub-environments.

    Args:
        env: The vector environment.
        targets: What is to be set.

    Raises:
        ValueError: If the sub-environments change already, or those in workers are not ready for it.
    """

    def __init__(self, env: VectorEnv, targets: Sequence[str]) -> None:
        self._env = env
        self._base = env.unwrapped
        assert isinstance(self._base, (SyncVectorEnv, AsyncVectorEnv))
        _make_ready(self._base, tuple(targets))
        in_process = self._base.envs if targets and isinstance(self._base, SyncVectorEnv) else []
        self._sub_envs = [_find(sub_env) for sub_env in in_process]
        self._columns: tuple[Column | None, ...] = (None,) * len(targets)
        self.moves_observations = any(target.startswith("observation.") for target in targets)
        self.has_noise = not set(NOISES).isdisjoint(targets)
        self.is_drawn = self.has_noise or not set(DRAWN).isdisjoint(targets)

    def set(self, columns: tuple[Column, ...]) -> None:
        """Hand each sub-environment its values, if any is another than before."""
        if all(map(_same, columns, self._columns)):
            return
        self._columns = columns
        each = [np.broadcast_to(column, self._env.num_envs).tolist() for column in columns]
        rows = list(zip(*each, strict=True))
        if isinstance(self._base, AsyncVectorEnv):
            self._base.set_attr("parameter_values", rows)
        for sub_env, row in zip(self._sub_envs, rows, strict=False):
            sub_env.parameter_values = row

    def place(self, moment: Moment) -> None:
        """Tell each sub-environment who it is and what its clock reads."""
        rows = [Moment(moment.seed, *((one,) for one in each)) for each in zip(*moment[1:], strict=True)]
        if isinstance(self._base, AsyncVectorEnv):
            self._base.set_attr("parameter_moment", rows)
        for sub_env, row in zip(self._sub_envs, rows, strict=False):
            sub_env.parameter_moment = row

    def current(self) -> tuple[float, ...]:
        """Those of the first sub-environment in this process: they are made alike."""
        return self._sub_envs[0].current_values() if self._sub_envs else ()

    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""
        return self._env.reset(seed=seed, options=options)

    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step."""
        return self._env.step(actions)


class Native(Backend):
    """A vector environment of its own kind.

    Args:
        env: The vector environment.
        targets: What is to be set.
        arrays: The targets whose columns hold one value for each sub-environment.
    """

    def __init__(self, env: VectorEnv, targets: Sequence[str], arrays: Sequence[str]) -> None:
        self._env = env
        self._controls = Controls(
            env.unwrapped, targets, env.single_observation_space, env.single_action_space, arrays, env.num_envs
        )
        self._same_step = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        self.moves_observations = self._controls.moves_observations
        self.has_noise = self._controls.has_noise
        self.is_drawn = self._controls.is_drawn

    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the vector environment's own parameters."""
        self._controls.set(columns)

    def place(self, moment: Moment) -> None:
        """Say who draws numbers by chance, and when."""
        self._controls.place(moment)

    def current(self) -> tuple[float, ...]:
        """Those of the vector environment."""
        return self._controls.current()

    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""
        mask = None if options is None else options.get("reset_mask")
        beginning = np.ones(self._env.num_envs, dtype=np.bool_) if mask is None else np.asarray(mask)
        observations, infos = self._env.reset(seed=seed, options=options)
        self._controls.again()
        self._controls.begin(np.flatnonzero(beginning).tolist())
        if self.moves_observations:
            moved = self._controls.observation(observations, first=beginning)
            if not beginning.all():
                # The others' observations are those that their last transitions brought.
                moved[~beginning] = self._last[~beginning]
            observations = self._keep(moved)
        return observations, infos

    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step; reset frames have no reward to be moved."""
        controls = self._controls
        if not valid.all():
            controls.begin(np.flatnonzero(~valid).tolist())
        if controls.moves_actions:
            actions = controls.action(actions)
        observations, rewards, terminated, truncated, infos = self._env.step(actions)
        if controls.moves_rewards:
            rewards = np.where(valid, controls.reward(np.asarray(rewards, dtype=np.float64)), rewards)
        if controls.moves_observations:
            if "final_obs" in infos:
                infos = {**infos, "final_obs": self._final(infos["final_obs"], observations)}
            first = np.logical_or(terminated, truncated) if self._same_step else ~valid
            observations = self._keep(controls.observation(observations, first))
        if self._same_step:
            controls.begin(np.flatnonzero(np.logical_or(terminated, truncated)).tolist())
        return observations, rewards, terminated, truncated, infos

    def _keep(self, observations: Any) -> Any:
        """Remember moved observations, for a reset of some sub-environments that shows the others' again."""
        self._last = observations.copy()
        return observations

    def _final(self, final: Any, observations: Any) -> Any:
        """The moved final observations of the episodes that ended, None for the others."""
        ended = [i for i in range(len(final)) if final[i] is not None]
        batch = np.zeros_like(observations)
        batch[ended] = [final[i] for i in ended]
        moved = np.full(len(final), None, dtype=object)
        for i, observation in zip(ended, self._controls.observation(batch)[ended], strict=True):
            moved[i] = observation
        return moved


def make_backend(env: VectorEnv, targets: Sequence[str], arrays: Sequence[str]) -> Backend:
    """The backend of a vector environment.

    Args:
        env: The vector environment.
        targets: What is to be set.
        arrays: The targets whose columns hold one value for each sub-environment.

    Raises:
        ValueError: If it cannot set a target.
    """
    if isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):
        return SubEnvs(env, targets)
    return Native(env, targets, arrays)


def _same(new: Column, old: Column | None) -> bool:
    # For single numbers np.array_equal would take longer than the rest of the step.
    return np.array_equal(new, old) if isinstance(new, np.ndarray) else new == old  # type: ignore[arg-type]


def _make_ready(env: SyncVectorEnv | AsyncVectorEnv, targets: tuple[str, ...]) -> None:
    """See to it that each sub-environment has a `Parametrized` for the targets, and no drift of its own.

    Raises:
        ValueError: If it cannot be so.
    """
    if any(env.call("has_wrapper_attr", "schedules")):
        raise ValueError(
            "the sub-environments are NonStationary already; give all changes to NonStationaryVector, or use the "
            "vector environment without it"
        )
    if not targets:
        return
    if isinstance(env, SyncVectorEnv):
        env.envs = [
            one if one.has_wrapper_attr("parameter_targets") else Parametrized(one, targets) for one in env.envs
        ]
    elif not all(env.call("has_wrapper_attr", "parameter_targets")):
        raise ValueError(
            "the sub-environments of an AsyncVectorEnv are in other processes and must be made ready there; build "
            'it with rl_rms.envs.make_vec(id, num_envs, changes, vectorization_mode="async")'
        )
    ready_for = env.call("parameter_targets")[0]
    if ready_for != targets:
        raise ValueError(
            f"the sub-environments were made ready to change {', '.join(ready_for)}, not {', '.join(targets)}; "
            "make the vector environment anew"
        )


def _find(env: Any) -> Parametrized:
    while not isinstance(env, Parametrized):
        env = env.env
    return env
