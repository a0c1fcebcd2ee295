"""Episodes under a curriculum: sums their rewards, reports how they ended and asks for the next one's task."""

from collections.abc import Iterable

from rl_rms.envs.curricula import Curriculum


class Episodes:
    """The episodes in progress in environments that follow one curriculum.

    Args:
        curriculum: The curriculum.
        num_envs: Number of environments.
        first: What the curriculum calls the first of them; the others follow.
    """

    def __init__(self, curriculum: Curriculum, num_envs: int = 1, first: int = 0) -> None:
        self.curriculum = curriculum
        self._first = first
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def begin(self, row: int = 0) -> tuple[float, ...]:
        """Begin an episode in the environment number ``row``; one in progress is forgotten.

        Returns:
            Its task: a value for each of the curriculum's targets, in their order.
        """
        self._returns[row], self._lengths[row] = 0.0, 0
        task = self.curriculum.task(self._first + row)
        return tuple(task[target] for target in self.curriculum.targets)

    def add(self, rewards: Iterable[float], valid: Iterable[bool], done: Iterable[bool]) -> None:
        """Add a transition in each environment and report the episodes that it ended, in their order.

        Args:
            rewards: Shape ``(num_envs,)``.
            valid: False for reset frames, which are no transitions.
            done: Whether the transition was its episode's last.
        """
        for row, (reward, counts, ends) in enumerate(zip(rewards, valid, done, strict=True)):
            if counts:
                self._returns[row] += reward
                self._lengths[row] += 1
                if ends:
                    self.curriculum.record(self._returns[row], self._lengths[row], self._first + row)
