"""Tasks that change linearly with env steps or episodes, independent of the agent's returns."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from rl_rms.envs.checks import check_int, check_one_of
from rl_rms.envs.curricula.base import Curriculum, Episode, Task, between, check_tasks

Unit = Literal["steps", "episodes"]


class LinearRamp(Curriculum):
    """A linear ramp of each target from its first to its last value.

        value = start + min(count / over, 1) * (end - start)

    ``count`` is the number of env steps or episodes so far. Unlike the schedule `Linear`, the ramp changes values
    only between episodes, and can count episodes instead of env steps.

    Args:
        start: The first task, ``{target: value}``.
        end: The last task, with the same targets.
        over: Length of the ramp in ``unit``, >= 1.
        unit: ``"steps"`` counts env steps of finished episodes. ``"episodes"`` counts finished episodes.

    Raises:
        ValueError: If the targets differ or an argument is out of range.

    Examples:
        >>> ramp = LinearRamp({"length": 1.0}, {"length": 0.5}, over=10, unit="episodes")
        >>> for _ in range(4):
        ...     _ = ramp.task(0), ramp.record(1.0, 20, env_index=0)
        >>> ramp.task(0)
        {'length': 0.8}
    """

    name: ClassVar[str] = "linear_ramp"

    def __init__(
        self, start: Mapping[str, float], end: Mapping[str, float], over: int, unit: Unit = "steps"
    ) -> None:
        self.start, self.end = check_tasks("LinearRamp: start and end", [start, end])
        check_one_of("LinearRamp: unit", unit, get_args(Unit))
        self.unit = unit
        self.over = check_int("LinearRamp: over", over, least=1, unit=unit)
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the tasks."""
        return tuple(self.start)

    @property
    def difficulty(self) -> float:
        """Completed share of the ramp, in [0, 1]."""
        return min(self._count / self.over, 1.0)

    def _draw(self) -> tuple[Task, Any]:
        share = self.difficulty
        return {target: between(start, self.end[target], share) for target, start in self.start.items()}, None

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        if self._count < self.over:
            self._note_change()
        self._count += outcome.length if self.unit == "steps" else 1

    def _forget(self) -> None:
        self._count = 0

    def _kept(self) -> dict[str, Any]:
        return {"count": self._count}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._count = int(kept["count"])
