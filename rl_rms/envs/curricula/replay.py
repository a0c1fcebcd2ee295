"""Prioritized level replay, which repeats levels by their scores and by the time since their last episode."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from rl_rms.envs.checks import check_number
from rl_rms.envs.curricula.base import Episode, Task, check_tasks
from rl_rms.envs.curricula.choice import Choice, Floats


class PrioritizedLevelReplay(Choice):
    """Draws levels by the rank of their last score and by the time since their last episode.

        P = (1 - staleness) * score part + staleness * stale part
        score part  ~  rank(score) ** (-1 / beta)
        stale part  ~  episodes since the level was played

    These are the probabilities of played levels, which have at least one finished episode. While some levels are
    unplayed, a share ``1 - replay`` of the episodes draws an unplayed level uniformly. Before the first finished
    episode, all levels are equally likely.

    The score estimates how much the agent can still learn from a level. An agent can report the mean absolute
    error of its value estimates in the episode with `report_score`. Without a reported score, the score is the
    absolute difference between the return and the mean of the level's earlier returns. For the first episode of a
    level, the score is the highest current score of all levels, which is 0 at the start.

    Source: Jiang, Grefenstette and Rocktaeschel, "Prioritized level replay" (ICML 2021).

    Args:
        tasks: The levels, ``{target: value}``, all with the same targets.
        beta: Temperature, > 0; smaller values prefer the first ranks more.
        staleness: Weight of the stale part in P, in [0, 1].
        replay: Share of episodes that draw a played level while some levels are unplayed, in [0, 1].

    Raises:
        ValueError: If an argument is invalid.
    """

    name: ClassVar[str] = "prioritized_level_replay"

    def __init__(
        self,
        tasks: Sequence[Mapping[str, float]],
        beta: float = 0.1,
        staleness: float = 0.1,
        replay: float = 0.5,
    ) -> None:
        self.tasks = check_tasks("PrioritizedLevelReplay: tasks", tasks)
        self.beta = check_number("PrioritizedLevelReplay: beta", beta, above=0)
        self.staleness = check_number("PrioritizedLevelReplay: staleness", staleness, least=0, most=1)
        self.replay = check_number("PrioritizedLevelReplay: replay", replay, least=0, most=1)
        super().__init__()

    def report_score(self, env_index: int, score: float) -> None:
        """Report the score of an episode. Call this method in the episode, before `record` records it.

        Args:
            env_index: Index of the sub-environment.
            score: Score >= 0, such as the mean absolute error of the value estimates in the episode.
        """
        self._reported[env_index] = check_number("score", score, least=0)

    def task(self, env_index: int) -> Task:
        """Choose the level of an episode that begins, and discard a reported score of an unfinished episode."""
        self._reported.pop(env_index, None)
        return super().task(env_index)

    @property
    def probabilities(self) -> Floats:
        """The probability that each level is drawn next, shape ``(num_tasks,)``."""
        played = self._counts > 0
        if not played.any():
            return np.full(len(self.tasks), 1 / len(self.tasks))
        replayed = np.zeros(len(self.tasks))
        replayed[played] = self._among(played)
        if played.all():
            return replayed
        return self.replay * replayed + (1 - self.replay) * ~played / np.count_nonzero(~played)

    def _among(self, played: Any) -> Floats:
        """Return the probabilities of the levels that have been played."""
        # Ranks start at 1 for the highest score. Equal scores keep the order of the list.
        order = np.argsort(-self._scores[played], kind="stable")
        ranks = np.empty(len(order))
        ranks[order] = np.arange(1, len(order) + 1)
        by_score = ranks ** (-1 / self.beta)
        by_score /= by_score.sum()
        age = self._counts.sum() - self._played_at[played]
        total = age.sum()
        if total == 0:
            return np.asarray(by_score)
        return np.asarray((1 - self.staleness) * by_score + self.staleness * age / total)

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        count, mean = self._counts[drawn], self._means[drawn]
        score = self._reported.pop(outcome.env_index, None)
        if score is None:
            score = abs(outcome.episode_return - mean) if count else self._scores.max()
        self._scores[drawn] = score
        self._counts[drawn] += 1
        self._means[drawn] += (outcome.episode_return - mean) / self._counts[drawn]
        self._played_at[drawn] = self._counts.sum()

    def _forget(self) -> None:
        super()._forget()
        self._reported: dict[int, float] = {}
        self._scores, self._means, self._counts, self._played_at = np.zeros((4, len(self.tasks)))

    def _kept(self) -> dict[str, Any]:
        return {
            **super()._kept(),
            "reported": [list(one) for one in self._reported.items()],
            "levels": np.stack([self._scores, self._means, self._counts, self._played_at], axis=1).tolist(),
        }

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self._check_number(kept["levels"])
        super()._keep(kept)
        self._reported = {int(env_index): float(score) for env_index, score in kept["reported"]}
        self._scores, self._means, self._counts, self._played_at = np.array(kept["levels"], dtype=np.float64).T
