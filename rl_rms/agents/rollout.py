"""Episodes, rollouts, and the buffers that record rollouts.

Gymnasium has three autoreset modes. In NEXT_STEP, the step after an episode is a reset frame, and its action is
ignored. In SAME_STEP, the next episode begins within the last step, and the final observation is in ``info``. In
DISABLED, the caller resets the sub-environment. A `Rollout` has the same form in all three modes: reset frames are
marked invalid, and the final observation of every truncated episode is kept.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_rms.agents.trees import Tree, tree_map, tree_stack

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Episode:
    """A finished episode.

    Attributes:
        ret: Undiscounted sum of the rewards.
        length: Env steps.
        env_index: Index of the sub-environment.
        num_timesteps: Env steps of the agent at the episode's end, all sub-environments together.
        success: Success that the environment reports at the episode's end; None without a report.
    """

    ret: float
    length: int
    env_index: int
    num_timesteps: int
    success: bool | None = None


@dataclass(frozen=True)
class Rollout:
    """The transitions of ``num_steps`` vector steps. The collector reuses the arrays for the next rollout.

    Observations may be trees of arrays, see `rl_rms.agents.trees`.

    Attributes:
        observations: Shape ``(num_steps + 1, num_envs, *observation)``; the last row has the observations after
            the last step.
        actions: The policy's actions, shape ``(num_steps, num_envs, *action)``.
        rewards: Shape ``(num_steps, num_envs)``.
        terminated: Whether the transition terminated its episode, shape ``(num_steps, num_envs)``.
        truncated: Whether the transition truncated its episode, same shape.
        valid: False for reset frames and failed steps, which are not transitions, same shape.
        starts: Whether an observation is its episode's first, shape ``(num_steps + 1, num_envs)``.
        action_masks: The valid actions, shape ``(num_steps, num_envs, entries)``; None if all actions are valid.
        final_index: Rows ``(step, env)`` of truncated transitions whose following observation is not in
            ``observations``, shape ``(num_finals, 2)``.
        final_observations: The observations after the transitions in ``final_index``, shape ``(num_finals,
            *observation)``.
        episodes: The episodes that ended, in order.
        masked: Transitions that contain an imputed value, same shape as ``valid``; None if there are none. The
            loss ignores these transitions.
    """

    observations: Tree
    actions: Array
    rewards: npt.NDArray[np.float32]
    terminated: Bools
    truncated: Bools
    valid: Bools
    starts: Bools
    action_masks: Bools | None
    final_index: npt.NDArray[np.int64]
    final_observations: Tree
    episodes: list[Episode]
    masked: Bools | None = None

    @property
    def done(self) -> Bools:
        """Whether the transition was its episode's last, shape ``(num_steps, num_envs)``."""
        return self.terminated | self.truncated

    @property
    def known(self) -> Bools:
        """The valid transitions without imputed values, shape ``(num_steps, num_envs)``."""
        return self.valid if self.masked is None else self.valid & ~self.masked

    @property
    def cut(self) -> Bools:
        """Transitions after which advantages are cut off, shape ``(num_steps, num_envs)``.

        These transitions are the ends of episodes, the masked transitions, and the transitions before masked
        transitions.
        """
        if self.masked is None:
            return self.done
        cut = self.done | self.masked
        cut[:-1] |= self.masked[1:]
        return cut

    @property
    def env_steps(self) -> int:
        """Number of valid transitions in the rollout."""
        return int(np.count_nonzero(self.valid))


@dataclass(frozen=True)
class RolloutTotals:
    """Totals over the rollouts of all workers.

    Attributes:
        env_steps: Env steps of all workers.
        share: This worker's share of the transitions in the loss.
        has_data: Whether any worker has a transition in the loss.
    """

    env_steps: int
    share: float = 1.0
    has_data: bool = True


class Step(NamedTuple):
    """The result of one vector step; the collector holds the next observations.

    Attributes:
        rewards: Rewards; each array of this class has the shape ``(num_envs,)``.
        terminated: Whether the episode was terminated.
        truncated: Whether the episode was truncated.
        valid: False for reset frames, and for steps in which the sub-environment failed.
        finals: Index and final observation of each truncated sub-environment whose next observation already
            belongs to a new episode.
        masked: Transitions that contain an imputed value; None if there are none.
        broken: Sub-environments that failed and were restarted. The episodes of failed sub-environments ended
            one step earlier. None if none failed.
    """

    rewards: Array
    terminated: Bools
    truncated: Bools
    valid: Bools
    finals: list[tuple[int, Tree]]
    masked: Bools | None
    broken: Bools | None


class RolloutBuffers:
    """Arrays that record rollouts. The arrays double in length when a rollout does not fit."""

    def __init__(self, observations: Tree, actions: Array, masks: Bools | None) -> None:
        num_envs = len(actions)
        self.capacity = 1
        self._observations = tree_map(lambda leaf: np.empty((2, *leaf.shape), leaf.dtype), observations)
        self._starts = np.empty((2, num_envs), np.bool_)
        self._masks = None if masks is None else np.empty((1, *masks.shape), np.bool_)
        self._actions = np.empty((1, *actions.shape), actions.dtype)
        self._rewards = np.empty((1, num_envs), np.float32)
        self._terminated, self._truncated, self._valid = np.empty((3, 1, num_envs), np.bool_)
        self._like = observations
        # The empty arrays are made only once, because most rollouts have no final observations.
        self._no_finals = self._stacked([])

    def double(self) -> None:
        """Make room for twice as many steps."""
        self.capacity *= 2
        arrays = ("_starts", "_masks", "_actions", "_rewards", "_terminated", "_truncated", "_valid")
        for name in ("_observations", *arrays):
            setattr(self, name, tree_map(_doubled, getattr(self, name)))

    def begin(self, observations: Tree, starts: Bools) -> None:
        """Write the observations before the first step."""
        tree_map(partial(_write, 0), self._observations, observations)
        self._starts[0] = starts

    def write(
        self, t: int, action: Array, masks: Bools | None, step: Step, observations: Tree, starts: Bools
    ) -> Tree:
        """Write step ``t`` and the observations after it, and return the buffers' view of these observations."""
        self._starts[t + 1] = starts
        if self._masks is not None:
            self._masks[t] = masks
        self._actions[t] = action
        self._rewards[t] = step.rewards
        self._terminated[t], self._truncated[t] = step.terminated, step.truncated
        self._valid[t] = step.valid
        if isinstance(observations, np.ndarray):
            row = self._observations[t + 1]
            row[...] = observations
            return row
        tree_map(partial(_write, t + 1), self._observations, observations)
        return tree_map(lambda leaf: leaf[t + 1], self._observations)

    def cut(self, t: int, where: Bools) -> None:
        """Mark the valid, not terminated transitions of step ``t`` in ``where`` as truncated."""
        self._truncated[t] |= where & self._valid[t] & ~self._terminated[t]

    def rollout(self, num_steps: int, finals: list[tuple[int, int, Tree]], episodes: list[Episode]) -> Rollout:
        """The rollout of the first ``num_steps`` steps."""
        final_index, final_observations = self._stacked(finals) if finals else self._no_finals
        return Rollout(
            observations=tree_map(lambda leaf: leaf[: num_steps + 1], self._observations),
            actions=self._actions[:num_steps],
            rewards=self._rewards[:num_steps],
            terminated=self._terminated[:num_steps],
            truncated=self._truncated[:num_steps],
            valid=self._valid[:num_steps],
            starts=self._starts[: num_steps + 1],
            action_masks=None if self._masks is None else self._masks[:num_steps],
            final_index=final_index,
            final_observations=final_observations,
            episodes=episodes,
        )

    def _stacked(self, finals: list[tuple[int, int, Tree]]) -> tuple[npt.NDArray[np.int64], Tree]:
        """The indices ``(step, env)`` of final observations, and the observations in one tree."""
        index = np.array([final[:2] for final in finals], dtype=np.int64).reshape(-1, 2)
        return index, tree_stack([final[2] for final in finals], self._like)


def _doubled(leaf: Array | None) -> Array | None:
    return None if leaf is None else np.concatenate((leaf, np.empty_like(leaf)))


def _write(t: int, leaf: Array, value: Array) -> None:
    leaf[t] = value
