"""Collects transitions from a vector environment, in the same form for every autoreset mode."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_rms.agents.config import OnNonfinite
from rl_rms.agents.env_faults import EnvFaults, OverwrittenFinals, finals_in
from rl_rms.agents.episode_tracker import EpisodeTracker
from rl_rms.agents.imputation import Imputer, NonfiniteError
from rl_rms.agents.info_sums import InfoSums
from rl_rms.agents.masks import initial_action_masks, read_action_masks
from rl_rms.agents.rollout import Episode, Rollout, RolloutBuffers, Step
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.envs.checks import check_reset
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.copying import copied
from rl_rms.envs.keys import CLOCK
from rl_rms.envs.notices import Notices

LONG_EPISODE = 100_000
"""The collector warns when an episode is this many env steps long and training or evaluation waits for its end."""

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Act = Callable[[int, Tree, Bools, Bools | None], tuple[Array, Array]]
"""Maps step index, observations, episode starts and action masks to the policy's and the environment's actions."""
RolloutDone = Callable[[int, list[Episode]], bool]
"""Decides from the number of vector steps and the finished episodes whether the rollout is complete."""


class Collector:
    """Steps a vector environment with given actions, counts env steps, and adds up the returns of episodes.

    Args:
        env: The vector environment.
        mask_actions: Whether to read masks of the valid actions, from ``info["action_mask"]`` or from the entry
            ``action_mask`` of a Dict observation.
        log_info: Entries of ``info`` whose means are logged.
        on_nonfinite: The treatment of non-finite rewards and observations, see `AgentConfig`.
        on_env_error: The treatment of failing sub-environments. ``"restart"`` restarts them; ``"raise"`` and None
            keep the environment's setting (by default ``"raise"``).
        env_timeout: Seconds that a worker of a `rl_rms.envs.ResilientAsyncVectorEnv` may take for a step or a
            reset; None keeps the environment's setting (by default no limit).

    Attributes:
        num_timesteps: Env steps so far, all sub-environments together.
        num_workers: Number of processes that train together, each with equally many sub-environments. A vector
            step adds this process's env steps times ``num_workers`` to ``num_timesteps``.
        first_index: Index of the first sub-environment in error messages.
        resetting: Whether the next step of each sub-environment is a reset, shape ``(num_envs,)``.
        starts: Whether each sub-environment's last observation begins an episode, shape ``(num_envs,)``.
        action_masks: The valid actions, shape ``(num_envs, entries)``; None without ``mask_actions``.
        info_sums: The sums of the entries of ``info``; None without ``log_info``.

    Raises:
        ValueError: If the environment's metadata do not contain its autoreset mode, if its actions cannot be
            masked, or if it does not support ``on_env_error`` or ``env_timeout``.
    """

    def __init__(
        self,
        env: VectorEnv,
        *,
        mask_actions: bool = False,
        log_info: Sequence[str] = (),
        on_nonfinite: OnNonfinite = "raise",
        on_env_error: OnEnvError | None = None,
        env_timeout: float | None = None,
    ) -> None:
        self.env = env
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; set it "
                "to the autoreset mode of the environment"
            )
        self._mode = mode
        self._observations: Tree = None
        self._none = np.zeros(env.num_envs, dtype=np.bool_)
        self._all = ~self._none
        self.resetting = self._none
        self.starts = self._all
        self.action_masks = initial_action_masks(env.single_action_space, env.num_envs) if mask_actions else None
        self._tracker = EpisodeTracker(env)
        self._notices = Notices()
        self.info_sums = InfoSums(log_info) if log_info else None
        self._buffers: RolloutBuffers | None = None
        self._imputer = Imputer(env.num_envs, on_nonfinite)
        self._faults = EnvFaults(env, on_env_error, env_timeout)
        self._overwritten = OverwrittenFinals(env)
        self.num_timesteps = 0
        self.num_workers = 1
        self._is_stopped = False
        self.first_index = 0

    @property
    def num_restarts(self) -> int:
        """Number of restarts of sub-environments after failures."""
        return self._faults.num_restarts

    @property
    def first_index(self) -> int:
        """The index of the first sub-environment in error messages."""
        return self._first_index

    @first_index.setter
    def first_index(self, first_index: int) -> None:
        self._first_index = first_index
        self._faults.set_first_index(first_index)

    @property
    def started(self) -> bool:
        """Whether the environment has been reset and waits for actions."""
        return self._observations is not None and not self._is_stopped

    def stop(self) -> None:
        """Discard the episodes in progress; `start` begins new episodes."""
        self._is_stopped = True

    def start(self, seed: int | None, clock: int | None = None) -> None:
        """Reset the environment and begin new episodes in all sub-environments.

        Args:
            seed: Seed of the environment; None continues its random generator.
            clock: New clock reading of a changing environment, in env steps. With None, a seed sets the clock to
                0, and a reset without a seed keeps the clock.
        """
        options = None if clock is None else {CLOCK: clock}
        self._faults.seed(seed)
        try:
            observations, info = check_reset(self.env.reset(seed=seed, options=options))
        except Exception as error:
            self._faults.raise_named(error, lambda indices: f"at a reset, after {self.num_timesteps:,} env steps")
            raise
        self._is_stopped = False
        self.resetting, self.starts = self._none, self._all
        self._tracker.restart()
        try:
            self._observations = self._imputer.check_reset(tree_map(np.array, observations))
        except NonfiniteError as error:
            raise self._located(error) from None
        if self.action_masks is not None:
            self.action_masks = self._read_masks(self.action_masks, [info])

    @property
    def observations(self) -> Tree:
        """The last observations, shape ``(num_envs, *observation)``."""
        if self._observations is None:
            raise RuntimeError("there are no observations before start(); call start() first")
        return self._observations

    def pop_num_nonfinite(self) -> int:
        """Return the number of non-finite rewards and observations since the last call."""
        found, self._imputer.num_nonfinite = self._imputer.num_nonfinite, 0
        return found

    def state_dict(self) -> dict[str, Any]:
        """The episodes in progress, for `rl_rms.envs.encoding.encode`."""
        return {
            "observations": self.observations,
            "resetting": self.resetting,
            "starts": self.starts,
            "masks": self.action_masks,
            **self._tracker.state_dict(),
            **self._imputer.state_dict(),
            "faults": self._faults.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, after the environment was restored."""
        self._observations = state["observations"]
        self.resetting, self.starts = state["resetting"], state["starts"]
        if self.action_masks is not None:
            self.action_masks = state["masks"]
        self._tracker.load_state_dict(state)
        self._imputer.load_state_dict(state)
        self._faults.load_state_dict(state["faults"])

    def collect(self, act: Act, rollout_done: RolloutDone) -> Rollout:
        """Step until the rollout is complete, and record the transitions.

        Args:
            act: Chooses the actions.
            rollout_done: Decides when the rollout is complete.

        Returns:
            The rollout, in arrays that the next call reuses.
        """
        num_steps = 0
        episodes: list[Episode] = []
        finals: list[tuple[int, int, Tree]] = []
        masked: dict[int, Bools] = {}
        buffers = self._buffers
        while not rollout_done(num_steps, episodes):
            masks, starts, observations = self.action_masks, self.starts, self._observations
            action, env_action = act(num_steps, observations, starts, masks)
            if buffers is None:
                buffers = self._buffers = RolloutBuffers(self.observations, action, masks)
            if num_steps == 0:
                buffers.begin(observations, starts)
            elif num_steps == buffers.capacity:
                buffers.double()
            step = self.step(env_action, episodes)
            if step.finals:
                finals += [(num_steps, i, final) for i, final in step.finals]
            if step.masked is not None:
                masked[num_steps] = step.masked
            # The environment may reuse its array of observations, so this line keeps the buffers' copy.
            self._observations = buffers.write(num_steps, action, masks, step, self._observations, self.starts)
            if step.broken is not None and num_steps:
                buffers.cut(num_steps - 1, step.broken)
            num_steps += 1
        if buffers is None:
            raise ValueError("a rollout must have at least one step, but rollout_done(0, []) is true")
        rollout = buffers.rollout(num_steps, finals, episodes)
        if not masked:
            return rollout
        rows = np.stack([masked.get(t, self._none) for t in range(num_steps)])
        return dataclasses.replace(rollout, masked=rows & rollout.valid)

    def step(self, actions: Array, episodes: list[Episode]) -> Step:
        """Take one vector step.

        Args:
            actions: Actions of the environment's action space, shape ``(num_envs, *action)``.
            episodes: The list to which episodes that end are appended.

        Raises:
            FloatingPointError: If a reward or an observation is not finite and ``on_nonfinite`` is ``"raise"``.
            EnvError: If a sub-environment failed and was not restarted.
        """
        try:
            following, rewards, terminated, truncated, info = self.env.step(actions)
        except Exception as error:
            self._faults.raise_named(error, self._when)
            raise
        broken = self._faults.broken_in(info, truncated)
        valid = self._all if self.resetting is self._none else ~self.resetting
        if broken is not None:
            valid = valid & ~broken
        done = terminated | truncated
        over = np.count_nonzero(done)
        self.starts, self.resetting = self.resetting, self._none
        finals: list[tuple[int, Tree]] = []
        beginning: dict[str, Any] = {}
        if over and self._mode is AutoresetMode.NEXT_STEP:
            self.resetting = done
        elif over:
            self.starts = done
            cut = np.flatnonzero(truncated & ~terminated & valid).tolist()
            if self._mode is AutoresetMode.SAME_STEP:
                finals = finals_in(info, cut)
                self._overwritten.check(finals, following)
            else:
                # The reset may write into the arrays that the step returned.
                following, rewards, terminated, truncated, info = copied(
                    (following, rewards, terminated, truncated, info)
                )
                finals = [(i, tree_map(lambda leaf, i=i: leaf[i], following)) for i in cut]
                following, beginning = self._reset_ended(following, done)
        try:
            rewards, finals, self._observations, masked = self._imputer.check_step(
                rewards, finals, following, self._observations, valid, self.starts
            )
        except NonfiniteError as error:
            raise self._located(error) from None
        if self.action_masks is not None:
            self.action_masks = self._read_masks(self.action_masks, [info, beginning])
        num_valid = self._tracker.count(rewards, None if valid is self._all else valid)
        self.num_timesteps += num_valid * self.num_workers
        if broken is not None:
            # A failure, not the policy, ended these episodes. The returns of failed episodes do not count.
            done = done & ~broken
        if self.info_sums is not None:
            self.info_sums.add(info, valid, done, info.get("final_info"))
        if over:
            # In SAME_STEP mode, the entries of ``info`` besides final_info and final_obs belong to the next
            # episode.
            ending = info.get("final_info", info) if self._mode is AutoresetMode.SAME_STEP else info
            episodes += self._tracker.close(done, ending, self.num_timesteps)
        return Step(rewards, terminated, truncated, valid, finals, masked, broken)

    def _reset_ended(self, observations: Tree, done: Bools) -> tuple[Tree, dict[str, Any]]:
        """Reset the sub-environments whose episodes ended. Return all observations, and the info of the reset."""
        first, info = check_reset(self.env.reset(options={"reset_mask": done}))

        def replace(leaf: Array, first_leaf: Array) -> Array:
            leaf = np.array(leaf)
            leaf[done] = first_leaf[done]
            return leaf

        return tree_map(replace, observations, first), info

    def warn_of_long_episode(self) -> None:
        """Warn once if an episode has not ended after `LONG_EPISODE` env steps."""
        if (self._tracker.lengths >= LONG_EPISODE).any():
            self._notices.give(
                f"an episode has not ended after {LONG_EPISODE:,} env steps; if the environment never ends its "
                "episodes, wrap it in gymnasium.wrappers.TimeLimit, or make it with max_episode_steps"
            )

    def keep_observations(self) -> None:
        """Copy the last observations after `step`, because the environment may reuse their arrays.

        `collect` copies the observations itself.
        """
        self._observations = copied(self._observations)

    def _when(self, indices: Sequence[int]) -> str:
        """A phrase for errors that says in which step the sub-environments failed."""
        lengths = self._tracker.lengths
        steps = ", ".join(f"{lengths[i - self.first_index] + 1:,}" for i in indices)
        where = f"steps {steps} of their episodes" if len(indices) > 1 else f"step {steps} of its episode"
        return f"in {where}, after {self.num_timesteps:,} env steps"

    def _located(self, error: NonfiniteError) -> FloatingPointError:
        """Convert the error to an error whose message names the sub-environment, the step and the fix."""
        found, step = error.found, int(self._tracker.lengths[error.found.env_index])
        value = dataclasses.replace(found, env_index=self.first_index + found.env_index)
        return FloatingPointError(
            f"{value}, after {self.num_timesteps:,} env steps and {step:,} of its episode. Fix the environment, "
            'or set on_nonfinite to "skip" to exclude such transitions from learning'
        )

    def _read_masks(self, masks: Bools, infos: list[dict[str, Any]]) -> Bools:
        return read_action_masks(
            masks,
            self._observations,
            infos,
            starts=self.starts,
            resetting=self.resetting,
            space=self.env.single_action_space,
            first_index=self.first_index,
        )
