"""The backend of Sync and Async vector environments, whose sub-environments set their own parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, iterate

from rl_rms.envs.backend import OTHERWISE, Backend, Transitions
from rl_rms.envs.checks import check_reset
from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.layers import Layers, State, WrapperStates, check_wrappers
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.parametrized import Parametrized, find_parametrized
from rl_rms.envs.resilient_sync import continue_sync
from rl_rms.envs.targets import parse_targets


class SubEnvs(Backend):
    """The backend of Sync and Async vector environments.

    Args:
        env: The vector environment. The sub-environments of a SyncVectorEnv get a `Parametrized`, unless they
            already have one.
        targets: Names of the targets, see `rl_rms.envs.targets`.

    Raises:
        ValueError: If the sub-environments are non-stationary already, have a `Parametrized` for other targets, or
            are in workers and lack a `Parametrized` although there are targets.
    """

    def __init__(self, env: VectorEnv, targets: Sequence[str]) -> None:
        super().__init__()
        self._env = env
        base = env.unwrapped
        assert isinstance(base, (SyncVectorEnv, AsyncVectorEnv))
        self._base: SyncVectorEnv | AsyncVectorEnv = base
        self._is_ready = _make_ready(self._base, tuple(targets))
        # The sub-environments in this process, their Parametrized wrappers, and the wrappers around Parametrized.
        self._outermost: list[Any] = []
        self._sub_envs: list[Parametrized] = []
        self._sub_layers: list[Layers] = []
        self._find_sub_envs()
        self._layers = Layers(env, base)
        # In workers, the wrappers are accessible through the outermost wrapper, which ResilientAsyncVectorEnv
        # adds.
        is_reached = isinstance(base, SyncVectorEnv) or all(base.call("has_wrapper_attr", "wrapper_states"))
        self._can_save = self._is_ready and is_reached
        self._columns: tuple[Column | None, ...] = (None,) * len(targets)
        transforms = parse_targets(targets)
        self.moves_observations = any(one.group == "observation" for one in transforms)
        self.has_noise = any(one.has_noise for one in transforms)
        self.is_drawn = any(one.is_drawn for one in transforms)
        self.episodic = self._get("parameter_episodic")[0] if targets else ()
        self.late = self._get("parameter_late")[0] if targets else ()
        self.needs_valid = bool(self.episodic)

    def _find_sub_envs(self) -> None:
        """Find the sub-environments in this process, including new ones that replaced failed ones."""
        envs = self._base.envs if isinstance(self._base, SyncVectorEnv) else []
        for i, env in enumerate(envs):
            if i == len(self._outermost) or env is not self._outermost[i]:
                inside = find_parametrized(env)
                self._outermost[i : i + 1] = [env]
                self._sub_envs[i : i + 1] = [inside]
                self._sub_layers[i : i + 1] = [Layers(env, inside)]

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        self._find_sub_envs()
        inner = self._get("lost_wrappers") if self._can_save else []
        return sorted({*self._lost_outer_wrappers(), *(name for names in inner for name in names)})

    def _lost_outer_wrappers(self) -> set[str]:
        """Return the names of the vector wrappers and wrappers around `Parametrized` that cannot be saved."""
        if isinstance(self._base, SyncVectorEnv):
            each = [layers.lost for layers in self._sub_layers]
        else:
            each = self._get("lost_outer_wrappers") if self._can_save else []
        return {*self._layers.lost, *(name for names in each for name in names)}

    @property
    def wrapper_states(self) -> WrapperStates:
        """The state of each sub-environment's wrappers; empty if the wrappers cannot be reached."""
        if not self._can_save:
            return []
        self._find_sub_envs()
        return list(zip(self._get("inner_wrapper_states"), self._outer_states(), strict=True))

    @wrapper_states.setter
    def wrapper_states(self, states: WrapperStates) -> None:
        inner, outer = map(list, zip(*states, strict=True))
        self._put("inner_wrapper_states", inner)
        self._load_outer_states(outer)

    def _outer_states(self) -> list[State]:
        if isinstance(self._base, SyncVectorEnv):
            return [layers.state_dict() for layers in self._sub_layers]
        return self._get("wrapper_states")

    def _load_outer_states(self, states: list[State]) -> None:
        if isinstance(self._base, SyncVectorEnv):
            for layers, state in zip(self._sub_layers, states, strict=True):
                layers.load_state_dict(state)
        else:
            self._put("wrapper_states", states)

    def set(self, columns: tuple[Column, ...]) -> None:
        """Set each sub-environment's values, if any value changed."""
        if all(map(_same, columns, self._columns)):
            return
        self._columns = columns
        self._put("parameter_values", self._rows(columns))

    def place(self, noise_key: NoiseKey) -> None:
        """Set the index and the clock that the random numbers of each sub-environment depend on."""
        rows = [NoiseKey(noise_key.seed, *((one,) for one in each)) for each in zip(*noise_key[1:], strict=True)]
        self._put("parameter_noise_key", rows)

    def current(self) -> tuple[float, ...]:
        """Return the current value of each target in the first sub-environment."""
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
        """Make the ``ending`` sub-environments truncate their episodes in the next step."""
        rows = self._rows(columns)
        self._put("parameter_upcoming", [row if ends else None for row, ends in zip(rows, ending, strict=True)])
        # The ending sub-environments will set new values themselves, so the current values are no longer known.
        self._columns = (None,) * len(columns)

    def snapshot(self) -> Any:
        """Return the states of sub-environments and wrappers, and the last observations; see `Backend`."""
        if self.last is None:
            return None
        if not self._can_save:
            self._notices.give(
                "the state of the AsyncVectorEnv's sub-environments within their episodes cannot be saved; make "
                'the vector environment with rl_rms.envs.make_vec(..., vectorization_mode="async") or '
                "rl_rms.envs.ResilientAsyncVectorEnv",
            )
            return None
        self._warn_of_lost(self.lost_wrappers)
        if self._lost_outer_wrappers():
            return None
        each = self._get("parameter_snapshot")
        self._warn_of_problems()
        if None in each:
            return None
        return {
            "each": each,
            "wrappers": self._outer_states(),
            "vector_wrappers": self._layers.state_dict(),
            "last": encode(self.last),
        }

    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Restore each sub-environment's snapshot."""
        if not self._can_save or "each" not in snapshot:
            raise ValueError(OTHERWISE)
        self._check_wrappers(snapshot)
        # The reset cancels the autoresets that the next step would make.
        self._env.reset()
        self._find_sub_envs()
        self._put("parameter_snapshot", snapshot["each"])
        self._warn_of_problems()
        self.last = decode(snapshot["last"])
        self._load_outer_states(snapshot["wrappers"])
        if isinstance(self._base, SyncVectorEnv):
            continue_sync(self._base, self.last, resetting)
        else:
            # A later reset of some sub-environments returns the observations of the other sub-environments again.
            each = list(iterate(self._base.observation_space, self.last))
            concatenate(self._base.single_observation_space, each, self._base.observations)
            self._put("reset_is_due", resetting.tolist())
        self._layers.load_state_dict(snapshot["vector_wrappers"])
        self._columns = (None,) * len(self._columns)

    def _warn_of_problems(self) -> None:
        """Warn about states that were not saved or not restored exactly, once for each reason."""
        for problem in dict.fromkeys(self._get("parameter_problem")):
            if problem is not None:
                self._notices.give(problem)

    def _check_wrappers(self, snapshot: Any) -> None:
        """Raise an error if the snapshot was saved with other wrappers. The check changes nothing.

        Raises:
            OtherWrappersError: If the wrappers differ.
        """
        self._find_sub_envs()
        if isinstance(self._base, SyncVectorEnv):
            outer = [layers.names for layers in self._sub_layers]
        else:
            outer = self._get("outer_wrapper_names")
        check_wrappers(snapshot["vector_wrappers"], self._layers.names)
        for states, names in zip(snapshot["wrappers"], outer, strict=True):
            check_wrappers(states, names)
        for one, names in zip(snapshot["each"], self._get("wrapper_names"), strict=True):
            check_wrappers(one["wrappers"], names)

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


def _same(new: Column, old: Column | None) -> bool:
    # np.array_equal is too slow for scalars.
    has_array = isinstance(new, np.ndarray) or isinstance(old, np.ndarray)
    return np.array_equal(new, old) if has_array else new == old  # type: ignore[arg-type]


def _make_ready(env: SyncVectorEnv | AsyncVectorEnv, targets: tuple[str, ...]) -> bool:
    """Ensure that each sub-environment has a `Parametrized` for the targets and is not a NonStationary.

    Returns:
        False if there is no target and the sub-environments of workers lack a `Parametrized`; otherwise True.

    Raises:
        ValueError: As for `SubEnvs`.
    """
    if any(env.call("has_wrapper_attr", "schedules")):
        raise ValueError(
            "the sub-environments are NonStationary already; give all changes to NonStationaryVector, or leave "
            "NonStationaryVector out"
        )
    if isinstance(env, SyncVectorEnv):
        env.envs = [
            one if one.has_wrapper_attr("parameter_targets") else Parametrized(one, targets) for one in env.envs
        ]
    elif not all(env.call("has_wrapper_attr", "parameter_targets")):
        if not targets:
            return False
        raise ValueError(
            "the sub-environments of an AsyncVectorEnv are in other processes and must be prepared there; make "
            'the vector environment with rl_rms.envs.make_vec(id, num_envs, changes, vectorization_mode="async")'
        )
    ready_for = env.call("parameter_targets")[0]
    if ready_for != targets:
        raise ValueError(
            f"the sub-environments were prepared to change {', '.join(ready_for) or 'nothing'}, not "
            f"{', '.join(targets) or 'nothing'}; make a new vector environment"
        )
    return True
