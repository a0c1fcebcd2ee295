"""Curricula with stages in a fixed order. The next stage begins when a gate opens."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.curricula.base import Curriculum, Episode, Task, check_tasks
from rl_rms.envs.curricula.gates import Gate, ReturnGate, WilsonGate


class Climb(Curriculum):
    """A curriculum of numbered stages, with a gate to the next stage.

    Only episodes that began in the present stage count.
    """

    _gate: Gate
    _stage: int

    @property
    @abstractmethod
    def last_stage(self) -> int:
        """Index of the last stage."""

    @property
    def stage(self) -> int:
        """Index of the present stage, from 0."""
        return self._stage

    @property
    def difficulty(self) -> float:
        """The index of the stage divided by the index of the last stage; 1 with a single stage."""
        return self._stage / self.last_stage if self.last_stage else 1.0

    def log(self) -> dict[str, float]:
        """Return the stage, the difficulty, and the success rate if a `WilsonGate` has enough episodes."""
        scalars = {"stage": float(self.stage), "difficulty": self.difficulty}
        if isinstance(self._gate, WilsonGate) and self._gate.knows_enough:
            scalars["success_rate"] = self._gate.mean
        return scalars

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        if drawn != self._stage:
            return
        self._gate.record(outcome)
        if self._gate.is_open and self._stage < self.last_stage:
            self._go_to(self._stage + 1)

    def _go_to(self, stage: int) -> None:
        self._stage = stage
        self._stage_changes += 1
        self._gate.clear()
        self._note_change()

    def _forget(self) -> None:
        self._stage = 0
        self._gate.clear()

    def _kept(self) -> dict[str, Any]:
        return {"stage": self._stage, "gate": self._gate.state_dict()}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        if not 0 <= kept["stage"] <= self.last_stage:
            raise ValueError(
                f"the saved stage {kept['stage']} is not one of the {self.last_stage + 1} stages of this "
                "curriculum; make the same curriculum as when the state was saved"
            )
        self._stage = int(kept["stage"])
        self._gate.load_state_dict(kept["gate"])


class Staged(Climb):
    """Stages in a fixed order. The curriculum never returns to an earlier stage.

    Args:
        stages: The task of each stage, ``{target: value}``, all with the same targets.
        threshold: Mean return of the last ``window`` episodes that passes a stage (`ReturnGate`).
        window: Number of latest episodes in the mean return, >= 1.

    Raises:
        ValueError: If there is no stage, the targets differ, or a number is out of range.
    """

    name: ClassVar[str] = "staged"

    def __init__(self, stages: Sequence[Mapping[str, float]], threshold: float, window: int = 20) -> None:
        self.stages = check_tasks("Staged: stages", stages)
        self.threshold = check_number("Staged: threshold", threshold)
        self.window = check_int("Staged: window", window, least=1, unit="episodes")
        self._gate = ReturnGate(self.threshold, self.window)
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the stages."""
        return tuple(self.stages[0])

    @property
    def last_stage(self) -> int:
        """Index of the last stage."""
        return len(self.stages) - 1

    def _draw(self) -> tuple[Task, Any]:
        return self.stages[self._stage], self._stage


class SuccessGated(Climb):
    """Moves to the next level when the agent succeeds, and to the previous level when a level is too hard.

    The next level begins when a `WilsonGate` opens. The gate also computes an upper confidence bound of the
    success rate. If the upper bound is below ``threshold - hysteresis``, the previous level begins again.
    After a change of the level, the level does not change for ``cooldown`` episodes.

    Args:
        levels: The task of each level, ``{target: value}``, all with the same targets.
        threshold: Success rate that passes a level, in [0, 1].
        success_return: Smallest return of a success; None uses the success that the environment reports.
        confidence: Confidence of the one-sided bounds, in (0.5, 1).
        min_episodes: Minimum number of episodes at a level before the level changes, >= 1.
        window: Maximum number of latest episodes in the success rate, >= ``min_episodes``.
        hysteresis: Distance of the upper bound below ``threshold`` at which the previous level begins again, >= 0.
            With 1 or more, a previous level never begins again.
        cooldown: Minimum number of episodes at a level between two changes of the level, >= 0.

    Raises:
        ValueError: If there is no level, the targets differ, or a number is out of range.
    """

    name: ClassVar[str] = "success_gated"

    def __init__(
        self,
        levels: Sequence[Mapping[str, float]],
        threshold: float = 0.8,
        success_return: float | None = None,
        confidence: float = 0.95,
        min_episodes: int = 20,
        window: int = 100,
        hysteresis: float = 0.1,
        cooldown: int = 50,
    ) -> None:
        self.levels = check_tasks("SuccessGated: levels", levels)
        self._gate: WilsonGate = WilsonGate(threshold, confidence, min_episodes, window, success_return)
        self.threshold, self.success_return = self._gate.threshold, self._gate.success_return
        self.confidence, self.min_episodes = self._gate.confidence, self._gate.min_episodes
        self.window = self._gate.window
        self.hysteresis = check_number("SuccessGated: hysteresis", hysteresis, least=0)
        self.cooldown = check_int("SuccessGated: cooldown", cooldown, least=0, unit="episodes")
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the levels."""
        return tuple(self.levels[0])

    @property
    def last_stage(self) -> int:
        """Index of the last level."""
        return len(self.levels) - 1

    def _draw(self) -> tuple[Task, Any]:
        return self.levels[self._stage], self._stage

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        if drawn != self._stage:
            return
        gate = self._gate
        gate.record(outcome)
        self._since_change += 1
        if self._stage_changes and self._since_change <= self.cooldown:
            return
        if gate.is_open and self._stage < self.last_stage:
            self._go_to(self._stage + 1)
        elif gate.knows_enough and gate.upper < self.threshold - self.hysteresis and self._stage > 0:
            self._go_to(self._stage - 1)

    def _go_to(self, stage: int) -> None:
        super()._go_to(stage)
        self._since_change = 0

    def _forget(self) -> None:
        super()._forget()
        self._since_change = 0

    def _kept(self) -> dict[str, Any]:
        return {**super()._kept(), "since_change": self._since_change}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        super()._keep(kept)
        self._since_change = int(kept["since_change"])
