"""A SyncVectorEnv that handles failing sub-environments, and saves the states of the sub-environments."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from rl_rms.envs.checked import ReturnCheck
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.copying import copied
from rl_rms.envs.faults import Fault, FaultLog, failure_info
from rl_rms.envs.gymnasium_internals import continue_plain_sync
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.restarts import INHERITED, check_restartable, is_set, reset_mask_of, savable, seeds_of

Env = gym.Env[Any, Any]


class ResilientSyncVectorEnv(SyncVectorEnv):
    """A SyncVectorEnv that names or restarts sub-environments that fail.

    If a sub-environment fails, either its function makes a new one, or `EnvError` is raised. If a new
    sub-environment is made in a step, the failed transition is truncated, with the reward 0 and the new
    sub-environment's first observation. ``info``, or ``final_info`` in SAME_STEP mode, contains
    ``rl_rms.restarted``.

    Each sub-environment gets a `Parametrized`, which saves the state within an episode, unless it already has one.

    Args:
        env_fns: Functions that make the sub-environments.
        on_env_error: ``"raise"`` raises an error if a sub-environment fails, and ``"restart"`` makes a new one. An
            agent's ``on_env_error="restart"`` overrides ``"raise"``.
        **kwargs: Other arguments of SyncVectorEnv.

    Attributes:
        fault_log: The counts of faults and restarts.

    Examples:
        >>> env = ResilientSyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2, on_env_error="restart")
        >>> env.reset(seed=0)[0].shape
        (2, 4)
    """

    def __init__(
        self, env_fns: Sequence[Callable[[], Env]], *, on_env_error: OnEnvError = "raise", **kwargs: Any
    ) -> None:
        super().__init__([partial(savable, make) for make in env_fns], **kwargs)
        self.fault_log = FaultLog(self.num_envs, on_env_error)
        if on_env_error == "restart":
            check_restartable(self)
        self._checks = [ReturnCheck(env.observation_space) for env in self.envs]
        self._last: list[Any] = [None] * self.num_envs
        self._pending = np.zeros(self.num_envs, dtype=np.bool_)
        space = self.single_observation_space
        self._batch: Any = create_empty_array(space, n=self.num_envs, fn=np.zeros)
        # The shape of a batch whose rows are concatenated along their first axis. None if the observations are
        # scalars, empty or not a Box.
        self._joined: tuple[int, ...] | None = None
        if isinstance(space, spaces.Box) and space.shape and np.prod(space.shape):
            self._joined = (-1, *space.shape[1:])

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes. With ``on_env_error="restart"``, a new sub-environment replaces a failed one.

        Raises:
            EnvError: If a sub-environment fails and ``on_env_error`` is ``"raise"``, or if it fails too many times
                in a row.
            ValueError: If ``reset_mask`` is not a valid mask, or the number of seeds is wrong.
        """
        seeds = seeds_of(seed, self.num_envs)
        self.fault_log.seed(seeds)
        beginning, options = reset_mask_of(options, self.num_envs)
        infos: dict[str, Any] = {}
        for i in beginning.nonzero()[0].tolist():
            self._last[i], info = self._begin(i, seeds[i], options)
            infos = self._add_info(infos, info, i)
        self._pending = self._pending & ~beginning
        return self._observations_now(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a vector step.

        With ``on_env_error="restart"``, a new sub-environment replaces a failed one, and returns its first
        observation.

        Raises:
            EnvError: If a sub-environment fails and ``on_env_error`` is ``"raise"``, or if it fails too many times
                in a row.
            ResetNeeded: If autoreset is disabled and an episode has ended.
        """
        infos: dict[str, Any] = {}
        rewards, terminated, truncated = [], [], []
        observations, in_a_row = self._last, self.fault_log.in_a_row
        recovers = any(in_a_row)
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        due = self._due()
        each = zip(iterate(self.action_space, actions), self.envs, self._checks, strict=True)
        for i, (action, env, check) in enumerate(each):
            reward, ends, is_cut = 0.0, False, False
            if due and due[i]:
                observations[i], info = self._begin(i, None, None)
            else:
                try:
                    observation, reward, ends, is_cut, info = check.step(env.step(action))
                except Exception as error:
                    is_cut, before = True, observations[i]
                    observations[i], info = self._restart(i, Fault.of(error), None)
                    info = failure_info(info, before, same_step=same_step)
                else:
                    observations[i] = observation
                    if recovers:
                        in_a_row[i] = 0
                    if same_step and (ends or is_cut):
                        # The reset may write into the arrays that the step returned.
                        observation, reward, ends, is_cut, info = copied((observation, reward, ends, is_cut, info))
                        infos = self._add_info(infos, {"final_obs": observation, "final_info": info}, i)
                        observations[i], info = self._begin(i, None, None)
            if info:
                infos = self._add_info(infos, info, i)
            rewards.append(reward)
            terminated.append(ends)
            truncated.append(is_cut)
        terminations, truncations = np.array(terminated, dtype=np.bool_), np.array(truncated, dtype=np.bool_)
        if not same_step:
            self._pending = terminations | truncations
        return self._observations_now(), np.array(rewards, dtype=np.float64), terminations, truncations, infos

    def continue_from(self, observations: Any, pending: npt.NDArray[np.bool_]) -> None:
        """Continue from a saved vector step, see `continue_sync`."""
        if observations is not None:
            self._last = list(iterate(self.observation_space, observations))
        self._pending = np.array(pending, dtype=np.bool_)

    def _due(self) -> list[bool] | None:
        """Whether each sub-environment begins an episode in this step; None if none does.

        Raises:
            ResetNeeded: If autoreset is disabled and an episode has ended.
        """
        if not np.count_nonzero(self._pending):
            return None
        if self.autoreset_mode is AutoresetMode.DISABLED:
            ended = " and ".join(map(str, self._pending.nonzero()[0]))
            raise ResetNeeded(
                f"the episodes of sub-environments {ended} are over, and autoreset is disabled; call "
                'reset(options={"reset_mask": terminated | truncated}) before the next step'
            )
        due: list[bool] = self._pending.tolist()
        return due

    def _begin(self, i: int, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. Replace a failed sub-environment, or raise `EnvError`; see ``on_env_error``."""
        try:
            return self._checks[i].reset(self.envs[i].reset(seed=seed, options=options))
        except Exception as error:
            observation, info = self._restart(i, Fault.of(error), options)
            return observation, {**info, RESTARTED: True}

    def _restart(self, i: int, fault: Fault, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a new sub-environment.

        Raises:
            EnvError: If ``on_env_error`` is ``"raise"``, or the sub-environment failed too many times in a row.
        """
        while True:
            self.fault_log.add({i: fault})
            broken = self.envs[i]
            with suppress(Exception):
                broken.close()
            try:
                self.envs[i] = _made_like(broken, self.env_fns[i])
                return self._checks[i].reset(self.envs[i].reset(seed=self.fault_log.seeds[i], options=options))
            except Exception as error:
                fault = Fault.of(error)

    def _observations_now(self) -> Any:
        """Return the batch of the last observations."""
        if self._joined is None:
            self._batch = concatenate(self.single_observation_space, self._last, self._batch)
        else:
            # concatenate calls np.stack, which is slow for small arrays.
            np.concatenate(self._last, out=self._batch.reshape(self._joined))
        return deepcopy(self._batch) if self.copy else self._batch


def continue_sync(env: SyncVectorEnv, observations: Any, pending: npt.NDArray[np.bool_]) -> None:
    """Continue a vector environment from a saved vector step, after its sub-environments' states were restored.

    Args:
        env: The vector environment.
        observations: The batch of last observations; None keeps the environment's batch.
        pending: Sub-environments that begin an episode in the next step.
    """
    if isinstance(env, ResilientSyncVectorEnv):
        env.continue_from(observations, pending)
    else:
        continue_plain_sync(env, observations, pending)


def _made_like(model: Env, make: Callable[[], Env]) -> Env:
    """Make a sub-environment, and copy the attributes named in `INHERITED` from ``model``."""
    env = make()
    for name in INHERITED:
        value = model.get_wrapper_attr(name)
        if is_set(value):
            env.set_wrapper_attr(name, value)
    return env
