"""Curricula that draw tasks from fixed ranges, or from a box that grows with the agent's success."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.curricula.base import Curriculum, Episode, Task, between
from rl_rms.envs.curricula.gates import Gate
from rl_rms.envs.curricula.stages import Climb
from rl_rms.envs.schedules.jumps import check_levels

Range = tuple[float, float]


class DomainRandomization(Curriculum):
    """Draws a random task for each episode. The values of the targets are independent (Tobin et al., IROS 2017).

    Args:
        ranges: ``[low, high]`` or ``{values: [...]}`` for each target. Values are drawn uniformly.

    Raises:
        ValueError: If a range is invalid.
    """

    name: ClassVar[str] = "domain_randomization"

    def __init__(self, ranges: Mapping[str, Any]) -> None:
        owner = "DomainRandomization: ranges"
        if not isinstance(ranges, Mapping) or not ranges:
            raise ValueError(f"{owner} must be a mapping such as {{length: [0.5, 1.0]}}, got {ranges!r}")
        self.ranges: dict[str, Any] = {}
        for target, given in ranges.items():
            if isinstance(given, Mapping) and set(given) == {"values"}:
                self.ranges[target] = {"values": list(check_levels(f"{owner}.{target}", given["values"]))}
            else:
                self.ranges[target] = list(check_range(f"{owner}.{target}", given))
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the ranges."""
        return tuple(self.ranges)

    @property
    def difficulty(self) -> float:
        """Always 1, because the ranges do not change."""
        return 1.0

    def _draw(self) -> tuple[Task, Any]:
        task = {}
        for target, one in self.ranges.items():
            if isinstance(one, Mapping):
                task[target] = float(one["values"][self._random.integers(len(one["values"]))])
            else:
                task[target] = float(self._random.uniform(*one))
        return task, None

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        """Do nothing, because tasks do not depend on results."""

    def _forget(self) -> None:
        """Do nothing, because there is no state."""

    def _kept(self) -> dict[str, Any]:
        return {}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        """Do nothing, because there is no state."""


class ExpandingBox(Climb):
    """Draws tasks uniformly from a box that grows by one step whenever a gate opens, until the box is ``final``.

    Args:
        start: The first box: ``[low, high]`` of each target.
        final: The final box, with the same targets. The ranges of the final box contain the ranges of ``start``.
        gate: The gate, such as a `WilsonGate`, or its YAML form.
        steps: Number of steps from the first to the final box, >= 1.

    Raises:
        ValueError: If an argument is invalid.

    Examples:
        >>> from rl_rms.envs.curricula import ReturnGate
        >>> gate = ReturnGate(threshold=1, window=1)
        >>> box = ExpandingBox({"length": [0.5, 0.5]}, {"length": [0.1, 1.0]}, gate, steps=4)
        >>> _ = box.task(0), box.record(1.0, 20, env_index=0)
        >>> box.box
        {'length': (0.4, 0.625)}
    """

    name: ClassVar[str] = "expanding_box"

    def __init__(self, start: Mapping[str, Any], final: Mapping[str, Any], gate: Any, steps: int = 10) -> None:
        self.start, self.final = check_box("ExpandingBox: start", start), check_box("ExpandingBox: final", final)
        if set(self.start) != set(self.final):
            raise ValueError(
                f"ExpandingBox: start and final must have the same targets, got {', '.join(self.start)} and "
                f"{', '.join(self.final)}"
            )
        for target, (low, high) in self.start.items():
            if not self.final[target][0] <= low <= high <= self.final[target][1]:
                raise ValueError(
                    f"ExpandingBox: final.{target} must contain start.{target}, got {self.final[target]} and "
                    f"{self.start[target]}"
                )
        self.steps = check_int("ExpandingBox: steps", steps, least=1)
        self.gate = self._gate = Gate.from_config(gate)
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the boxes."""
        return tuple(self.start)

    @property
    def last_stage(self) -> int:
        """Index of the last stage, which equals the number of steps."""
        return self.steps

    @property
    def box(self) -> dict[str, Range]:
        """The present range of each target."""
        share = self._stage / self.steps
        return {
            target: (between(low, self.final[target][0], share), between(high, self.final[target][1], share))
            for target, (low, high) in self.start.items()
        }

    def log(self) -> dict[str, float]:
        """Return the scalars of `Climb`, and the ends of each range."""
        ends = {
            f"box/{target}/{end}": one[i]
            for target, one in self.box.items()
            for i, end in ((0, "low"), (1, "high"))
        }
        return {**super().log(), **ends}

    def _draw(self) -> tuple[Task, Any]:
        return {target: float(self._random.uniform(*one)) for target, one in self.box.items()}, self._stage


def check_box(owner: str, box: Any) -> dict[str, list[float]]:
    """Check a box, which has a range for each target.

    Raises:
        ValueError: If the box is not a mapping of targets to ranges.
    """
    if not isinstance(box, Mapping) or not box:
        raise ValueError(f"{owner} must be a mapping such as {{length: [0.5, 1.0]}}, got {box!r}")
    return {target: list(check_range(f"{owner}.{target}", one)) for target, one in box.items()}


def check_range(name: str, given: Any) -> Range:
    """Check a range, which is a pair of numbers ``low <= high``.

    Raises:
        ValueError: If the value is not a pair of numbers ``low <= high``.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise ValueError(f"{name} must be a range [low, high], got {given!r}")
    low, high = (check_number(name, one) for one in given)
    if low > high:
        raise ValueError(f"{name} must be a range [low, high] with low <= high, got {given!r}")
    return low, high
