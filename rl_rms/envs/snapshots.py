"""Saves the state within an episode as JSON data, so that another environment can continue the episode.

For environments of registered classes and for MuJoCo environments, the state is saved with the random generator.
`register_state` registers a class. Gymnasium's classic control and toy text (except Blackjack), Atari, most of
MiniGrid and most environments of rl_rms are registered. `rl_rms.envs.replay` replays the episodes of other single
environments.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import EzPickle

from rl_rms.envs import atari_state, minigrid_state, mujoco_state
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.mujoco_state import is_mujoco
from rl_rms.envs.specs import ATARI, qualified


class _Registered(NamedTuple):
    """The registered state of a class: names of attributes, and functions that get and set the remaining state."""

    attributes: tuple[str, ...] = ()
    get: Callable[[Any], Any] | None = None
    set: Callable[[Any, Any], None] | None = None


_STATES: dict[str, _Registered] = {}


def register_state(
    env_class: type | str,
    *attributes: str,
    get: Callable[[Any], Any] | None = None,
    set: Callable[[Any, Any], None] | None = None,
) -> None:
    """Register an environment's state within an episode, in addition to ``np_random``.

    The state must consist of numbers, arrays, strings, bytes, None, and lists, tuples and dictionaries of these.
    Subclasses may have more state and are registered separately.

    Args:
        env_class: Class of the unwrapped environment, or its name as ``"module:Class"``.
        *attributes: Names of attributes.
        get: ``get(env)`` returns the state of the unwrapped environment that is not in ``attributes``; None if the
            attributes contain the whole state.
        set: ``set(env, value)`` restores a result of ``get``; None if ``get`` is None.

    Raises:
        ValueError: If only one of ``get`` and ``set`` is given.

    Examples:
        >>> import gymnasium as gym, random
        >>> class Dice(gym.Env):
        ...     count = 0
        ...     source = random.Random(0)
        >>> register_state(
        ...     Dice,
        ...     "count",
        ...     get=lambda env: env.source.getstate(),
        ...     set=lambda env, value: env.source.setstate(value),
        ... )
    """
    if (get is None) != (set is None):
        missing = "get" if get is None else "set"
        raise ValueError(f"register_state needs both get and set, got {missing}=None; give both functions")
    name = env_class if isinstance(env_class, str) else qualified(env_class)
    _STATES[name] = _Registered(attributes, get, set)


def has_known_state(env: Any) -> bool:
    """Whether the state of a single or vector environment, without its wrappers, can be read."""
    return qualified(type(env.unwrapped)) in _STATES or is_mujoco(env.unwrapped)


def known_state(env: Any) -> dict[str, Any]:
    """Read the state of an environment without its wrappers. `has_known_state` must be true.

    Raises:
        ValueError: If the state cannot be written as JSON.
    """
    env = env.unwrapped
    registered = _STATES.get(qualified(type(env)), _Registered())
    # Some attributes do not exist before the first reset.
    attributes = {name: getattr(env, name) for name in registered.attributes if hasattr(env, name)}
    state = {"generator": generator_state(env), "attributes": encode(attributes)}
    if registered.get is not None:
        state["own"] = encode(registered.get(env))
    return {**state, "mujoco": encode(mujoco_state.read(env))} if is_mujoco(env) else state


def restore_known_state(env: Any, state: Mapping[str, Any]) -> None:
    """Restore a state that `known_state` returned for an environment of the same class.

    Raises:
        ValueError: If an attribute is not registered, or an array's shape differs from the environment's.
    """
    env = env.unwrapped
    attributes = decode(state["attributes"])
    registered = _STATES.get(qualified(type(env)), _Registered())
    unknown = set(attributes).difference(registered.attributes)
    if unknown:
        raise ValueError(
            f"the state of {type(env).__name__} has the unknown attributes {sorted(unknown)}; use a state that an "
            "environment of this class saved"
        )
    for name, value in attributes.items():
        own = getattr(env, name, None)
        if isinstance(own, np.ndarray) and value is not None and np.shape(value) != own.shape:
            raise ValueError(f"{name} of {type(env).__name__} must have shape {own.shape}, got {np.shape(value)}")
    for name, value in attributes.items():
        setattr(env, name, value)
    if is_mujoco(env):
        mujoco_state.write(env, decode(state["mujoco"]))
    if registered.set is not None:
        registered.set(env, decode(state["own"]))
    set_generator(env, state["generator"])


def is_made_anew_by_pickle(env: Any) -> bool:
    """Whether an unwrapped environment loses its episode when it is pickled or copied."""
    return isinstance(env, EzPickle)


def generator_state(env: Any) -> dict[str, Any]:
    """Read the state of an unwrapped environment's random generator.

    An environment with several generators returns their states in a property ``generator_state``.

    Raises:
        ValueError: If the state cannot be read.
    """
    if hasattr(type(env), "generator_state"):
        states: dict[str, Any] = env.generator_state
        return states
    try:
        source = env.np_random
    except Exception as error:  # properties of a user's class may raise any error
        raise ValueError(f"its np_random cannot be read ({type(error).__name__}: {error})") from error
    if isinstance(source, np.random.RandomState):
        state: dict[str, Any] = encode(source.get_state(legacy=False))
    elif isinstance(source, np.random.Generator):
        state = encode(source.bit_generator.state)
    else:
        raise ValueError(
            f"its np_random must be a numpy.random.Generator or RandomState to be saved, got a "
            f"{type(source).__name__}"
        )
    return state


def set_generator(env: Any, state: Mapping[str, Any]) -> None:
    """Restore a state that the function `generator_state` returned."""
    if hasattr(type(env), "generator_state"):
        env.generator_state = state
    elif isinstance(env.np_random, np.random.RandomState):
        env.np_random.set_state(decode(state))
    else:
        env.np_random.bit_generator.state = decode(state)


_CONTROL, _TEXT = "gymnasium.envs.classic_control", "gymnasium.envs.toy_text"
CARTPOLE = f"{_CONTROL}.cartpole:CartPoleVectorEnv"
"""The class of Gymnasium's native CartPole."""
_VECTORS, _EPISODES = "rl_rms.envs.classic_control", ("state", "steps", "ended")
_RUNNERS, _PENDULUMS = "rl_rms.envs.mujoco.runners", "rl_rms.envs.mujoco.pendulums"
_SIMULATIONS = ("simulations", "steps", "ended")
for _name, _attributes in {
    f"{_CONTROL}.cartpole:CartPoleEnv": ("state", "steps_beyond_terminated"),
    CARTPOLE: (
        "state",
        "steps",
        "prev_done",
        "steps_beyond_terminated",
        "low",
        "high",
    ),
    f"{_CONTROL}.pendulum:PendulumEnv": ("state", "last_u"),
    f"{_CONTROL}.acrobot:AcrobotEnv": ("state",),
    f"{_CONTROL}.mountain_car:MountainCarEnv": ("state",),
    f"{_CONTROL}.continuous_mountain_car:Continuous_MountainCarEnv": ("state",),
    f"{_VECTORS}.pendulum:PendulumVectorEnv": (*_EPISODES, "last_u"),
    f"{_VECTORS}.acrobot:AcrobotVectorEnv": _EPISODES,
    f"{_VECTORS}.mountain_car:MountainCarVectorEnv": _EPISODES,
    f"{_VECTORS}.mountain_car:MountainCarContinuousVectorEnv": _EPISODES,
    f"{_RUNNERS}:AntVectorEnv": _SIMULATIONS,
    f"{_RUNNERS}:HalfCheetahVectorEnv": _SIMULATIONS,
    f"{_RUNNERS}:HopperVectorEnv": _SIMULATIONS,
    f"{_RUNNERS}:SwimmerVectorEnv": _SIMULATIONS,
    f"{_RUNNERS}:Walker2dVectorEnv": _SIMULATIONS,
    f"{_PENDULUMS}:InvertedDoublePendulumVectorEnv": _SIMULATIONS,
    f"{_PENDULUMS}:InvertedPendulumVectorEnv": _SIMULATIONS,
    f"{_TEXT}.frozen_lake:FrozenLakeEnv": ("s", "lastaction"),
    f"{_TEXT}.cliffwalking:CliffWalkingEnv": ("s", "lastaction"),
    f"{_TEXT}.taxi:TaxiEnv": ("s", "lastaction", "fickle_step", "taxi_orientation"),
    "rl_rms.envs.toys:GaussianBandit": (),
    "rl_rms.envs.toys:TwoStates": ("state",),
    "rl_rms.envs.lending:Lending": ("group", "repays"),
}.items():
    register_state(_name, *_attributes)
register_state(ATARI, get=atari_state.read, set=atari_state.write)
for _name in minigrid_state.CLASSES:
    register_state(_name, get=minigrid_state.read, set=minigrid_state.write)
