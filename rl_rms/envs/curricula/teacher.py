"""A curriculum from a user's function."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.curricula.base import Curriculum, Episode, Task

Choose = Callable[[Sequence[Episode], np.random.Generator], Mapping[str, float]]


class Teacher(Curriculum):
    """A curriculum in which a user's function chooses each task from the finished episodes.

    Args:
        targets: Names of the targets that the tasks set.
        choose: ``choose(history, random)`` returns a task, ``{target: value}``. ``history`` holds the last
            ``memory`` finished episodes as `Episode`, oldest first. ``random`` is the curriculum's random
            generator. The tasks are reproducible only if ``choose`` uses no other random generator. In YAML,
            ``choose`` is a path ``"module:function"``, imported at first use.
        memory: Maximum number of episodes in the history, >= 1.

    Raises:
        ValueError: If an argument is invalid. At the beginning of an episode, if the function cannot be imported
            or does not return a number for each target.

    Examples:
        >>> def shorter_and_shorter(history, random):
        ...     return {"length": 1.0 / (1 + len(history))}
        >>> teacher = Teacher(["length"], shorter_and_shorter)
        >>> _ = teacher.task(0), teacher.record(1.0, 20, env_index=0)
        >>> teacher.task(0)
        {'length': 0.5}
    """

    name: ClassVar[str] = "teacher"
    _history: deque[Episode]
    _last: Task | None

    def __init__(self, targets: Sequence[str], choose: Choose | str, memory: int = 1_000) -> None:
        if isinstance(targets, str) or not targets or not all(isinstance(one, str) for one in targets):
            raise ValueError(f"Teacher: targets must be a list of names, got {targets!r}")
        self._targets = tuple(targets)
        self.choose = choose
        self._function = None if isinstance(choose, str) else choose
        if not (callable(choose) or (isinstance(choose, str) and ":" in choose)):
            raise ValueError(
                f'Teacher: choose must be a function of (history, random) or "module:function", got {choose!r}'
            )
        self.memory = check_int("Teacher: memory", memory, least=1, unit="episodes")
        super().__init__()

    @property
    def function(self) -> Choose:
        """The user's function, which is imported at its first use, not when a configuration is read.

        Raises:
            ValueError: If the function cannot be imported.
        """
        if self._function is None:
            self._function = _import(str(self.choose))
        return self._function

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, as given to the constructor."""
        return self._targets

    @property
    def history(self) -> Sequence[Episode]:
        """The last ``memory`` finished episodes, oldest first."""
        return tuple(self._history)

    @property
    def difficulty(self) -> float:
        """Always 0, because the difficulty of the function's tasks is unknown."""
        return 0.0

    def log(self) -> dict[str, float]:
        """Return the mean of each target in the history."""
        return {
            f"mean/{target}": float(np.mean([one.task[target] for one in self._history]))
            for target in self.targets
            if self._history
        }

    def to_config(self) -> dict[str, dict[str, Any]]:
        """Return the YAML form, if the function was given by its import path.

        Raises:
            ValueError: If the function was not given by its import path.
        """
        if not isinstance(self.choose, str):
            raise ValueError(
                f"YAML cannot contain a Python function, got {self.choose!r}; pass choose as an import path, "
                '"module:function"'
            )
        return super().to_config()

    def _draw(self) -> tuple[Task, Any]:
        task = self.function(self.history, self._random)
        if not isinstance(task, Mapping) or set(task) != set(self.targets):
            raise ValueError(
                f"Teacher: choose must return a number for each of {', '.join(self.targets)}, got {task!r}"
            )
        numbers = {target: check_number(f"Teacher: {target}", task[target]) for target in self.targets}
        if self._last is not None and numbers != self._last:
            self._note_change()
        self._last = numbers
        return numbers, None

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        self._history.append(outcome)

    def _forget(self) -> None:
        self._history = deque(maxlen=self.memory)
        self._last = None

    def _kept(self) -> dict[str, Any]:
        return {"history": [list(one) for one in self._history], "last": self._last}

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._history = deque((Episode(*one) for one in kept["history"]), maxlen=self.memory)
        self._last = None if kept["last"] is None else dict(kept["last"])


def _import(path: str) -> Choose:
    module, _, name = path.partition(":")
    try:
        function: Choose = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'Teacher: cannot import choose={path!r} ({error}); choose must be a function or "module:function"'
        ) from error
    if not callable(function):
        raise ValueError(f"Teacher: choose must name a function, got {path!r}, which is {function!r}")
    return function
