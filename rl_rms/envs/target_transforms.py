"""Makes transforms of rewards, observations and actions from names of targets, and sets the targets' values."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from gymnasium.spaces import Box

from rl_rms.envs.action_transform import ActionTransform
from rl_rms.envs.delays import Delays
from rl_rms.envs.draws import Draws
from rl_rms.envs.observation_transform import BoxTransform, PartsTransform
from rl_rms.envs.reward_transform import RewardTransform
from rl_rms.envs.spaces import Space, part_space
from rl_rms.envs.targets import TransformTarget, all_transform_targets, check_value, parse_targets


class TargetTransforms:
    """The transforms of an environment or of a native vector environment.

    Args:
        targets: Names of targets. Parameters of the environment are ignored.
        observation_space: Observation space of one environment.
        action_space: Action space of one environment.
        num_envs: Number of sub-environments of a vector environment; None for a single environment.

    Attributes:
        reward: The transform of rewards; None without targets ``reward.*``.
        observation: The transform of observations; None without targets ``observation.*``.
        action: The transform of actions; None without targets ``action.*``.
        draws: The source of random numbers.
        has_noise: Whether the targets need random numbers at each env step.
        is_drawn: Whether any target needs random numbers. If so, the noise key of ``draws`` must be set before a
            transition.

    Raises:
        ValueError: If a space does not fit a target, or a change of a target would have no effect.
    """

    def __init__(
        self, targets: Iterable[str], observation_space: Space, action_space: Any, num_envs: int | None = None
    ) -> None:
        self._spaces = (observation_space, action_space)
        self._targets = {one.name: one for one in parse_targets(targets)}
        parsed = list(self._targets.values())
        for target in parsed:
            self._check(target)
        self.has_noise = any(one.has_noise for one in parsed)
        self.is_drawn = any(one.is_drawn for one in parsed)
        self.draws = Draws()
        is_batch = num_envs is not None
        rewards, observations, actions = (
            [one for one in parsed if one.group == group] for group in ("reward", "observation", "action")
        )
        self.reward = RewardTransform(rewards, self.draws, is_batch) if rewards else None
        self._boxes = {
            keys: BoxTransform(
                [one for one in observations if one.keys == keys],
                cast(Box, part_space(observation_space, keys)),
                self.draws,
                is_batch,
            )
            for keys in dict.fromkeys(one.keys for one in observations)
        }
        self.observation = self._boxes.get(()) or (PartsTransform(self._boxes) if self._boxes else None)
        self.action = ActionTransform(actions, action_space, self.draws, num_envs) if actions else None

    def __contains__(self, target: str) -> bool:
        return target in self._targets

    def __bool__(self) -> bool:
        return bool(self._targets)

    def value(self, target: str) -> Any:
        """Return the current value of a target."""
        one = self._targets[target]
        return self._values(one)[one.kind]

    def setter(self, target: str) -> Callable[[Any], None]:
        """Return the function that checks and sets the value of a target."""
        one = self._targets[target]
        return partial(_assign, self._values(one), one, one.bounds(self._spaces[1]))

    def fitting(self) -> list[str]:
        """Return the names of all targets that fit the spaces."""
        return [one.name for one in all_transform_targets(self._spaces[0]) if one.misfit(*self._spaces) is None]

    def begin(self, rows: Iterable[int] = (0,)) -> None:
        """Clear the delayed actions of environments whose episodes begin."""
        if self._delays is not None:
            self._delays.clear(rows)

    @property
    def delayed(self) -> list[list[Any]] | None:
        """The delayed actions, which `rl_rms.envs.encoding.encode` accepts; None if no target delays actions."""
        return None if self._delays is None else self._delays.state_dict()

    @delayed.setter
    def delayed(self, actions: list[list[Any]] | None) -> None:
        if self._delays is not None and actions is not None:
            self._delays.load_state_dict(actions)

    @property
    def _delays(self) -> Delays | None:
        return None if self.action is None else self.action.delays

    def _values(self, target: TransformTarget) -> dict[str, Any]:
        groups = {"reward": self.reward, "observation": self._boxes.get(target.keys), "action": self.action}
        transform = groups[target.group]
        assert transform is not None
        return transform.values

    def _check(self, target: TransformTarget) -> None:
        """Raise a ValueError if a change of the target is impossible or has no effect."""
        needed = target.misfit(*self._spaces)
        if needed is not None:
            raise ValueError(f"{target.name!r} needs {needed}")
        other = target.name.removesuffix("_draw")
        if target.kind == "observation.offsets_draw" and other not in self._targets:
            raise ValueError(
                f"changing {target.name!r} changes nothing without {other!r}, the standard deviation of the "
                "offsets; add this target"
            )


def _assign(
    values: dict[str, Any], target: TransformTarget, bounds: tuple[float, float] | None, value: Any
) -> None:
    if bounds is not None:
        check_value(target.name, value, bounds)
    values[target.kind] = value
