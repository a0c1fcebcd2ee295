"""An environment in the middle of an episode as plain JSON data, from which another one goes on exactly.

There are three ways to keep an episode:

- Known attributes (classic control, toy text, `register_state`) are saved with the random generator.
- MuJoCo's own state is saved from its data.
- Any other environment, such as Box2D's, replays the episode: the generator at its beginning and the actions and
  changes since are saved. A replay is exact if all random numbers come from ``np_random`` and the episode does not
  depend on earlier ones. Loading costs one env step for each env step of the episode. An episode of more than
  `LONGEST` env steps is not kept.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

# The longest episode that is replayed, in env steps.
LONGEST = 10_000

_STATES: dict[str, tuple[str, ...]] = {}
_FRESH: dict[str, Callable[[Any], None]] = {}

Settings = tuple[Any, ...]


def register_state(env_class: type | str, *attributes: str) -> None:
    """Say which attributes are the state of a class of environments within an episode, beside ``np_random``.

    They hold numbers, arrays, strings, None, and lists, tuples and dictionaries of these. Subclasses, which may
    have more, need to be registered too.

    Args:
        env_class: Class of the unwrapped environment, or its name as ``"module:Class"``.
        *attributes: Their names.

    Examples:
        >>> class Counter(gym.Env):
        ...     count = 0
        >>> register_state(Counter, "count")
    """
    _STATES[env_class if isinstance(env_class, str) else _qualified(env_class)] = attributes


def has_known_state(env: Any) -> bool:
    """Whether the state of an environment inside its wrappers, single or vector, is known by its attributes."""
    return _qualified(type(env.unwrapped)) in _STATES or _is_mujoco(env.unwrapped)


def known_state(env: Any) -> dict[str, Any]:
    """Read the state of an environment of which `has_known_state` is true, without its wrappers.

    Raises:
        ValueError: If the state cannot be written as JSON.
    """
    env = env.unwrapped
    # An attribute that the environment makes at its first reset is not there before.
    names = _STATES.get(_qualified(type(env)), ())
    attributes = {name: getattr(env, name) for name in names if hasattr(env, name)}
    state = {"generator": _generator_state(env), "attributes": encode(attributes)}
    return {**state, "mujoco": encode(_mujoco_state(env))} if _is_mujoco(env) else state


def restore_known_state(env: Any, state: Mapping[str, Any]) -> None:
    """Restore the state of an environment of the same kind.

    Raises:
        ValueError: If an attribute is not registered, or an array has another shape than the environment's own.
    """
    env = env.unwrapped
    attributes = decode(state["attributes"])
    unknown = set(attributes).difference(_STATES.get(_qualified(type(env)), ()))
    if unknown:
        raise ValueError(f"the state of {type(env).__name__} has the unknown attributes {sorted(unknown)}")
    for name, value in attributes.items():
        own = getattr(env, name, None)
        if isinstance(own, np.ndarray) and value is not None and np.shape(value) != own.shape:
            raise ValueError(f"{name} of {type(env).__name__} must have shape {own.shape}, got {np.shape(value)}")
    for name, value in attributes.items():
        setattr(env, name, value)
    if _is_mujoco(env):
        _set_mujoco_state(env, decode(state["mujoco"]))
    _set_generator(env, state["generator"])


def _is_mujoco(env: Any) -> bool:
    """Whether an unwrapped environment is one of Gymnasium's own on MuJoCo, whose data are their whole state."""
    return type(env).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(env, "data")


def _mujoco_state(env: Any) -> dict[str, Any]:
    """What the next step starts from, and what the last step computed."""
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, integration, kind)
    return {"integration": integration, "arrays": {name: one.copy() for name, one in _mujoco_arrays(env)}}


def _set_mujoco_state(env: Any, state: Mapping[str, Any]) -> None:
    import mujoco

    mujoco.mj_setState(env.model, env.data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name, one in _mujoco_arrays(env):
        saved = state["arrays"].get(name)
        # Arrays of constraints and islands vary in length, and each step computes them anew.
        if saved is not None and saved.shape == one.shape:
            one[...] = saved


def _mujoco_arrays(env: Any) -> list[tuple[str, npt.NDArray[Any]]]:
    """The arrays of MuJoCo's data by name."""
    arrays = [(name, getattr(env.data, name)) for name in dir(env.data) if not name.startswith("_")]
    return [
        (name, one) for name, one in arrays if isinstance(one, np.ndarray) and one.size and one.flags.writeable
    ]


class Episode:
    """What a replay of an episode needs: how it began, and what happened since.

    Args:
        env: The environment, with the wrappers that replay the episode too.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self._generator: dict[str, Any] = {}
        # Why the random source at the episode's beginning could not be saved.
        self._obstacle: str | None = None
        self._arguments: dict[str, Any] = {}
        self._actions: list[Any] = []
        # The settings before the reset, and then each time that they were others before a step, with its number.
        self._settings: list[tuple[int, Settings]] = []

    def begin(self, seed: int | None, options: dict[str, Any] | None, settings: Settings) -> None:
        """Note that an episode begins; before the environment's reset."""
        base: Any = self._env.unwrapped
        refresh = _FRESH.get(_qualified(type(base)))
        if refresh is not None:
            refresh(base)
        self._generator, self._obstacle = {}, None
        if seed is None:
            try:
                self._generator = _generator_state(base)
            except ValueError as error:
                self._obstacle = str(error)
        self._arguments = {"seed": seed, "options": options}
        self._actions = []
        self._settings = [(-1, settings)]

    def add(self, action: Any, settings: Settings) -> None:
        """Note a transition; before the environment's step."""
        if settings is not self._settings[-1][1]:
            self._settings.append((len(self._actions), settings))
        if len(self._actions) <= LONGEST:
            # The caller may go on writing to the array.
            self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)

    def state_dict(self, shown: Any) -> dict[str, Any]:
        """The episode as plain JSON data.

        Args:
            shown: The last observation, of which a fingerprint is kept to compare.

        Raises:
            ValueError: If it is longer than what is remembered, or something in it cannot be written.
        """
        if self._obstacle is not None:
            raise ValueError(self._obstacle)
        if len(self._actions) > LONGEST:
            raise ValueError(f"its episode is longer than {LONGEST} env steps")
        return {
            "generator": self._generator,
            "arguments": encode(self._arguments),
            "actions": encode(_stacked(self._actions)),
            "settings": encode(self._settings),
            "shown": _fingerprint(shown),
        }

    def relive(self, state: Mapping[str, Any], set_values: Callable[[Settings], None]) -> tuple[Any, bool]:
        """Live through an episode of `state_dict` in this environment.

        Args:
            state: The episode.
            set_values: Puts settings in force.

        Returns:
            The last observation, and whether it is the same as then.
        """
        settings = {number: tuple(values) for number, values in decode(state["settings"])}
        arguments = decode(state["arguments"])
        set_values(settings[-1])
        self.begin(arguments["seed"], arguments["options"], settings[-1])
        if state["generator"]:
            self._generator = dict(state["generator"])
            _set_generator(self._env.unwrapped, self._generator)
        result: Any = self._env.reset(**arguments)
        # Some environments restore their own values when they are reset.
        set_values(settings[-1])
        now = settings[-1]
        for number, action in enumerate(decode(state["actions"])):
            if number in settings:
                now = settings[number]
                set_values(now)
            self.add(action, now)
            result = self._env.step(action)
        return result[0], _fingerprint(result[0]) == state["shown"]


def is_made_anew_by_pickle(env: Any) -> bool:
    """Whether an unwrapped environment that is pickled or copied comes back as one that was just made."""
    return isinstance(env, EzPickle)


def encode(value: Any) -> Any:
    """Numbers, NumPy's arrays and numbers, strings, None, and lists, tuples and dictionaries of them, for JSON.

    Raises:
        ValueError: If there is anything else.

    Examples:
        >>> encode((np.float32(0.5), [1, None]))
        {'tuple': [{'dtype': '<f4', 'number': 0.5}, [1, None]]}
    """
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return _encode_numbers(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        encoded = [encode(one) for one in value]
        return encoded if isinstance(value, list) else {"tuple": encoded}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(one)] for key, one in value.items()]}
    raise ValueError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def decode(data: Any) -> Any:
    """What `encode` wrote."""
    if isinstance(data, list):
        return [decode(one) for one in data]
    if not isinstance(data, Mapping):
        return data
    if "dtype" in data:
        return _decode_numbers(data)
    if "float" in data:
        return float(data["float"])
    if "tuple" in data:
        return tuple(decode(one) for one in data["tuple"])
    return {decode(key): decode(one) for key, one in data["dict"]}


def _fingerprint(observation: Any) -> str:
    return sha256(json.dumps(encode(observation)).encode()).hexdigest()


def _encode_numbers(value: Any) -> dict[str, Any]:
    """NumPy's own."""
    kind = {"dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return {**kind, "number": encode(value.item())}
    return {**kind, "shape": list(value.shape), "base64": base64.b64encode(value.tobytes()).decode()}


def _decode_numbers(data: Mapping[str, Any]) -> Any:
    if np.dtype(data["dtype"]).kind not in "biuf":
        raise ValueError(f"dtype must be of booleans or numbers, got {data['dtype']!r}")
    if "number" in data:
        return np.dtype(data["dtype"]).type(decode(data["number"]))
    content = base64.b64decode(data["base64"], validate=True)
    return np.frombuffer(content, dtype=data["dtype"]).reshape(data["shape"]).copy()


def _stacked(actions: list[Any]) -> Any:
    """Actions as one array where all have one dtype and shape, which takes a fraction of the room."""
    kinds = {(one.dtype, one.shape) if isinstance(one, (np.ndarray, np.generic)) else None for one in actions}
    return np.stack(actions) if len(kinds) == 1 and None not in kinds else actions


def _generator_state(env: Any) -> dict[str, Any]:
    """Read the state of an unwrapped environment's random source.

    An environment with several random sources has a property ``generator_state``.

    Raises:
        ValueError: If the state cannot be read.
    """
    if hasattr(type(env), "generator_state"):
        states: dict[str, Any] = env.generator_state
        return states
    try:
        source = env.np_random
    except Exception as error:  # a property of the user's class may raise anything
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


def _set_generator(env: Any, state: Mapping[str, Any]) -> None:
    if hasattr(type(env), "generator_state"):
        env.generator_state = state
    elif isinstance(env.np_random, np.random.RandomState):
        env.np_random.set_state(decode(state))
    else:
        env.np_random.bit_generator.state = decode(state)


def _qualified(one: type) -> str:
    return f"{one.__module__}:{one.__qualname__}"


def _new_world(env: Any) -> None:
    """A Box2D world of its own for each episode: a used one goes through contacts in another order."""
    import Box2D

    env._destroy()
    env.world = Box2D.b2World(gravity=env.world.gravity)


_CONTROL, _TEXT = "gymnasium.envs.classic_control", "gymnasium.envs.toy_text"
for _name, _attributes in {
    f"{_CONTROL}.cartpole:CartPoleEnv": ("state", "steps_beyond_terminated"),
    f"{_CONTROL}.cartpole:CartPoleVectorEnv": (
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
    f"{_TEXT}.frozen_lake:FrozenLakeEnv": ("s", "lastaction"),
    f"{_TEXT}.cliffwalking:CliffWalkingEnv": ("s", "lastaction"),
    f"{_TEXT}.taxi:TaxiEnv": ("s", "lastaction", "fickle_step", "taxi_orientation"),
    "rl_rms.envs.toys:GaussianBandit": (),
    "rl_rms.envs.toys:TwoStates": ("state",),
    "rl_rms.envs.lending:Lending": ("group", "repays"),
}.items():
    register_state(_name, *_attributes)
_FRESH["gymnasium.envs.box2d.bipedal_walker:BipedalWalker"] = _new_world
