"""The part of a changing environment that uses the results of episodes: its curriculum and its adversaries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_rms.envs.adversary import find_adversaries
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.episodes import EpisodeCounter
from rl_rms.envs.schedules import Floats, Schedule


class Feedback:
    """Reports episodes to the curriculum and the adversaries, and stores the tasks of the episodes in progress.

    Args:
        schedules: Targets and their initial schedules. An adversary adds bursts to its schedule.
        curriculum: The curriculum; None if there is none.
        env_indices: Index by which the curriculum identifies each environment.

    Attributes:
        curriculum: The curriculum; None if there is none.
        has_adversaries: Whether any schedule depends on the returns of episodes.
        is_needed: Whether there is a curriculum or an adversary.
        tasks: Values of the curriculum's targets, shape ``(num_targets, num_envs)``. New tasks are
            written to a new array.

    Raises:
        ValueError: If an adversarial schedule is part of another schedule.
    """

    def __init__(
        self, schedules: Mapping[str, Schedule], curriculum: Curriculum | None, env_indices: Sequence[int] = (0,)
    ) -> None:
        self.curriculum = curriculum
        self._schedules = dict(schedules)
        self._adversaries = find_adversaries(schedules)
        self.has_adversaries = bool(self._adversaries)
        self.is_needed = curriculum is not None or self.has_adversaries
        self._env_indices = tuple(env_indices)
        self._episodes = EpisodeCounter(len(self._env_indices))
        num_targets = 0 if curriculum is None else len(curriculum.targets)
        self.tasks: Floats = np.zeros((num_targets, len(self._env_indices)))

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each target. An adversarial schedule includes all bursts so far."""
        return {**self._schedules, **{target: one.schedule for target, one in self._adversaries.items()}}

    def restart(self, seed: int) -> None:
        """Reset the adversaries and the curriculum, and seed the curriculum's random generator."""
        self._adversaries = find_adversaries(self._schedules)
        if self.curriculum is not None:
            self.curriculum.restart(seed)

    def begin(self, rows: Sequence[int]) -> None:
        """Start an episode in each of the environments ``rows``, with a task of the curriculum."""
        for row in rows:
            self._episodes.begin(row)
        if self.curriculum is None or not rows:
            return
        # A new array, because the environment may still use the old array.
        self.tasks = self.tasks.copy()
        for row in rows:
            task = self.curriculum.task(self._env_indices[row])
            self.tasks[:, row] = [task[target] for target in self.curriculum.targets]

    def record(
        self,
        clock: int,
        rewards: Iterable[float],
        valid: Iterable[bool],
        done: Iterable[bool],
        successes: Iterable[bool | None],
    ) -> bool:
        """Add the results of one step of each environment, and report the episodes that ended.

        Returns:
            Whether an adversary begins a burst at ``clock``. A burst changes the schedules.
        """
        struck = False
        for episode in self._episodes.add(rewards, valid, done, successes):
            if self.curriculum is not None:
                self.curriculum.record(
                    episode.episode_return,
                    episode.length,
                    self._env_indices[episode.env_index],
                    episode.success,
                )
            for adversary in self._adversaries.values():
                struck |= adversary.record(clock, episode.episode_return)
        return struck

    def state_dict(self) -> dict[str, Any]:
        """Return the state of curriculum, adversaries and episodes as plain JSON data, without ``tasks``."""
        return {
            "adversaries": {target: one.state_dict() for target, one in self._adversaries.items()},
            "curriculum": None if self.curriculum is None else self.curriculum.state_dict(),
            "episodes": self._episodes.state_dict() if self.is_needed else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, episodes: bool) -> None:
        """Restore a state that `state_dict` returned.

        Args:
            state: The state.
            episodes: Whether to restore the returns and lengths of the episodes in progress; False sets them to 0.

        Raises:
            ValueError: If the state was saved with another curriculum or with adversaries of other targets.
        """
        if (self.curriculum is None) != (state["curriculum"] is None):
            with_or_without = "without" if state["curriculum"] is None else "with"
            raise ValueError(
                f"the state was saved {with_or_without} a curriculum; make the environment {with_or_without} one "
                "too"
            )
        if set(state["adversaries"]) != set(self._adversaries):
            raise ValueError(
                f"the state was saved with adversarial_burst for {sorted(state['adversaries']) or 'no target'}, "
                f"but this environment has adversarial_burst for {sorted(self._adversaries) or 'no target'}; make "
                "the environment with the schedules of the saved environment"
            )
        if self.curriculum is not None:
            self.curriculum.load_state_dict(state["curriculum"])
        for target, adversary in self._adversaries.items():
            adversary.load_state_dict(state["adversaries"][target])
        if not episodes:
            self._episodes = EpisodeCounter(len(self._env_indices))
        elif self.is_needed:
            self._episodes.load_state_dict(state["episodes"])


def check_curriculum(env: VectorEnv, late: Sequence[str]) -> None:
    """Raise an error if SAME_STEP autoreset would set the tasks of a curriculum too late.

    Raises:
        ValueError: If tasks would be set after their episodes begin.
    """
    if isinstance(env.unwrapped, AsyncVectorEnv):
        reason = "the workers of an AsyncVectorEnv begin episodes on their own"
        mend = 'autoreset_mode="NextStep", or vectorization_mode="sync"'
    elif late:
        reason, mend = f"{late[0]!r} would take effect an episode too late", 'autoreset_mode="NextStep"'
    else:
        return
    raise ValueError(
        f"a curriculum sets each task before the episode begins, but in SAME_STEP mode {reason}; use {mend}"
    )
