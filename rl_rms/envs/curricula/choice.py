"""The base class of curricula that draw tasks from a list with learned probabilities."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_number
from rl_rms.envs.curricula.base import Curriculum, Task, check_tasks

Floats = npt.NDArray[np.float64]


class Choice(Curriculum):
    """A curriculum that draws one of several tasks with learned probabilities.

    A change of the most likely task counts as a change of the distribution of tasks.
    """

    tasks: list[Task]
    _likeliest: int | None

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the tasks."""
        return tuple(self.tasks[0])

    @property
    @abstractmethod
    def probabilities(self) -> Floats:
        """The probability that each task is drawn next, shape ``(num_tasks,)``."""

    @property
    def difficulty(self) -> float:
        """Expected position of the drawn task in the list, from 0 for the first task to 1 for the last task.

        The difficulty is 1 if there is only one task.
        """
        if len(self.tasks) == 1:
            return 1.0
        return float(self.probabilities @ np.linspace(0.0, 1.0, len(self.tasks)))

    def log(self) -> dict[str, float]:
        """Return the difficulty, the expected value of each target, and the probability of each task."""
        probabilities = self.probabilities
        scalars = {"difficulty": self.difficulty}
        for target in self.targets:
            values = np.array([task[target] for task in self.tasks])
            scalars[f"mean/{target}"] = float(probabilities @ values)
        scalars |= {f"probability/{number}": float(one) for number, one in enumerate(probabilities)}
        return scalars

    def _draw(self) -> tuple[Task, Any]:
        probabilities = self.probabilities
        likeliest = int(np.argmax(probabilities))
        if likeliest != self._likeliest:
            if self._likeliest is not None:
                self._note_change()
            self._likeliest = likeliest
        number = int(self._random.choice(len(self.tasks), p=probabilities))
        return self.tasks[number], number

    def _forget(self) -> None:
        self._likeliest = None

    def _kept(self) -> dict[str, Any]:
        return {"likeliest": self._likeliest}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._likeliest = kept["likeliest"]

    def _check_number(self, saved: Sequence[Any]) -> None:
        if len(saved) != len(self.tasks):
            raise ValueError(
                f"the state was saved with {len(saved)} tasks, but this curriculum has {len(self.tasks)}; make "
                "the same curriculum as when the state was saved"
            )


def check_choice(owner: str, tasks: Any, uniform: Any) -> tuple[list[Task], float]:
    """Check the tasks and the share of uniform draws of a `Choice`.

    Raises:
        ValueError: If the tasks or the share are invalid.
    """
    return check_tasks(f"{owner}: tasks", tasks), check_number(f"{owner}: uniform", uniform, least=0, most=1)


def mixed(weights: Floats, uniform: float) -> Floats:
    """Return probabilities in proportion to weights >= 0, mixed with a share ``uniform`` of equal probabilities.

    If all weights are 0, the probabilities are equal.
    """
    even = np.full(len(weights), 1 / len(weights))
    total = weights.sum()
    return even if total <= 0 else uniform * even + (1 - uniform) * weights / total
