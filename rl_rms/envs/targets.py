"""Targets that transform rewards, observations and actions: names, neutral values, bounds and suitable spaces.

All other targets are parameters of the environment, see `rl_rms.envs.parameters`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.delays import LONGEST
from rl_rms.envs.spaces import (
    Space,
    components,
    is_float_box,
    is_uint8_box,
    leaves,
    part_space,
    without_bounds,
)

# For each kind of target, the value at which the target has no effect (for ``offsets_draw``, the first draw).
NEUTRAL = {
    "reward.scale": 1.0,
    "reward.offset": 0.0,
    "reward.noise": 0.0,
    "observation.gain": 1.0,
    "observation.offset": 0.0,
    "observation.offsets": 0.0,
    "observation.offsets_draw": 0.0,
    "observation.noise": 0.0,
    "observation.permute": 0.0,
    "observation.mask": 0.0,
    "action.delay": 0.0,
    "action.flip": 0.0,
    "action.permute": 0.0,
    "action.gain": 1.0,
    "action.bias": 0.0,
    "action.noise": 0.0,
}
# Kinds that need random numbers at each env step, and kinds that need random numbers once for each value.
_NOISES = ("reward.noise", "observation.noise", "action.noise")
_DRAWN = (
    "observation.offsets",
    "observation.offsets_draw",
    "observation.permute",
    "observation.mask",
    "action.permute",
)
# The bounds of the kinds that have bounds. For Discrete actions, ``action.noise`` is also at most 1.
_BOUNDS = {
    "reward.noise": (0.0, math.inf),
    "observation.offsets": (0.0, math.inf),
    "observation.offsets_draw": (0.0, 2.0**53),
    "observation.noise": (0.0, math.inf),
    "observation.permute": (0.0, 2.0**53),
    "observation.mask": (0.0, 1.0),
    "action.delay": (0.0, float(LONGEST)),
    "action.permute": (0.0, 2.0**53),
    "action.noise": (0.0, math.inf),
}


@dataclass(frozen=True)
class TransformTarget:
    """A target that transforms rewards, observations or actions.

    Attributes:
        name: The target's name, such as ``"observation.image.noise"``.
        kind: The key in `NEUTRAL`, which omits the part of the observation, such as ``"observation.noise"``.
        group: ``"reward"``, ``"observation"`` or ``"action"``.
        keys: The keys of the part of the observation, such as ``("image",)``; empty for the whole observation.
    """

    name: str
    kind: str
    group: str
    keys: tuple[str, ...] = ()

    @property
    def has_noise(self) -> bool:
        """Whether the target needs random numbers at each env step."""
        return self.kind in _NOISES

    @property
    def is_drawn(self) -> bool:
        """Whether the target needs random numbers."""
        return self.kind in _NOISES + _DRAWN

    def bounds(self, action_space: Space) -> tuple[float, float] | None:
        """Return the smallest and the largest value; None if the values have no bounds."""
        if self.kind == "action.noise" and isinstance(action_space, Discrete):
            return 0.0, 1.0
        return _BOUNDS.get(self.kind)

    def misfit(self, observation_space: Space, action_space: Space) -> str | None:
        """Describe the property that the target needs and the spaces lack; None if the spaces fit the target."""
        if self.group == "reward":
            return None
        space: Space | None = action_space
        if self.group == "observation":
            space = part_space(observation_space, self.keys)
            if space is None:
                return f"the part {'.'.join(self.keys)!r} of the observations, got {observation_space}"
        assert space is not None
        needed, fits = _needed(self.kind, space)
        return None if fits else f"{needed}, got {space}"


def parse_target(name: str) -> TransformTarget | None:
    """Parse the name of a target; None for a parameter of the environment.

    Examples:
        >>> parse_target("observation.image.noise").kind
        'observation.noise'
    """
    group, *rest = name.split(".")
    kind, keys = ".".join((group, *rest[-1:])), tuple(rest[:-1])
    if kind not in NEUTRAL or (keys and group != "observation"):
        return None
    return TransformTarget(name, kind, group, keys)


def parse_targets(names: Iterable[str]) -> list[TransformTarget]:
    """Parse the names of targets, and leave out the parameters of the environment."""
    return [one for one in map(parse_target, names) if one is not None]


def all_transform_targets(observation_space: Space) -> list[TransformTarget]:
    """Return each kind of target, for observations once for each part that is neither a Dict nor a Tuple."""
    parts = list(leaves(observation_space))
    return [
        TransformTarget(".".join((group, *keys, last)), f"{group}.{last}", group, keys)
        for group, last in (kind.split(".") for kind in NEUTRAL)
        for keys in (parts if group == "observation" else [()])
    ]


def neutral_values(group: str) -> dict[str, Any]:
    """Return the neutral value of each kind of target of a group."""
    return {kind: value for kind, value in NEUTRAL.items() if kind.startswith(f"{group}.")}


def moved_space(space: Space, targets: Iterable[str]) -> Space:
    """Return the space of transformed observations, in which each changed Box of floats has no bounds.

    Args:
        space: The space of one observation.
        targets: Names of targets. Targets of parts that wrappers have removed from ``space`` are ignored.
    """
    for target in parse_targets(targets):
        if target.group == "observation":
            space = without_bounds(space, target.keys)
    return space


def check_value(name: str, value: Any, bounds: tuple[float, float]) -> None:
    """Raise an error if a value is outside of a target's bounds.

    Args:
        name: Name of the target.
        value: Scalar, or shape ``(num_envs,)``.
        bounds: The smallest and the largest value.

    Raises:
        ValueError: If the value is out of bounds.
    """
    low, high = bounds
    values = np.atleast_1d(value)
    wrong = values[~((values >= low) & (values <= high))]
    if wrong.size:
        raise ValueError(
            f"{name} must be in [{low:g}, {high:g}], got {wrong[0]:g}; keep its schedule in this range"
        )


def _needed(kind: str, space: Space) -> tuple[str, bool]:
    """Describe the property of a space that a target needs, and return whether the space has this property."""
    if kind.startswith("observation."):
        is_movable = is_float_box(space) or is_uint8_box(space)
        if kind == "observation.permute":
            several = is_movable and components(space) > 1
            return "observations that are a Box of floats or uint8 with more than one component", several
        return "observations, or a part of them, that are a Box of floats or uint8", is_movable
    if kind in ("action.gain", "action.bias"):
        return "actions that are a Box of floats", is_float_box(space)
    discrete = isinstance(space, Discrete)
    if kind == "action.flip":
        # The negative of an action must be an action.
        symmetric = is_float_box(space) and np.array_equal(space.low, -space.high)  # type: ignore[attr-defined]
        return "actions that are Discrete, or a Box of floats symmetric about 0", discrete or symmetric
    if kind == "action.permute":
        needed = (
            "more than one Discrete action, or a Box of floats with more than one component and the same bounds "
            "for each component"
        )
        return needed, _is_permutable(space)
    return "actions that are Discrete, or a Box of floats", discrete or is_float_box(space)


def _is_permutable(space: Space) -> bool:
    if isinstance(space, Discrete):
        return components(space) > 1
    if not isinstance(space, Box) or not is_float_box(space) or components(space) < 2:
        return False
    # Every component's value must be valid for all other components.
    return all((bound == bound.flat[0]).all() for bound in (space.low, space.high))
