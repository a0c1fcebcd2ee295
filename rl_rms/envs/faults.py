"""Environments that fail: found, told of by number, seed and step, and made anew where that is asked for.

A sub-environment fails when it raises, or when what it returns is not what its spaces and Gymnasium's interface
promise; one in a worker (`rl_rms.envs.worker_faults`) also when the worker ends or does not answer in time. An
observation that is none of its space in shape or kind would otherwise be broadcast or cut into its row, unseen.
"""

import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from rl_rms.envs.checks import check_reset, check_reward, is_scalar, shown
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.layers import Layers, State
from rl_rms.envs.noise import derive_seeds
from rl_rms.envs.parametrized import Transition, find_parametrized

# Restarts of one sub-environment without a good step between them, after which it is given up.
MOST_IN_A_ROW = 5
# What Parametrized is told to be and to remain, as opposed to what holds for one step.
LASTING = ("parameter_values", "parameter_moment")

# The usual ones, which are recognized in no time.
_REALS = frozenset({float, int, np.float64, np.float32})
_BOOLS = frozenset({bool, np.bool_})


class EnvError(RuntimeError):
    """Sub-environments failed.

    Args:
        indices: Their numbers.
        seeds: The seed that each was reset with last, None where there was none.
        problem: What happened.
        mend: What can be done.

    Attributes:
        when: When it happened, once somebody who counts has said so.
    """

    def __init__(self, indices: Sequence[int], seeds: Sequence[int | None], problem: str, mend: str) -> None:
        super().__init__(indices, seeds, problem, mend)
        self.indices, self.seeds, self.problem, self.mend = tuple(indices), tuple(seeds), problem, mend
        self.when = ""

    def __str__(self) -> str:
        many = len(self.indices) > 1
        numbers = " and ".join(map(str, self.indices))
        seeds = " and ".join("none" if seed is None else str(seed) for seed in self.seeds)
        who = f"sub-environment{'s' if many else ''} {numbers} (seed{'s' if many else ''} {seeds})"
        return f"{who} failed{self.when}: {self.problem}; {self.mend}"


@dataclass(frozen=True)
class Fault:
    """What one sub-environment did wrong.

    Attributes:
        problem: In words.
        error: The error that it raised, if it did.
    """

    problem: str
    error: Exception | None = None


class Watch:
    """Who failed how often, and what is to be done about it.

    Args:
        num_envs: Number of sub-environments.

    Attributes:
        on_error: ``"raise"`` or ``"restart"``.
        timeout: Seconds that a worker may take over a step or a reset, None for ever.
        first_index: What errors and warnings call the first sub-environment.
        seeds: What each sub-environment was seeded with last.
        restarts: How often each was made anew.
        num_restarts: How often any was.
        in_a_row: How often since its last good step.
    """

    def __init__(self, num_envs: int) -> None:
        self.on_error: OnEnvError = "raise"
        self.timeout: float | None = None
        self.first_index = 0
        self.seeds: list[int | None] = [None] * num_envs
        self.restarts = [0] * num_envs
        self.num_restarts = 0
        self.in_a_row = [0] * num_envs

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Note what the sub-environments are seeded with; None is nothing new."""
        self.seeds = [old if new is None else new for old, new in zip(self.seeds, seeds, strict=True)]

    def meet(self, faults: Mapping[int, Fault]) -> None:
        """Count the faults and warn of them, in order to restart; their seeds are new ones then.

        Raises:
            EnvError: If they are to be raised, or one of them came too often.
        """
        hopeless = [index for index in faults if self.in_a_row[index] >= MOST_IN_A_ROW]
        if self.on_error == "raise" or hopeless:
            mend = "mend the environment, or have it made anew each time with on_env_error='restart'"
            if hopeless:
                mend = (
                    f"it was made anew {MOST_IN_A_ROW} times in a row without one good step: mend the environment"
                )
            told = {index: faults[index] for index in hopeless or faults}
            problem = "; ".join(dict.fromkeys(fault.problem for fault in told.values()))
            seeds = [self.seeds[index] for index in told]
            numbers = [self.first_index + index for index in told]
            raise EnvError(numbers, seeds, problem, mend) from next(iter(told.values())).error
        for index, fault in faults.items():
            self.restarts[index] += 1
            self.num_restarts += 1
            self.in_a_row[index] += 1
            warnings.warn(
                f"sub-environment {self.first_index + index} (seed {self.seeds[index]}) failed and is made anew "
                f"(restart {self.restarts[index]}): {fault.problem}",
                stacklevel=2,
            )
            if self.seeds[index] is not None:
                # Another one, or what chance brought about would come about again; the same in every such run.
                self.seeds[index] = derive_seeds((self.seeds[index] or 0, self.restarts[index]))[0]

    def state_dict(self) -> dict[str, Any]:
        """All counts, as plain JSON data."""
        return {"seeds": list(self.seeds), "restarts": list(self.restarts), "in_a_row": list(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from a state of `state_dict`."""
        # In place: those who are watched may have them at hand.
        self.seeds[:], self.restarts[:] = state["seeds"], state["restarts"]
        self.in_a_row[:] = state["in_a_row"]
        self.num_restarts = sum(self.restarts)


class Look:
    """Looks at what an environment returns: passes on what its observation space and the interface allow.

    Numbers outside of a Box's bounds are left alone, as Gymnasium's own checker only warns of them; so are kinds
    of numbers that NumPy casts safely or within the same kind, such as float64 for float32.

    Args:
        space: The observation space.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space
        # What almost every step has, and is recognized by in no time.
        self._shape, self._dtype = space.shape, space.dtype
        self._is_box = isinstance(space, spaces.Box)

    def reset(self, result: Any) -> tuple[Any, dict[str, Any]]:
        """What a reset returned.

        Raises:
            ValueError: If it is none of that.
        """
        observation, info = check_reset(result)
        self._check(observation, info)
        return observation, info

    def step(self, transition: Any) -> Transition:
        """What a step returned.

        Raises:
            ValueError: If it is none of that.
        """
        if type(transition) is tuple and len(transition) == 5:
            observation, reward, terminated, truncated, info = transition
            if (
                type(observation) is np.ndarray
                and observation.dtype is self._dtype
                and observation.shape == self._shape
                and type(reward) in _REALS
                and type(terminated) in _BOOLS
                and type(truncated) in _BOOLS
                and type(info) is dict
                and self._is_box
            ):
                return transition
        return self._looked_through(transition)

    def _looked_through(self, transition: Any) -> Transition:
        """A transition of an unusual kind, if it is one."""
        if not (isinstance(transition, tuple) and len(transition) == 5):
            raise ValueError(
                f"step() must return (observation, reward, terminated, truncated, info), got {shown(transition)}"
            )
        observation, reward, terminated, truncated, info = transition
        self._check(observation, info)
        check_reward(reward)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if type(value) not in _BOOLS and not is_scalar(value, "b"):
                raise ValueError(f"{name} must be True or False, got {shown(value)}")
        return observation, reward, terminated, truncated, info

    def _check(self, observation: Any, info: Any) -> None:
        check_observation(self._space, observation)
        if not isinstance(info, dict):
            raise ValueError(f"info must be a dictionary, got {shown(info)}")


class Checked(gym.Wrapper[Any, Any, Any, Any]):
    """Raises a ValueError where an environment returns what its observation space or the interface does not allow.

    A Box's bounds are not looked at, nor are kinds of numbers that NumPy casts within the same kind.

    Args:
        env: The environment.

    Attributes:
        reset_is_due: Whether the next step begins an episode instead, as an autoreset does.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._look = Look(env.observation_space)
        is_inside = env.has_wrapper_attr("parameter_targets")
        self._layers = Layers(env, find_parametrized(env) if is_inside else env.unwrapped)
        self.reset_is_due = False

    @property
    def lost_outer_wrappers(self) -> list[str]:
        """Names of the wrappers around the environment that changes whose state cannot be saved."""
        return self._layers.lost

    @property
    def wrapper_states(self) -> State:
        """The state of the other wrappers around it."""
        return self._layers.state_dict()

    @wrapper_states.setter
    def wrapper_states(self, states: State) -> None:
        self._layers.load_state_dict(states)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.reset_is_due = False
        return self._look.reset(self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> Transition:
        """Make a transition, or begin an episode if ``reset_is_due``.

        The last transition of an episode is a copy, which the next reset cannot change.
        """
        if self.reset_is_due:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        transition = self._look.step(self.env.step(action))
        return copied(transition) if transition[2] or transition[3] else transition


def watch(env: VectorEnv, on_error: OnEnvError | None = None, timeout: float | None = None) -> Watch | None:
    """Have the sub-environments of a vector environment watched, those of Sync and Async ones.

    Args:
        env: The vector environment; is changed in place.
        on_error: What is to be done about a fault; None leaves it as it is, ``"raise"`` at first.
        timeout: Seconds that a worker may take over a step or a reset; None leaves it as it is, for ever at first.

    Returns:
        The counts; None where there are no sub-environments to be watched.

    Raises:
        ValueError: If it is not possible in this environment.
    """
    from rl_rms.envs.local_faults import WatchedSync  # which stand on this module
    from rl_rms.envs.worker_faults import WatchedAsync

    base: Any = env.unwrapped
    kind = type(base).__name__
    if timeout is not None and not isinstance(base, AsyncVectorEnv):
        raise ValueError(
            f"env_timeout needs sub-environments in workers, which can be ended from outside, got {kind}; make "
            'them with vectorization_mode="async", or leave env_timeout out'
        )
    watched = {SyncVectorEnv: WatchedSync, AsyncVectorEnv: WatchedAsync}
    if type(base) not in (*watched, *watched.values()):
        if on_error == "restart":
            raise ValueError(
                f"on_env_error='restart' needs sub-environments that can be made anew one by one, which {kind} "
                'does not offer; make them with vectorization_mode="sync" or "async", or leave on_env_error out'
            )
        return None
    if on_error == "restart":
        _check_restartable(base)
    counts: Watch | None = vars(base).get("fault_watch")
    if counts is None:
        counts = base.fault_watch = Watch(base.num_envs)
        # In place, since whatever stands around it holds on to it, and calls it itself.
        base.__class__ = watched[type(base)]
        base.begin_watch()
    counts.on_error = on_error or counts.on_error
    counts.timeout = counts.timeout if timeout is None else timeout
    return counts


def broken_in(infos: Mapping[str, Any], truncated: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Where a vector step was no transition, since the sub-environment failed in it; None if nowhere.

    Args:
        infos: The vector step's.
        truncated: The vector step's; a sub-environment that failed at a reset has been truncated before.
    """
    ended = infos.get("final_info", infos)
    if RESTARTED not in ended:
        return None
    broken: npt.NDArray[np.bool_] = truncated & np.asarray(ended[RESTARTED], dtype=np.bool_)
    return broken if broken.any() else None


def seeds_of(seed: Any, num_envs: int) -> list[int | None]:
    """The sub-environments' seeds at a reset: one's successors, or as many as there are.

    Raises:
        ValueError: If there are more or fewer.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(num_envs)]
    seeds = [None if one is None else int(one) for one in seed]
    if len(seeds) != num_envs:
        raise ValueError(f"seed must be one, or one for each of {num_envs} sub-environments, got {len(seeds)}")
    return seeds


def reset_mask_of(
    options: dict[str, Any] | None, num_envs: int
) -> tuple[npt.NDArray[np.bool_], dict[str, Any] | None]:
    """Which sub-environments a reset is for, and its options without that.

    Raises:
        ValueError: If ``options["reset_mask"]`` says it wrongly.
    """
    if options is None or "reset_mask" not in options:
        return np.ones(num_envs, dtype=np.bool_), options
    options = dict(options)
    mask = np.asarray(options.pop("reset_mask"))
    if mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f'options["reset_mask"] must be an array of bool, shape ({num_envs},), with one True at least, got '
            f"{shown(mask)}"
        )
    return mask, options


def copied(value: Any) -> Any:
    """Copy arrays and the dictionaries, lists and tuples that hold them; other objects are shared."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return value


def fault_of(error: Exception, trace: str = "") -> Fault:
    """An environment's error in words, with the place in the code that it comes from.

    Args:
        error: The error.
        trace: Its traceback as text, where it comes from another process.
    """
    if trace:
        places = re.findall(r'File "(.+)", line (\d+)', trace)
    else:
        places = [(frame.filename, str(frame.lineno)) for frame in traceback.extract_tb(error.__traceback__)]
    where = f" ({places[-1][0]}, line {places[-1][1]})" if places and places[-1][0] != __file__ else ""
    return Fault(f"{type(error).__name__}: {error}{where}", error)


def check_observation(space: gym.Space[Any], observation: Any, name: str = "observation") -> None:
    """Refuse what is none of a space's observations, but for bounds and safe casts of a Box.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        is_dict = isinstance(space, spaces.Dict)
        parts = dict(space.items() if isinstance(space, spaces.Dict) else enumerate(space))
        good = isinstance(observation, Mapping if is_dict else tuple)
        if not (good and (parts.keys() <= observation.keys() if is_dict else len(parts) == len(observation))):
            raise ValueError(f"{name} must be of {space}, got {shown(observation)}")
        for key, part in parts.items():
            check_observation(part, observation[key], f"{name}[{key!r}]")
    elif isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Discrete)):
        try:
            array = np.asarray(observation)
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.shape != space.shape:
            got = shown(observation) if array.dtype == object else f"shape {array.shape}"
            raise ValueError(f"{name} must have shape {space.shape}, as its space {space} says, got {got}")
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            raise ValueError(
                f"{name} must be of dtype {space.dtype}, as its space {space} says, got {array.dtype}"
            )
        if not isinstance(space, spaces.Box) and not space.contains(array.astype(space.dtype)[()]):
            raise ValueError(f"{name} must be one of {space}, got {shown(observation)}")


def _check_restartable(base: Any) -> None:
    """Refuse sub-environments that could not be put in the failed one's place.

    Raises:
        ValueError: If there are such.
    """
    if any(base.call("has_wrapper_attr", "schedules")):
        raise ValueError(
            "on_env_error='restart' cannot be with sub-environments that change each by itself, whose clocks "
            'would be lost; make them with rl_rms.envs.make_vec(..., sharing="independent")'
        )
    if not isinstance(base.env_fns, Sequence):
        raise ValueError(
            "on_env_error='restart' needs the functions that made the sub-environments, which gymnasium.make_vec "
            "did not keep before Gymnasium 1.4; make them with rl_rms.envs.make_vec, or with "
            "SyncVectorEnv([make] * num_envs)"
        )
    if getattr(base, "max_concurrency", None) is not None:
        raise ValueError(
            "on_env_error='restart' cannot be with max_concurrency, since a worker that is ended keeps its turn; "
            "leave one of them out"
        )


def is_set(value: Any) -> bool:
    """Whether somebody has said what an environment's `LASTING` attribute is to be."""
    return value is not None and None not in value
