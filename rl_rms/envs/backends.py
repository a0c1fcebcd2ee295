"""How a vector environment's values reach its sub-environments, and their transitions come back moved.

Sub-environments in this process or in workers are each a `Parametrized` that does the moving itself; a native
vector environment, which has none, is moved as a whole.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, iterate

from rl_rms.envs.checks import check_reset
from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.layers import Layers, lost_sentence
from rl_rms.envs.noise import Moment
from rl_rms.envs.notices import Notices
from rl_rms.envs.parameter_setter import ParameterSetter
from rl_rms.envs.parametrized import Parametrized, find_parametrized
from rl_rms.envs.snapshots import decode, encode, has_known_state, known_state, restore_known_state
from rl_rms.envs.transforms import DRAWN, NOISES

OTHERWISE = (
    "the state was saved of a vector environment that was made otherwise; make it with the same "
    "vectorization_mode and the same wrappers"
)
Transitions = tuple[Any, Any, Any, Any, dict[str, Any]]


class Backend(ABC):
    """One kind of vector environment.

    Attributes:
        moves_observations: Whether any target is an ``observation.*``.
        has_noise: Whether random numbers are drawn at each env step.
        is_drawn: Whether any target needs random numbers.
        episodic: Which targets, by their numbers, end the episodes in progress when they change.
        late: Targets that take effect only with the next reset.
        asks_where: Whether `step` asks which of the sub-environments are valid.
        last: The observations that were returned last; None before the first reset.
        lost_wrappers: Names of the wrappers whose state cannot be saved.
    """

    moves_observations: bool
    has_noise: bool
    is_drawn: bool
    episodic: tuple[int, ...]
    late: tuple[str, ...]
    asks_where: bool
    last: Any = None
    _layers: Layers

    def __init__(self) -> None:
        self._notices = Notices()

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        return self._layers.lost

    def _warn_of_lost(self, names: list[str]) -> None:
        if names:
            self._notices.give(lost_sentence(names))

    @abstractmethod
    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the targets, in their order: a number for all, or one for each, shape ``(num_envs,)``."""

    @abstractmethod
    def place(self, moment: Moment) -> None:
        """Say who draws random numbers, and when."""

    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """The values that the targets have now."""

    @abstractmethod
    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""

    @abstractmethod
    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step, in which the sub-environments that are not ``valid`` only begin an episode."""

    @abstractmethod
    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Say for which sub-environments the next transition truncates the episode, and what holds after it."""

    @abstractmethod
    def snapshot(self) -> Any:
        """The sub-environments within their episodes as plain JSON data, or None, with a warning."""

    @abstractmethod
    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Bring the sub-environments to where others were; ``resetting`` are those that begin in the next step."""


class SubEnvs(Backend):
    """Sync and Async: rows of values for the sub-environments.

    Args:
        env: The vector environment.
        targets: What is to be set.

    Raises:
        ValueError: If the sub-environments change already, or those in workers are not ready for it.
    """

    def __init__(self, env: VectorEnv, targets: Sequence[str]) -> None:
        super().__init__()
        self._env = env
        base = env.unwrapped
        assert isinstance(base, (SyncVectorEnv, AsyncVectorEnv))
        self._base: SyncVectorEnv | AsyncVectorEnv = base
        self._is_ready = _make_ready(self._base, tuple(targets))
        self._find_sub_envs()
        self._layers = Layers(env, base)
        # Workers' wrappers are reached through the outermost one, which make_vec adds.
        is_reached = isinstance(base, SyncVectorEnv) or all(base.call("has_wrapper_attr", "wrapper_states"))
        self._can_save = self._is_ready and is_reached
        self._columns: tuple[Column | None, ...] = (None,) * len(targets)
        self.moves_observations = any(target.startswith("observation.") for target in targets)
        self.has_noise = not set(NOISES).isdisjoint(targets)
        self.is_drawn = self.has_noise or not set(DRAWN).isdisjoint(targets)
        self.episodic = self._get("parameter_episodic")[0] if targets else ()
        self.late = self._get("parameter_late")[0] if targets else ()
        self.asks_where = bool(self.episodic)

    def _find_sub_envs(self) -> None:
        """Find those in this process, which are others after one was made anew."""
        envs = self._base.envs if isinstance(self._base, SyncVectorEnv) else []
        self._sub_envs = [find_parametrized(one) for one in envs]
        self._sub_layers = [Layers(one, sub_env) for one, sub_env in zip(envs, self._sub_envs, strict=True)]

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        inner = self._get("lost_wrappers") if self._can_save else []
        return sorted({*self._lost_outer_wrappers(), *(name for names in inner for name in names)})

    def _lost_outer_wrappers(self) -> set[str]:
        """Names of those around the environments that a replay restores."""
        if isinstance(self._base, SyncVectorEnv):
            each = [layers.lost for layers in self._sub_layers]
        else:
            each = self._get("lost_outer_wrappers") if self._can_save else []
        return {*self._layers.lost, *(name for names in each for name in names)}

    def set(self, columns: tuple[Column, ...]) -> None:
        """Hand each sub-environment its values, if any is another than before."""
        if all(map(_same, columns, self._columns)):
            return
        self._columns = columns
        self._put("parameter_values", self._rows(columns))

    def place(self, moment: Moment) -> None:
        """Tell each sub-environment who it is and what its clock reads."""
        rows = [Moment(moment.seed, *((one,) for one in each)) for each in zip(*moment[1:], strict=True)]
        self._put("parameter_moment", rows)

    def current(self) -> tuple[float, ...]:
        """Those of the first sub-environment: they are made alike."""
        values: tuple[float, ...] = self._base.call("current_values")[0] if self._is_ready else ()
        return values

    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""
        self.last, infos = check_reset(self._env.reset(seed=seed, options=options))
        if RESTARTED in infos:
            self._find_sub_envs()
        return self.last, infos

    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step."""
        transitions = self._env.step(actions)
        self.last = transitions[0]
        if RESTARTED in transitions[4] or RESTARTED in transitions[4].get("final_info", ()):
            self._find_sub_envs()
        return transitions

    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Tell each sub-environment whose next transition ends its episode."""
        rows = self._rows(columns)
        self._put("parameter_upcoming", [row if ends else None for row, ends in zip(rows, ending, strict=True)])
        # They put the values in force themselves.
        self._columns = (None,) * len(columns)

    def snapshot(self) -> Any:
        """Each sub-environment's own, and what was observed last."""
        if self.last is None:
            return None
        if not self._can_save:
            self._notices.give(
                "the state of these AsyncVectorEnv's sub-environments within their episodes cannot be kept; make "
                'it with rl_rms.envs.make_vec(..., vectorization_mode="async")',
            )
            return None
        self._warn_of_lost(self.lost_wrappers)
        if self._lost_outer_wrappers():
            return None
        each = self._get("parameter_snapshot")
        self._warn_of_problems()
        if None in each:
            return None
        if isinstance(self._base, SyncVectorEnv):
            wrappers = [layers.state_dict() for layers in self._sub_layers]
        else:
            wrappers = self._get("wrapper_states")
        return {
            "each": each,
            "wrappers": wrappers,
            "vector_wrappers": self._layers.state_dict(),
            "last": encode(self.last),
        }

    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Hand each sub-environment its own."""
        if not self._can_save or "each" not in snapshot:
            raise ValueError(OTHERWISE)
        # Whatever they have been doing, none of them is to begin an episode of its own accord now.
        self._env.reset()
        self._put("parameter_snapshot", snapshot["each"])
        self._warn_of_problems()
        if isinstance(self._base, SyncVectorEnv):
            for layers, states in zip(self._sub_layers, snapshot["wrappers"], strict=True):
                layers.load_state_dict(states)
            self._base._autoreset_envs[:] = resetting
        else:
            self._put("wrapper_states", snapshot["wrappers"])
            self._put("reset_is_due", resetting.tolist())
        self._layers.load_state_dict(snapshot["vector_wrappers"])
        self._columns = (None,) * len(self._columns)
        self.last = decode(snapshot["last"])
        self._remember(self.last)

    def _warn_of_problems(self) -> None:
        """Warn of states that were not saved or not restored exactly, once of each reason."""
        for problem in dict.fromkeys(self._get("parameter_problem")):
            if problem is not None:
                self._notices.give(problem)

    def _remember(self, observations: Any) -> None:
        """Let the vector environment have observed this, for a reset of some that shows the others' again."""
        space = self._base.single_observation_space
        each = list(iterate(self._base.observation_space, observations))
        if isinstance(self._base, SyncVectorEnv):
            self._base._env_obs = each
        else:
            concatenate(space, each, self._base.observations)

    def _rows(self, columns: tuple[Column, ...]) -> list[tuple[float, ...]]:
        if not any(isinstance(column, np.ndarray) for column in columns):
            return [columns] * self._env.num_envs  # type: ignore[list-item]
        each = [np.broadcast_to(column, self._env.num_envs).tolist() for column in columns]
        return list(zip(*each, strict=True))

    def _get(self, name: str) -> list[Any]:
        if isinstance(self._base, AsyncVectorEnv):
            return list(self._base.call(name))
        return [getattr(sub_env, name) for sub_env in self._sub_envs]

    def _put(self, name: str, values: list[Any]) -> None:
        if isinstance(self._base, AsyncVectorEnv):
            self._base.set_attr(name, values)
        for sub_env, value in zip(self._sub_envs, values, strict=False):
            setattr(sub_env, name, value)


class Native(Backend):
    """A vector environment of its own kind.

    Args:
        env: The vector environment.
        targets: What is to be set.
        arrays: The targets whose columns hold one value for each sub-environment.
    """

    def __init__(self, env: VectorEnv, targets: Sequence[str], arrays: Sequence[str]) -> None:
        super().__init__()
        self._env = env
        self._layers = Layers(env, env.unwrapped)
        self._setter = ParameterSetter(
            env.unwrapped, targets, env.single_observation_space, env.single_action_space, arrays, env.num_envs
        )
        self.episodic = self._setter.episodic
        if self.episodic:
            raise ValueError(
                f"{targets[self.episodic[0]]!r} ends episodes when it changes, which "
                f"{type(env.unwrapped).__name__} cannot do for one sub-environment; use "
                'vectorization_mode="sync"'
            )
        self._same_step = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        self.moves_observations = self._setter.moves_observations
        self.late = self._setter.late
        self.asks_where = self._setter.moves
        self.has_noise = self._setter.has_noise
        self.is_drawn = self._setter.is_drawn

    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the vector environment's own parameters."""
        self._setter.set(columns)

    def place(self, moment: Moment) -> None:
        """Say who draws random numbers, and when."""
        self._setter.place(moment)

    def current(self) -> tuple[float, ...]:
        """Those of the vector environment."""
        return self._setter.current()

    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes."""
        mask = None if options is None else options.get("reset_mask")
        beginning = np.ones(self._env.num_envs, dtype=np.bool_) if mask is None else np.asarray(mask)
        observations, infos = check_reset(self._env.reset(seed=seed, options=options))
        self._setter.again()
        self._setter.begin(np.flatnonzero(beginning).tolist())
        if self.moves_observations:
            moved = self._setter.observation(observations, first=beginning)
            if not beginning.all():
                # The others' observations are those that their last transitions brought.
                moved[~beginning] = self.last[~beginning]
            observations = moved
        self.last = observations
        return observations, infos

    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step; reset frames have no reward to be moved."""
        setter = self._setter
        if setter.moves_actions:
            setter.begin(np.flatnonzero(~valid).tolist())
            actions = setter.action(actions)
        observations, rewards, terminated, truncated, infos = self._env.step(actions)
        if setter.moves_rewards:
            rewards = np.where(valid, setter.reward(np.asarray(rewards, dtype=np.float64)), rewards)
        if setter.moves_observations:
            if "final_obs" in infos:
                infos = {**infos, "final_obs": self._final(infos["final_obs"], observations)}
            first = np.logical_or(terminated, truncated) if self._same_step else ~valid
            observations = setter.observation(observations, first)
        if self._same_step:
            setter.begin(np.flatnonzero(np.logical_or(terminated, truncated)).tolist())
        self.last = observations
        return observations, rewards, terminated, truncated, infos

    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Has nobody to tell: there are no such targets here."""

    def snapshot(self) -> Any:
        """The vector environment's own, and what was observed last."""
        if self.last is None:
            return None
        if not has_known_state(self._env):
            self._notices.give(
                f"the state of {type(self._env.unwrapped).__name__} within its episodes is not known and cannot "
                "be kept; register_state says what it is"
            )
            return None
        lost = self.lost_wrappers
        if lost:
            self._warn_of_lost(lost)
            return None
        delayed = encode(self._setter.delayed)
        try:
            known = known_state(self._env)
        except ValueError as error:
            self._notices.give(
                f"the state of {type(self._env.unwrapped).__name__} within its episodes cannot be kept: {error}; "
                "a restored environment begins new episodes"
            )
            return None
        return {
            "known": known,
            "wrappers": self._layers.state_dict(),
            "last": encode(self.last),
            "delayed": delayed,
        }

    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Bring the vector environment to where another was; it knows itself which of its episodes begin."""
        if "known" not in snapshot or not has_known_state(self._env):
            raise ValueError(OTHERWISE)
        restore_known_state(self._env, snapshot["known"])
        self._layers.load_state_dict(snapshot["wrappers"])
        self._setter.delayed = decode(snapshot["delayed"])
        self.last = decode(snapshot["last"])

    def _final(self, final: Any, observations: Any) -> Any:
        """The moved final observations of the episodes that ended, None for the others."""
        ended = [i for i in range(len(final)) if final[i] is not None]
        batch = np.zeros_like(observations)
        batch[ended] = [final[i] for i in ended]
        moved = np.full(len(final), None, dtype=object)
        for i, observation in zip(ended, self._setter.observation(batch)[ended], strict=True):
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


def _make_ready(env: SyncVectorEnv | AsyncVectorEnv, targets: tuple[str, ...]) -> bool:
    """See to it that each sub-environment has a `Parametrized` for the targets, and no drift of its own.

    Returns:
        Whether it has one; workers do without where there is no target.

    Raises:
        ValueError: If there is a target and it cannot be so.
    """
    if any(env.call("has_wrapper_attr", "schedules")):
        raise ValueError(
            "the sub-environments are NonStationary already; give all changes to NonStationaryVector, or use the "
            "vector environment without it"
        )
    if isinstance(env, SyncVectorEnv):
        env.envs = [
            one if one.has_wrapper_attr("parameter_targets") else Parametrized(one, targets) for one in env.envs
        ]
    elif not all(env.call("has_wrapper_attr", "parameter_targets")):
        if not targets:
            return False
        raise ValueError(
            "the sub-environments of an AsyncVectorEnv are in other processes and must be made ready there; build "
            'it with rl_rms.envs.make_vec(id, num_envs, changes, vectorization_mode="async")'
        )
    ready_for = env.call("parameter_targets")[0]
    if ready_for != targets:
        raise ValueError(
            f"the sub-environments were made ready to change {', '.join(ready_for) or 'nothing'}, not "
            f"{', '.join(targets) or 'nothing'}; make the vector environment anew"
        )
    return True
