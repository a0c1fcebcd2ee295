"""Curricula that prefer tasks whose results change, or whose success rate is intermediate."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from rl_rms.envs.checks import check_number
from rl_rms.envs.curricula.base import Episode, succeeded
from rl_rms.envs.curricula.choice import Choice, Floats, check_choice, mixed


class LearningProgress(Choice):
    """Draws tasks in proportion to the rate at which their results change.

        progress = |fast average - slow average|

    A result is a success (1) or failure (0) if ``success_return`` is given or the environment reports successes,
    else a return. Both averages start at the first result of a task. If the agent improves at a task or forgets
    the task, the curriculum draws this task more often.

    Source: Matiisen et al., "Teacher-student curriculum learning" (2017), and for success rates Kanitscheider et
    al. (2021).

    Args:
        tasks: The tasks, ``{target: value}``, all with the same targets.
        fast: Weight of a new result in the fast average, in (0, 1].
        slow: Weight of a new result in the slow average, above 0 and below ``fast``.
        uniform: Share of episodes whose task is drawn uniformly, in [0, 1].
        success_return: Smallest return of a success; None uses the success that the environment reports, or the
            return if the environment reports nothing.

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "learning_progress"

    def __init__(
        self,
        tasks: Sequence[Mapping[str, float]],
        fast: float = 0.1,
        slow: float = 0.01,
        uniform: float = 0.2,
        success_return: float | None = None,
    ) -> None:
        self.tasks, self.uniform = check_choice("LearningProgress", tasks, uniform)
        self.fast = check_number("LearningProgress: fast", fast, above=0, most=1)
        self.slow = check_number("LearningProgress: slow", slow, above=0, most=1)
        if self.slow >= self.fast:
            raise ValueError(f"LearningProgress: slow must be below fast, got slow={slow!r}, fast={fast!r}")
        self.success_return = (
            None if success_return is None else check_number("LearningProgress: success_return", success_return)
        )
        super().__init__()

    @property
    def progress(self) -> Floats:
        """Progress on each task, shape ``(num_tasks,)``; 0 before the second episode of the task."""
        progress: Floats = np.nan_to_num(np.abs(self._averages[0] - self._averages[1]))
        return progress

    @property
    def probabilities(self) -> Floats:
        """Probabilities in proportion to the progress, mixed with ``uniform``; equal without progress."""
        return mixed(self.progress, self.uniform)

    def log(self) -> dict[str, float]:
        """Return the scalars of `Choice`, and the progress on each task."""
        return {**super().log(), **{f"progress/{number}": float(one) for number, one in enumerate(self.progress)}}

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        if self.success_return is None and outcome.success is None:
            result = outcome.episode_return
        else:
            result = float(succeeded("LearningProgress", outcome, self.success_return))
        now = self._averages[:, drawn]
        rates = np.array([self.fast, self.slow])
        self._averages[:, drawn] = result if np.isnan(now).any() else now + rates * (result - now)

    def _forget(self) -> None:
        super()._forget()
        self._averages = np.full((2, len(self.tasks)), np.nan)

    def _kept(self) -> dict[str, Any]:
        known = [None if np.isnan(pair).any() else pair.tolist() for pair in self._averages.T]
        return {**super()._kept(), "averages": known}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._check_number(kept["averages"])
        super()._keep(kept)
        self._averages = np.array([[np.nan, np.nan] if pair is None else pair for pair in kept["averages"]]).T


class Learnability(Choice):
    """Draws tasks in proportion to ``p (1 - p)``, where p is the success rate of the task.

    The curriculum prefers tasks that are neither too easy nor too hard. The success rate starts at one half.

    Source: Tzannetos et al., "Proximal curriculum for reinforcement learning agents" (TMLR 2023), and Rutherford
    et al., "No regrets" (NeurIPS 2024).

    Args:
        tasks: The tasks, ``{target: value}``, all with the same targets.
        rate: Weight of a new episode in the success rate, in (0, 1].
        uniform: Share of episodes whose task is drawn uniformly, in [0, 1].
        success_return: Smallest return of a success; None uses the success that the environment reports.

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "learnability"

    def __init__(
        self,
        tasks: Sequence[Mapping[str, float]],
        rate: float = 0.05,
        uniform: float = 0.2,
        success_return: float | None = None,
    ) -> None:
        self.tasks, self.uniform = check_choice("Learnability", tasks, uniform)
        self.rate = check_number("Learnability: rate", rate, above=0, most=1)
        self.success_return = (
            None if success_return is None else check_number("Learnability: success_return", success_return)
        )
        super().__init__()

    @property
    def probabilities(self) -> Floats:
        """Probabilities in proportion to ``p (1 - p)``, mixed with ``uniform``; equal if all products are 0."""
        return mixed(self._rates * (1 - self._rates), self.uniform)

    def log(self) -> dict[str, float]:
        """Return the scalars of `Choice`, and the success rate of each task."""
        return {
            **super().log(),
            **{f"success_rate/{number}": float(one) for number, one in enumerate(self._rates)},
        }

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        success = float(succeeded("Learnability", outcome, self.success_return))
        self._rates[drawn] += self.rate * (success - self._rates[drawn])

    def _forget(self) -> None:
        super()._forget()
        self._rates = np.full(len(self.tasks), 0.5)

    def _kept(self) -> dict[str, Any]:
        return {**super()._kept(), "rates": self._rates.tolist()}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._check_number(kept["rates"])
        super()._keep(kept)
        self._rates = np.array(kept["rates"], dtype=np.float64)
