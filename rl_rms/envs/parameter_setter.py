"""Sets the targets of an environment by name to the values of schedules and curricula.

This module serves single environments and native vector environments. In a vector environment, a value is a
scalar for all sub-environments or an array of shape ``(num_envs,)``.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rl_rms.envs import noise, transforms
from rl_rms.envs.delays import Delays
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.parameters import Parameter, find_parameter, parameter_names
from rl_rms.envs.parameters.registry import find_owner
from rl_rms.envs.transforms import NEUTRAL, Space, components, keys_of, transform_of
from rl_rms.envs.verification import copy_env, verify_effect

# Targets that need neither random numbers nor state. Faster code applies these targets.
_AFFINE = {"observation.gain", "observation.offset", "action.flip", "action.gain"}


class ParameterSetter:
    """Sets dynamics parameters, and transforms rewards, observations and actions.

    Args:
        env: The environment. Attributes of its wrappers can also be targets.
        targets: Names of the targets.
        observation_space: Observation space of one environment.
        action_space: Action space of one environment.
        arrays: Targets whose values are arrays of shape ``(num_envs,)``.
        num_envs: Number of sub-environments of a vector environment; None for a single environment.

    Attributes:
        targets: Names of the targets.
        now: The current value if there is one target, else the tuple of the current values. Each value is None
            until the values are first set.
        assign: Sets the targets to values in the form of ``now``, without changing ``now``.
        has_noise: Whether the targets need random numbers at each env step.
        is_drawn: Whether any target needs random numbers, and therefore `noise_key`.
        late: Targets that take effect only at the next reset.
        episodic: Indices of the targets whose changes end the episode in progress.
        noise_key: The environments that draw noise, and their clocks. If ``is_drawn``, the key must be set before
            a transition.

    Raises:
        ValueError: If the environment does not have a target, or a change of a target would have no effect.
    """

    def __init__(
        self,
        env: Any,
        targets: Sequence[str],
        observation_space: Space,
        action_space: Space,
        arrays: Sequence[str] = (),
        num_envs: int | None = None,
    ) -> None:
        self.targets = tuple(targets)
        self._is_single = len(self.targets) == 1
        self.now: Any = None if self._is_single else (None,) * len(self.targets)
        self._env = env
        self.noise_key = NoiseKey(0, (0,), (0,), (0,))
        self._has_arrays = bool(arrays)
        self._num_envs = num_envs
        self._spaces = (observation_space, action_space)
        # The values of all transforms, including transforms that are not targets.
        self._transforms = dict(NEUTRAL)
        # An environment in which all targets exist. If only a reset creates some targets, the example is a copy
        # after a reset.
        self._example = _find_example(env, self.targets)
        for target in self.targets:
            _check(self._example, target, observation_space, action_space, target in arrays)
        for target in self.targets:
            needed = target.removesuffix("_draw")
            if transform_of(target) == "observation.offsets_draw" and needed not in self.targets:
                raise ValueError(
                    f"changing {target!r} changes nothing without {needed!r}, the standard deviation of the "
                    "offsets; add this target"
                )
        self.has_noise = transforms.has_noise(self.targets)
        self.is_drawn = transforms.is_drawn(self.targets)
        self._parts = _find_parts(self.targets, observation_space)
        # Whether gain and offset of the whole observation are the only transforms of observations.
        self._is_affine = len(self._parts) == 1 and self._parts[0].is_affine
        for part in self._parts:
            for kind, neutral in NEUTRAL.items():
                if kind.startswith("observation."):
                    self._transforms[part.prefix + kind.removeprefix("observation.")] = neutral
        delays = "action.delay" in self.targets
        self._delays = Delays(action_space, num_envs or 1) if delays else None  # type: ignore[arg-type]
        # Cached permutations and offsets; cleared when the target's value or the drift changes.
        self._drawn: dict[str, Any] = {}
        owners: dict[int, tuple[Any, dict[str, Parameter]]] = {}
        for target in self.targets:
            if transform_of(target) is None:
                owner, _ = find_owner(self._example, target)
                owners.setdefault(id(owner), (owner, {}))[1][target] = self._parameter(target)
        for owner, parameters in owners.values():
            verify_effect(owner, parameters)
        self._find_setters()
        effects = {
            target: self._parameter(target).effect for target in self.targets if transform_of(target) is None
        }
        self.late = tuple(target for target, effect in effects.items() if effect != "step")
        self.episodic = tuple(
            index for index, target in enumerate(self.targets) if effects.get(target) == "episode"
        )
        groups = {target.partition(".")[0] for target in self.targets if transform_of(target) is not None}
        self.moves_rewards = "reward" in groups
        self.moves_observations = "observation" in groups
        self.moves_actions = "action" in groups
        self.moves = bool(groups)
        self._reroutes = any(target.startswith("action.") for target in {*self.targets} - _AFFINE)

    @property
    def values(self) -> tuple[Any, ...]:
        """The current values, in the order of the targets. Each value is None until the values are first set."""
        return (self.now,) if self._is_single else self.now

    def set(self, values: tuple[Any, ...]) -> None:
        """Set each target whose value has changed.

        Args:
            values: Values in the order of the targets: a scalar, or shape ``(num_envs,)``.
        """
        now = values[0] if self._is_single else values
        # Setting an array is cheaper than comparing it.
        if now is not self.now and (self._has_arrays or now != self.now):
            self.assign(now)
            self.now = now

    def ends_episode(self, values: tuple[Any, ...]) -> bool:
        """Whether setting ``values`` ends the episode in progress."""
        return any(values[index] != self.values[index] for index in self.episodic)

    def current(self) -> tuple[float, ...]:
        """Return the current value of each target, even if the value was never set."""
        return tuple(
            self._value(target) if transform_of(target) is None else self._transforms[target]
            for target in self.targets
        )

    def again(self) -> None:
        """Set all values again, because the environment may have restored its own values."""
        if self._is_single:
            if self.now is not None:
                self.assign(self.now)
            return
        for setter, value in zip(self._setters, self.now, strict=True):
            if value is not None:
                setter(value)

    def set_all(self, values: tuple[Any, ...]) -> None:
        """Set all targets, including targets whose values have not changed."""
        self.now = values[0] if self._is_single else values
        self.again()

    def place(self, noise_key: NoiseKey) -> None:
        """Set the environments and clock readings for which random numbers are drawn."""
        if noise_key[:2] != self.noise_key[:2]:
            self._drawn.clear()
        self.noise_key = noise_key

    def begin(self, rows: Iterable[int] = (0,)) -> None:
        """Clear the delayed actions of environments whose episodes begin."""
        if self._delays is not None:
            self._delays.clear(rows)

    @property
    def delayed(self) -> list[list[Any]] | None:
        """The delayed actions for `rl_rms.envs.encoding.encode`; None if no target delays actions."""
        return None if self._delays is None else self._delays.state_dict()

    @delayed.setter
    def delayed(self, actions: list[list[Any]] | None) -> None:
        if self._delays is not None and actions is not None:
            self._delays.load_state_dict(actions)

    def reward(self, reward: Any) -> Any:
        """Transform rewards, see `rl_rms.envs.transforms.reward`."""
        values = self._transforms
        noise: Any = 0.0
        if "reward.noise" in self.targets:
            noise = values["reward.noise"] * self._noise("reward.noise", 1)[:, 0]
            if self._num_envs is None:
                noise = float(noise[0])
        return transforms.reward(reward, values["reward.scale"], values["reward.offset"], noise)

    def observation(self, observation: Any, first: npt.NDArray[np.bool_] | bool = False) -> Any:
        """Transform observations, see `rl_rms.envs.transforms`.

        Args:
            observation: One observation, or a batch.
            first: Whether an observation is the first of its episode: a scalar, or shape ``(num_envs,)``.
        """
        if self._is_affine:
            values = self._transforms
            return transforms.observation(observation, values["observation.gain"], values["observation.offset"])
        for part in self._parts:
            if part.keys:
                move = partial(self._moved, part, first)
                observation = transforms.with_part(observation, part.keys, move)
            else:
                observation = self._moved(part, first, observation)
        return observation

    def _moved(self, part: "_Part", first: npt.NDArray[np.bool_] | bool, observation: Any) -> Any:
        """Transform one part of the observations."""
        values = self._transforms
        if part.is_integer:
            observation = np.asarray(observation, np.float32)
        moved = transforms.observation(observation, values[part.gain], values[part.offset])
        if part.rearranges:
            batch = moved if self._num_envs is not None else moved[None]
            batch = self._rearranged(part, first, batch)
            moved = batch if self._num_envs is not None else batch[0, ...]
        return transforms.to_uint8(moved, part.space) if part.is_integer else moved

    def _rearranged(
        self, part: "_Part", first: npt.NDArray[np.bool_] | bool, batch: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        """Apply one part's transforms other than gain and offset to a batch."""
        values, targets, prefix, size = self._transforms, self.targets, part.prefix, components(part.space)
        shift = np.zeros((1, size))
        if f"{prefix}offsets" in targets:
            shift = shift + _column(values[f"{prefix}offsets"]) * self._vectors(prefix, size)
        if f"{prefix}noise" in targets:
            shift = shift + _column(values[f"{prefix}noise"]) * self._noise(f"{prefix}noise", size, first)
        if f"{prefix}offsets" in targets or f"{prefix}noise" in targets:
            batch = batch + shift.reshape(-1, *batch.shape[1:]).astype(batch.dtype)
        if f"{prefix}permute" in targets:
            batch = transforms.permute(batch, self._orders(f"{prefix}permute", size))
        if f"{prefix}mask" in targets:
            batch = transforms.hide(batch, self._ranks(f"{prefix}mask", size), values[f"{prefix}mask"])
        return batch

    def action(self, action: Any) -> Any:
        """Transform actions, see `rl_rms.envs.transforms`."""
        values, space = self._transforms, self._spaces[1]
        if not self._reroutes:
            return transforms.action(action, space, values["action.flip"], values["action.gain"])
        single = self._num_envs is None
        batch = np.asarray(action)[None] if single else np.asarray(action)
        if self._delays is not None:
            delays = np.broadcast_to(values["action.delay"], len(batch))
            batch = self._delays.exchange(batch, delays)
        moved = self._moved_discrete(batch, space) if isinstance(space, Discrete) else self._moved_box(batch)
        if not single:
            return moved
        return moved[0].item() if isinstance(space, Discrete) else moved[0, ...]

    def _moved_discrete(self, batch: npt.NDArray[Any], space: Discrete) -> npt.NDArray[Any]:
        values = self._transforms
        batch = np.asarray(transforms.action(batch, space, values["action.flip"], 1.0))
        if "action.permute" in self.targets:
            batch = transforms.relabel(batch, space, self._orders("action.permute", int(space.n)))
        if "action.noise" in self.targets:
            batch = transforms.replace(batch, space, values["action.noise"], self._noise("action.noise", 2))
        return batch

    def _moved_box(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values, space = self._transforms, self._spaces[1]
        size = components(space)
        if "action.permute" in self.targets:
            batch = transforms.permute(batch, self._orders("action.permute", size))
        shift = _column(values["action.bias"])
        if "action.noise" in self.targets:
            shift = shift + _column(values["action.noise"]) * self._noise("action.noise", size)
            shift = shift.reshape(-1, *batch.shape[1:])
        else:
            shift = shift.reshape(-1, *(1,) * (batch.ndim - 1))
        moved: npt.NDArray[Any] = transforms.action(
            batch, space, values["action.flip"], values["action.gain"], shift
        )
        return moved

    def _noise(self, target: str, size: int, first: npt.NDArray[np.bool_] | bool = False) -> npt.NDArray[Any]:
        begins = np.broadcast_to(first, len(self.noise_key.clocks)).tolist()
        uniform = target == "action.noise" and isinstance(self._spaces[1], Discrete)
        return (noise.uniforms if uniform else noise.normals)(target, self.noise_key, size, begins)

    def _once(self, target: str, numbers: Any, draw: Callable[[int, int], Any]) -> npt.NDArray[Any]:
        """Return the cached rows of ``draw(drift, number)``, shape ``(1 or num_envs, size)``."""
        if target not in self._drawn:
            drifts = self.noise_key.drifts
            if np.ndim(numbers) == 0 and len(set(drifts)) == 1:
                drifts = drifts[:1]
            each = np.broadcast_to(np.rint(numbers), len(drifts)).astype(np.int64).tolist()
            self._drawn[target] = np.stack([draw(*one) for one in zip(drifts, each, strict=True)])
        drawn: npt.NDArray[Any] = self._drawn[target]
        return drawn

    def _vectors(self, prefix: str, size: int) -> npt.NDArray[Any]:
        target, seed = f"{prefix}offsets_draw", self.noise_key.seed
        return self._once(
            target,
            self._transforms[target],
            lambda drift, number: noise.vector(f"{prefix}offsets", seed, drift, number, size),
        )

    def _orders(self, target: str, size: int) -> npt.NDArray[Any]:
        seed = self.noise_key.seed
        return self._once(
            target,
            self._transforms[target],
            lambda drift, number: noise.permutation(target, seed, drift, number, size),
        )

    def _ranks(self, target: str, size: int) -> npt.NDArray[Any]:
        seed = self.noise_key.seed
        return self._once(target, 1, lambda drift, number: noise.permutation(target, seed, drift, number, size))

    def _set_transform(self, target: str, bounds: tuple[float, float] | None, value: Any) -> None:
        if bounds is not None:
            transforms.check_value(target, value, bounds)
        self._transforms[target] = value
        self._drawn.pop(target, None)

    def _parameter(self, target: str) -> Parameter:
        return _parameter(self._example, target, *self._spaces)

    def _value(self, target: str) -> float:
        parameter = self._parameter(target)
        owner, _ = find_owner(self._env if self._exists(parameter, target) else self._example, target)
        return parameter.value(owner)

    def _exists(self, parameter: Parameter, target: str) -> bool:
        """Whether the environment already has a parameter, which the first reset may create."""
        if self._example is self._env:
            return True
        try:
            parameter.read(find_owner(self._env, target)[0])
        except (AttributeError, LookupError, TypeError):
            return False
        return True

    def _set_if_it_exists(self, parameter: Parameter, target: str, value: Any) -> None:
        if self._exists(parameter, target):
            parameter.setter(find_owner(self._env, target)[0])(value)

    def _find_setters(self) -> None:
        self._setters: list[Callable[[Any], None]] = [
            partial(self._set_transform, target, transforms.bounds_of(target, self._spaces[1]))
            if transform_of(target) is not None
            else self._parameter(target).setter(find_owner(self._env, target)[0])
            if self._example is self._env
            else partial(self._set_if_it_exists, self._parameter(target), target)
            for target in self.targets
        ]
        self.assign = self._setters[0] if self._is_single else self._assign_each

    def _assign_each(self, values: tuple[Any, ...]) -> None:
        now = self.now
        for index, setter in enumerate(self._setters):
            new, before = values[index], now[index]
            if new is not before and (self._has_arrays or new != before):
                setter(new)

    def __getstate__(self) -> dict[str, Any]:
        # Registered functions may be lambdas, which cannot be pickled. `__setstate__` finds the functions by name.
        return {
            name: value for name, value in self.__dict__.items() if name not in ("_setters", "assign", "_example")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._example = _find_example(self._env, self.targets)
        self._find_setters()
        # Box2D and MuJoCo environments are created again when unpickled, with their initial values.
        self.again()


class _Part(NamedTuple):
    """A part of the observations that has targets."""

    keys: tuple[str, ...]
    space: Box
    prefix: str  # beginning of the targets' names, such as "observation.image."
    gain: str
    offset: str
    is_integer: bool  # whether the values are uint8
    rearranges: bool  # whether there are targets other than gain and offset

    @property
    def is_affine(self) -> bool:
        """Whether the part is a whole observation of floats with no targets other than gain and offset."""
        return not (self.keys or self.is_integer or self.rearranges)


def _find_parts(targets: Sequence[str], observation_space: Space) -> list[_Part]:
    kinds: dict[tuple[str, ...], list[str | None]] = {}
    for target in targets:
        if target.startswith("observation.") and transform_of(target) is not None:
            kinds.setdefault(keys_of(target), []).append(transform_of(target))
    parts = []
    for keys, of_part in kinds.items():
        space = transforms.part_space(observation_space, keys)
        assert isinstance(space, Box)
        prefix = "".join(f"{key}." for key in ("observation", *keys))
        rearranges = any(kind not in _AFFINE for kind in of_part)
        is_integer = space.dtype == np.uint8
        parts.append(_Part(keys, space, prefix, f"{prefix}gain", f"{prefix}offset", is_integer, rearranges))
    return parts


def _column(value: Any) -> npt.NDArray[Any]:
    """Reshape a value for broadcasting over rows: ``(1, 1)`` for a scalar, else ``(num_envs, 1)``."""
    return np.atleast_1d(value)[:, None]


def _find_example(env: Any, targets: Sequence[str]) -> Any:
    """Return the environment, or a copy after a reset if only the copy has all targets."""
    if _has_all(env, targets):
        return env
    try:
        clone = copy_env(env)
        clone.reset(seed=0)
    except Exception:  # `_check` names the missing target
        return env
    return clone if _has_all(clone, targets) else env


def _has_all(env: Any, targets: Sequence[str]) -> bool:
    try:
        return all(
            find_parameter(*find_owner(env, one)) is not None for one in targets if transform_of(one) is None
        )
    except ValueError:
        return False


def _check(env: Any, target: str, observation_space: Space, action_space: Space, batched: bool) -> None:
    """Raise a ValueError if the target cannot be set."""
    if transform_of(target) is not None:
        needed = transforms.misfit(target, observation_space, action_space)
        if needed is not None:
            raise ValueError(f"{target!r} needs {needed}")
        return
    parameter = _parameter(env, target, observation_space, action_space)
    if batched and not parameter.batched:
        raise ValueError(
            f"{type(env.unwrapped).__name__} does not support one {target!r} for each sub-environment; "
            'use vectorization_mode="sync", or register_parameter(..., batched=True)'
        )


def _parameter(env: Any, target: str, observation_space: Space, action_space: Space) -> Parameter:
    owner, name = find_owner(env, target)
    parameter = find_parameter(owner, name)
    if parameter is None:
        names = transforms.transform_names(observation_space)
        fitting = [one for one in names if transforms.misfit(one, observation_space, action_space) is None]
        prefix = target.removesuffix(name)
        offered = [*(prefix + one for one in parameter_names(owner)), *fitting]
        close = difflib.get_close_matches(target, offered, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        if hasattr(owner, name):
            kind = type(getattr(owner, name)).__name__
            problem = f"{target!r} of {type(owner).__name__} must be a number to be changed, got a {kind}"
        else:
            problem = f"{type(owner).__name__} has no {target!r} to change"
            if target[:1].isupper() and "." in target:
                problem += ", and the drift is not outside a wrapper of this name"
        raise ValueError(f"{problem}; {meant}the possible targets are {', '.join(offered)}")
    return parameter
