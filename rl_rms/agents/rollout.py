"""Stepping a vector environment and recording what happened, alike under every autoreset mode.

Gymnasium replaces a finished episode's final observation by the next one's first in three ways: one step later
(NEXT_STEP: that step is a reset frame, its action ignored), within the same step (SAME_STEP: the final one is in
``info``), or when told to (DISABLED). A `Rollout` reads the same in all three: reset frames are marked invalid
and the true final observation of every truncated episode is kept.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_rms.agents.config import OnNonfinite
from rl_rms.agents.finite import TAME, Found, are_tame, find, not_finite, replaced, without_infinities
from rl_rms.agents.masks import as_action_masks, check_action_masks
from rl_rms.agents.spaces import ACTION_MASK, action_mask_size
from rl_rms.agents.trees import Tree, tree_map, tree_stack
from rl_rms.envs.checks import check_reset
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.faults import EnvError, broken_in, copied, watch
from rl_rms.envs.keys import CLOCK
from rl_rms.envs.notices import Notices
from rl_rms.envs.worker_faults import WatchedAsync

LONG_EPISODE = 100_000
"""Env steps after which an episode that others wait for is reported as endless."""

_MANY_OVERWRITTEN = 3

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Episode:
    """A finished episode.

    Attributes:
        ret: Undiscounted sum of its rewards.
        length: Its env steps.
        env_index: Sub-environment that played it.
        num_timesteps: Env steps that the agent had lived when it ended, all sub-environments together.
        success: What the environment said in ``info["is_success"]`` at its end, None where it said nothing.
    """

    ret: float
    length: int
    env_index: int
    num_timesteps: int
    success: bool | None = None


@dataclass(frozen=True)
class Rollout:
    """What ``num_steps`` vector steps showed; its arrays are the collector's, and the next rollout's too.

    Observations may be trees of arrays, see `rl_rms.agents.trees`.

    Attributes:
        observations: Shape ``(num_steps + 1, num_envs, *observation)``; the last row follows the last step.
        actions: As the policy gave them, shape ``(num_steps, num_envs, *action)``.
        rewards: Shape ``(num_steps, num_envs)``.
        terminated: Whether the transition ended its episode for good, shape ``(num_steps, num_envs)``.
        truncated: Whether it was cut off from outside, same shape.
        valid: False for reset frames, which are no transitions, same shape.
        starts: Whether an observation is its episode's first, shape ``(num_steps + 1, num_envs)``.
        action_masks: Which actions were valid, bool, shape ``(num_steps, num_envs, entries)``; None where all are.
        final_index: Rows ``(step, env)`` of truncated transitions whose following observation is not in
            ``observations``, shape ``(num_finals, 2)``.
        final_observations: Those observations, shape ``(num_finals, *observation)``.
        episodes: The episodes that ended, in order.
        left_out: Transitions of which a number was not finite and is made up, same shape as ``valid``; None for
            none.
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
    left_out: Bools | None = None

    @property
    def done(self) -> Bools:
        """Whether the transition was its episode's last, shape ``(num_steps, num_envs)``."""
        return self.terminated | self.truncated

    @property
    def known(self) -> Bools:
        """Which transitions may be learned from, shape ``(num_steps, num_envs)``."""
        return self.valid if self.left_out is None else self.valid & ~self.left_out

    @property
    def cut(self) -> Bools:
        """Where advantages end: with an episode, and before and after what is left out, same shape."""
        if self.left_out is None:
            return self.done
        cut = self.done | self.left_out
        cut[:-1] |= self.left_out[1:]
        return cut

    @property
    def env_steps(self) -> int:
        """True transitions in the rollout."""
        return int(np.count_nonzero(self.valid))


class Step(NamedTuple):
    """What one vector step showed; what follows it stands in the collector.

    Attributes:
        rewards: Shape ``(num_envs,)``.
        terminated: Likewise, as the following.
        truncated: Whether the episode was cut off from outside.
        valid: False where the step was a reset frame, or the sub-environment failed in it.
        finals: Sub-environments that were truncated and whose final observation is no longer to be seen, with it.
        left_out: Where a number of the transition was not finite and is made up; None for nowhere.
        broken: Where the sub-environment failed and was made anew, so that the episode ended a step before; None
            if nowhere.
    """

    rewards: Array
    terminated: Bools
    truncated: Bools
    valid: Bools
    finals: list[tuple[int, Tree]]
    left_out: Bools | None
    broken: Bools | None


class Collector:
    """Steps a vector environment with an agent's actions and counts what is true in it.

    Args:
        env: The vector environment.
        mask_actions: Whether the environment says which actions are valid, in ``info["action_mask"]`` or, in a
            Dict observation, under ``action_mask``.
        on_nonfinite: What to do about rewards and observations that are not finite: see `AgentConfig`.
        on_env_error: What is to be done where a sub-environment fails, ``"raise"`` or ``"restart"``; None leaves
            it as it is in this environment, ``"raise"`` at first.
        env_timeout: Seconds that a worker of an AsyncVectorEnv may take over a step or a reset; None leaves it as
            it is, for ever at first.

    Attributes:
        num_timesteps: Env steps lived, all sub-environments together.
        share: Env steps that are counted for one of these sub-environments': how many workers do as these do.
        num_nonfinite: Rewards and observations that were not finite, until somebody sets it to 0.

    Raises:
        ValueError: If the environment does not say how it resets, its actions cannot be masked, or its
            sub-environments cannot be watched as they are to be.
    """

    def __init__(
        self,
        env: VectorEnv,
        *,
        mask_actions: bool = False,
        on_nonfinite: OnNonfinite = "raise",
        on_env_error: OnEnvError | None = None,
        env_timeout: float | None = None,
    ) -> None:
        self.env = env
        self._on_nonfinite = on_nonfinite
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; set it "
                "to what the environment does at an episode's end"
            )
        self._mode = mode
        self._observations: Tree = None
        self._none = np.zeros(env.num_envs, dtype=np.bool_)
        self._all = ~self._none
        self._resetting = self._none
        self._starts = self._all
        self._masks: Bools | None = None
        if mask_actions:
            self._masks = np.ones((env.num_envs, action_mask_size(env.single_action_space)), dtype=np.bool_)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._notices = Notices()
        self._buffers: _Buffers | None = None
        # Which of the present observations are made up, None for none.
        self._made_up: Bools | None = None
        # Largest sum of squares of a vector step's rewards.
        self._most = 0.0
        self.num_timesteps = 0
        self.share = 1
        self.num_nonfinite = 0
        self._is_over = False
        self._watch = watch(env, on_env_error, env_timeout)
        self.first_index = 0
        # As many as the last step knew of.
        self._restarts = 0
        # Final observations so far that equal the next episode's first; None once one does not.
        self._num_overwritten = 0 if type(env) is WatchedAsync else None

    @property
    def num_restarts(self) -> int:
        """How often a sub-environment failed and was made anew."""
        return 0 if self._watch is None else self._watch.num_restarts

    @property
    def first_index(self) -> int:
        """What errors call the first of these sub-environments."""
        return self._first_index

    @first_index.setter
    def first_index(self, first_index: int) -> None:
        self._first_index = first_index
        if self._watch is not None:
            self._watch.first_index = first_index

    @property
    def started(self) -> bool:
        """Whether the environment has been reset and waits for actions."""
        return self._observations is not None and not self._is_over

    def stop(self) -> None:
        """Leave the episodes, since they cannot go on; only `start` begins others."""
        self._is_over = True

    def start(self, seed: int | None, clock: int | None = None) -> None:
        """Reset the environment and begin new episodes everywhere.

        Args:
            seed: Seeds the environment; None goes on with its random generator.
            clock: Where a changing world's clock is to stand, in env steps; None leaves it to the reset.
        """
        options = None if clock is None else {CLOCK: clock}
        try:
            observations, info = check_reset(self.env.reset(seed=seed, options=options))
        except EnvError as error:
            error.when = f" at a reset, after {self.num_timesteps:,} env steps"
            raise
        self._is_over = False
        self._resetting, self._starts = self._none, self._all
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._observations = tree_map(np.array, observations)
        self._made_up = None
        if not are_tame(self._observations):
            self._observations, self._made_up = self._mended(self._observations)
        self._read_masks([info], self._all)

    @property
    def observations(self) -> Tree:
        """What the environment showed last, shape ``(num_envs, *observation)``."""
        if self._observations is None:
            raise RuntimeError("start() must be called before there are observations")
        return self._observations

    @property
    def resetting(self) -> Bools:
        """Which sub-environments begin an episode in the next step, shape ``(num_envs,)``."""
        return self._resetting

    @property
    def starts(self) -> Bools:
        """Where the last observation is its episode's first, shape ``(num_envs,)``."""
        return self._starts

    @property
    def action_masks(self) -> Bools | None:
        """Which actions are valid now, shape ``(num_envs, entries)``; None where all are."""
        return self._masks

    def state_dict(self) -> dict[str, Any]:
        """The episodes in progress, for `rl_rms.envs.snapshots.encode`."""
        return {
            "observations": self.observations,
            "resetting": self._resetting,
            "starts": self._starts,
            "masks": self._masks,
            "returns": self._returns,
            "lengths": self._lengths,
            "made_up": self._made_up,
            "most": self._most,
            "faults": None if self._watch is None else self._watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`, the environment being where it was."""
        self._observations = state["observations"]
        self._resetting, self._starts = state["resetting"], state["starts"]
        if self._masks is not None:
            self._masks = state["masks"]
        self._returns, self._lengths = state["returns"], state["lengths"]
        self._made_up, self._most = state["made_up"], state["most"]
        if self._watch is not None and state["faults"] is not None:
            self._watch.load_state_dict(state["faults"])

    def step(self, actions: Array, episodes: list[Episode]) -> Step:
        """One vector step.

        Args:
            actions: As the environment takes them, shape ``(num_envs, *action)``.
            episodes: Those that end are appended.

        Raises:
            FloatingPointError: If a reward or an observation is not finite and that is to be raised.
            EnvError: If a sub-environment failed for good.
        """
        following, rewards, terminated, truncated, info = self._step_env(actions)
        broken = None
        if self.num_restarts != self._restarts:
            self._restarts = self.num_restarts
            broken = broken_in(info, truncated)
        valid = self._all if self._resetting is self._none else ~self._resetting
        done = terminated | truncated
        if broken is not None:
            valid = valid & ~broken
        finals: list[tuple[int, Tree]] = []
        self._starts = self._resetting
        over = np.count_nonzero(done)
        infos = [info]
        if over and self._mode is not AutoresetMode.NEXT_STEP:
            self._starts, self._resetting = done, self._none
            cut = np.flatnonzero(truncated & ~terminated & valid).tolist()
            if self._mode is AutoresetMode.SAME_STEP:
                finals = _finals_in(info, cut)
                if finals and self._num_overwritten is not None:
                    self._look_for_overwritten(finals, following)
            else:
                # The reset may write into the arrays that the step returned.
                following, rewards, terminated, truncated, info = copied(
                    (following, rewards, terminated, truncated, info)
                )
                finals = [(i, tree_map(lambda leaf, i=i: leaf[i], following)) for i in cut]
                fresh, beginning = check_reset(self.env.reset(options={"reset_mask": done}))
                infos = [info, beginning]
                following = tree_map(partial(_replaced, done), following, fresh)
        else:
            self._resetting = done if over else self._none
        # In SAME_STEP mode the other keys describe the first observation of the next episode.
        ending = info.get("final_info", info) if self._mode is AutoresetMode.SAME_STEP else info
        rewards, finals, following, left_out = self._checked(rewards, finals, following, valid)
        self._observations = following
        if self._masks is not None:
            self._read_masks(infos, self._starts)
        self._count(rewards, valid)
        if broken is not None:
            # What the episode came to is not the policy's doing.
            self._returns[broken], self._lengths[broken] = 0.0, 0
            done = done & ~broken
        if over:
            self._close(done, ending, episodes)
        return Step(rewards, terminated, truncated, valid, finals, left_out, broken)

    def _look_for_overwritten(self, finals: list[tuple[int, Tree]], following: Tree) -> None:
        """Warn if all final observations equal the first ones of the next episodes.

        Gymnasium's own workers reset an environment before they send its final observation, which an environment
        that writes into one array has overwritten then.
        """
        assert self._num_overwritten is not None
        same = True

        def compare(final: Array, first: Array) -> None:
            nonlocal same
            same = same and np.array_equal(final, first)

        for i, final in finals:
            tree_map(lambda leaf, row, i=i: compare(leaf, row[i]), final, following)
        self._num_overwritten = self._num_overwritten + len(finals) if same else None
        if self._num_overwritten is not None and self._num_overwritten >= _MANY_OVERWRITTEN:
            self._num_overwritten = None
            self._notices.give(
                "the final observations of truncated episodes equal the first ones of the next episodes; if the "
                "environment returns the same array at every step, return copies, or make the vector environment "
                "with rl_rms.envs.make_vec",
            )

    def warn_of_long_episode(self) -> None:
        """Warn once if an episode has not ended after `LONG_EPISODE` env steps."""
        if (self._lengths >= LONG_EPISODE).any():
            self._notices.give(
                f"an episode has not ended after {LONG_EPISODE:,} env steps; if the environment never ends its "
                "episodes, wrap it in gymnasium.wrappers.TimeLimit, or make it with max_episode_steps"
            )

    def keep_observations(self) -> None:
        """Copy the last observations, whose arrays the environment may reuse; `collect` does so itself."""
        self._observations = copied(self._observations)

    def collect(
        self, act: Callable[[int], tuple[Array, Array]], stop: Callable[[int, list[Episode]], bool]
    ) -> Rollout:
        """Step until ``stop``, recording what happens.

        Args:
            act: From the number of steps so far to the policy's actions for `observations`, shape
                ``(num_envs, *action)``, and the same actions as the environment takes them.
            stop: From the number of vector steps so far and the episodes ended so far to whether that is enough.

        Returns:
            The rollout, in arrays that are used again for the next one.
        """
        num_steps = 0
        episodes: list[Episode] = []
        finals: list[tuple[int, int, Tree]] = []
        left_out: dict[int, Bools] = {}
        buffers = self._buffers
        while not stop(num_steps, episodes):
            masks, starts, observations = self._masks, self._starts, self._observations
            action, env_action = act(num_steps)
            if buffers is None:
                buffers = self._buffers = _Buffers(self.observations, action, masks)
            if num_steps == 0:
                buffers.begin(observations, starts)
            elif num_steps == buffers.capacity:
                buffers.double()
            step = self.step(env_action, episodes)
            finals += [(num_steps, i, final) for i, final in step.finals]
            if step.left_out is not None:
                left_out[num_steps] = step.left_out
            buffers.write(num_steps, action, masks, step, self._observations, self._starts)
            if step.broken is not None and num_steps:
                buffers.cut(num_steps - 1, step.broken)
            # Not the environment's own array, which it may use again.
            self._observations = buffers.observations_at(num_steps + 1)
            num_steps += 1
        assert buffers is not None
        rollout = buffers.rollout(num_steps, finals, episodes)
        if not left_out:
            return rollout
        return dataclasses.replace(
            rollout, left_out=np.stack([left_out.get(t, self._none) for t in range(num_steps)]) & rollout.valid
        )

    def _step_env(self, actions: Array) -> tuple[Tree, Array, Bools, Bools, dict[str, Any]]:
        """The environment's step; where it fails, the error is told when that was."""
        try:
            return self.env.step(actions)
        except EnvError as error:
            steps = ", ".join(f"{self._lengths[i - self.first_index] + 1:,}" for i in error.indices)
            where = (
                f"steps {steps} of their episodes" if len(error.indices) > 1 else f"step {steps} of its episode"
            )
            error.when = f" in {where}, after {self.num_timesteps:,} env steps"
            raise

    def _checked(
        self, rewards: Array, finals: list[tuple[int, Tree]], following: Tree, valid: Bools
    ) -> tuple[Array, list[tuple[int, Tree]], Tree, Bools | None]:
        """A step's numbers, all of them finite, and which transitions are left out for it."""
        left_out, self._made_up = self._made_up, None
        squares = np.vdot(rewards, rewards)
        if not squares < TAME:
            rewards, left_out = self._mended_rewards(rewards, valid, left_out)
        elif squares > self._most:
            self._most = float(squares)
        if finals and not all(are_tame(final) for _, final in finals):
            finals, left_out = self._mended_finals(finals, left_out)
        if not are_tame(following):
            following, self._made_up = self._mended(following)
        return rewards, finals, following, left_out

    def _mended_rewards(self, rewards: Array, valid: Bools, left_out: Bools | None) -> tuple[Array, Bools | None]:
        """Rewards that are finite, and which transitions are left out now."""
        # That of a reset frame is nobody's.
        rewards = np.where(valid, rewards, 0.0)
        found = find("the reward", rewards)
        if not found:
            return rewards, left_out
        self._meet(found)
        largest = math.sqrt(self._most / len(rewards)) if self._on_nonfinite == "clip" else 0.0
        wrong = not_finite(rewards)
        stand_ins = np.where(np.isnan(rewards), 0.0, np.where(rewards < 0, -largest, largest))
        return np.where(wrong, stand_ins, rewards), self._also(left_out, found)

    def _mended_finals(
        self, finals: list[tuple[int, Tree]], left_out: Bools | None
    ) -> tuple[list[tuple[int, Tree]], Bools | None]:
        """Final observations that are finite, and which transitions are left out now."""
        mended = []
        for i, final in finals:
            tree = tree_map(lambda leaf: np.asarray(leaf)[None], final)
            found = [dataclasses.replace(one, env_index=i) for one in find("the final observation", tree)]
            if found:
                self._meet(found)
                left_out = self._also(left_out, found)
                before = tree_map(lambda leaf, i=i: leaf[i : i + 1], self._observations)
                tree = self._finite(tree, before)
            mended.append((i, tree_map(lambda leaf: leaf[0], tree)))
        return mended, left_out

    def _mended(self, observations: Tree) -> tuple[Tree, Bools | None]:
        """Observations that are finite, and which of them are made up."""
        found = find("the observation", observations)
        if not found:
            return observations, None
        self._meet(found)
        # The last one's number where there is one in the episode.
        starts = self._starts

        def last(leaf: Array) -> Array:
            return np.where(starts.reshape(-1, *[1] * (leaf.ndim - 1)), np.zeros((), leaf.dtype), leaf)

        return self._finite(observations, tree_map(last, self._observations)), self._also(None, found)

    def _finite(self, observations: Tree, before: Tree) -> Tree:
        """Observations with what came before for what is not finite, infinities clipped if they are to be."""
        if self._on_nonfinite == "clip":
            observations = without_infinities(observations, self.env.single_observation_space)
        return replaced(observations, before)

    def _also(self, left_out: Bools | None, found: list[Found]) -> Bools | None:
        """Which transitions are left out with those that were found; where numbers are clipped, none is."""
        if self._on_nonfinite == "clip":
            return None
        left_out = self._none.copy() if left_out is None else left_out.copy()
        left_out[[one.env_index for one in found]] = True
        return left_out

    def _meet(self, found: list[Found]) -> None:
        """Count numbers that are not finite.

        Raises:
            FloatingPointError: If that is to be raised.
        """
        if self._on_nonfinite == "raise":
            first = found[0]
            step = int(self._lengths[first.env_index])
            named = dataclasses.replace(first, env_index=self.first_index + first.env_index)
            raise FloatingPointError(
                f"{named}, after {self.num_timesteps:,} env steps and {step:,} of its episode; mend the "
                'environment, or set on_nonfinite to "skip", which leaves such transitions out of learning, or to '
                '"clip", which replaces such numbers'
            )
        self.num_nonfinite += len(found)

    def _read_masks(self, infos: list[dict[str, Any]], starts: Bools) -> None:
        """Read the masks of the valid actions from the observations or from infos.

        A sub-environment that is about to reset ignores its action, so every action is valid there.

        Args:
            infos: Infos of a vector step and of the reset after it, in this order.
            starts: Sub-environments whose observation is their episode's first.

        Raises:
            ValueError: If there are no masks, or a mask has another size or leaves no valid action.
        """
        if self._masks is None:
            return
        space, num_envs = self.env.single_action_space, self.env.num_envs
        told = [info for info in infos if ACTION_MASK in info]
        masks = self._masks.copy()
        if isinstance(self._observations, Mapping) and ACTION_MASK in self._observations:
            name = f"observation[{ACTION_MASK!r}]"
            masks = as_action_masks(self._observations[ACTION_MASK], space, num_envs, name)
        elif starts.all() and not told:
            raise ValueError(
                f"mask_actions is set, but the environment has neither info[{ACTION_MASK!r}] nor an observation "
                "of that name; leave it out, or have the environment give it"
            )
        else:
            for info in told:
                given = as_action_masks(info[ACTION_MASK], space, num_envs, f"info[{ACTION_MASK!r}]")
                rows = np.asarray(info.get(f"_{ACTION_MASK}", self._all))
                masks[rows] = given[rows]
        masks[self._resetting] = True
        check_action_masks(masks, space, "the action mask of sub-environment", self.first_index)
        self._masks = masks

    def _count(self, rewards: Array, valid: Bools) -> None:
        """Count env steps, returns and lengths."""
        if valid is self._all:
            self.num_timesteps += len(valid) * self.share
            self._returns += rewards
            self._lengths += 1
        else:
            self.num_timesteps += int(np.count_nonzero(valid)) * self.share
            self._returns += np.where(valid, rewards, 0.0)
            self._lengths += valid

    def _close(self, done: Bools, info: Mapping[str, Any], episodes: list[Episode]) -> None:
        """Append the episodes that ended, with what the info at their end says of them."""
        successes: Any = info.get("is_success")
        told = info.get("_is_success", self._all) if isinstance(successes, (np.ndarray, list)) else self._none
        for i in done.nonzero()[0].tolist():
            ret, length = float(self._returns[i]), int(self._lengths[i])
            success = bool(successes[i]) if told[i] and np.size(successes[i]) == 1 else None
            episodes.append(Episode(ret, length, i, self.num_timesteps, success))
            self._returns[i] = 0.0
            self._lengths[i] = 0


class _Buffers:
    """The arrays of rollouts, allocated once and doubled where a rollout is longer than all before."""

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
        # What most rollouts have.
        self._no_finals = self._stacked([])

    def double(self) -> None:
        """Make room for twice as many steps."""
        self.capacity *= 2
        arrays = ("_starts", "_masks", "_actions", "_rewards", "_terminated", "_truncated", "_valid")
        for name in ("_observations", *arrays):
            setattr(self, name, tree_map(_doubled, getattr(self, name)))

    def begin(self, observations: Tree, starts: Bools) -> None:
        """Write what the first step starts from."""
        tree_map(partial(_write, 0), self._observations, observations)
        self._starts[0] = starts

    def write(
        self, t: int, action: Array, masks: Bools | None, step: Step, observations: Tree, starts: Bools
    ) -> None:
        """Write step number ``t`` and what follows it."""
        if isinstance(observations, np.ndarray):
            self._observations[t + 1] = observations
        else:
            tree_map(partial(_write, t + 1), self._observations, observations)
        self._starts[t + 1] = starts
        if self._masks is not None:
            self._masks[t] = masks
        self._actions[t] = action
        self._rewards[t] = step.rewards
        self._terminated[t], self._truncated[t] = step.terminated, step.truncated
        self._valid[t] = step.valid

    def cut(self, t: int, where: Bools) -> None:
        """Have the transitions of step ``t`` be the last of their episodes, which were cut off from outside."""
        self._truncated[t] |= where & self._valid[t] & ~self._terminated[t]

    def observations_at(self, t: int) -> Tree:
        """What was seen before step ``t``."""
        if isinstance(self._observations, np.ndarray):
            return self._observations[t]
        return tree_map(lambda leaf: leaf[t], self._observations)

    def rollout(self, num_steps: int, finals: list[tuple[int, int, Tree]], episodes: list[Episode]) -> Rollout:
        """The first ``num_steps`` steps."""
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
        """Where final observations belong, and those observations."""
        index = np.array([final[:2] for final in finals], dtype=np.int64).reshape(-1, 2)
        return index, tree_stack([final[2] for final in finals], self._like)


def _finals_in(info: Mapping[str, Any], indices: list[int]) -> list[tuple[int, Tree]]:
    """Copy the final observations of some sub-environments from the info of a vector step in SAME_STEP mode.

    Raises:
        ValueError: If one of them is missing.
    """
    finals = info.get("final_obs", [None] * (max(indices, default=0) + 1))
    for i in indices:
        if finals[i] is None:
            raise ValueError(
                f"info['final_obs'][{i}] must be the final observation of the truncated episode in SAME_STEP "
                f"mode, got an info with the keys {sorted(info)}; add it in the vector environment, or set "
                "env.metadata['autoreset_mode'] to the mode that it has"
            )
    return [(i, copied(finals[i])) for i in indices]


def _doubled(leaf: Array | None) -> Array | None:
    return None if leaf is None else np.concatenate((leaf, np.empty_like(leaf)))


def _write(t: int, leaf: Array, value: Array) -> None:
    leaf[t] = value


def _replaced(where: Bools, leaf: Array, fresh: Array) -> Array:
    leaf = np.array(leaf)
    leaf[where] = fresh[where]
    return leaf


def as_vector_env(env: "str | gym.Env[Any, Any] | VectorEnv") -> VectorEnv:
    """A vector environment from an id, a single environment or a vector environment.

    Args:
        env: A Gymnasium id (made with one sub-environment), an environment (becomes the only
            sub-environment) or a vector environment (returned as it is).

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(env, str):
        return gym.make_vec(env, num_envs=1)
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gym.Env):
        return gym.vector.SyncVectorEnv([lambda: env])
    raise TypeError(f"env must be a Gymnasium id, Env or VectorEnv, got {env!r}")
