"""Sub-environments of this process that fail, and the others that go on beside them."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate

from rl_rms.envs.faults import (
    LASTING,
    Fault,
    Look,
    Watch,
    copied,
    fault_of,
    is_set,
    reset_mask_of,
    seeds_of,
)
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.parametrized import Parametrized

Env = gym.Env[Any, Any]


class WatchedSync(SyncVectorEnv):
    """A SyncVectorEnv whose sub-environments' faults are found; `rl_rms.envs.faults.watch` makes it of one.

    A sub-environment that failed is made anew, or `EnvError` is raised. A transition in which one failed is
    truncated, shows the first observation of the new one's episode, and has ``rl_rms.restarted`` in its info.
    """

    fault_watch: Watch

    def begin_watch(self) -> None:
        """Set up what the watch needs, in place of a constructor."""
        self._looks = [Look(env.observation_space) for env in self.envs]
        # The observations one behind the other, where they are arrays that have an axis; None otherwise.
        self._in_a_row: npt.NDArray[Any] | None = None
        space = self.single_observation_space
        if isinstance(space, spaces.Box) and space.shape and self._observations.size:
            self._in_a_row = self._observations.reshape(-1, *space.shape[1:])

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes, in new environments where the present ones cannot.

        Raises:
            ValueError: If ``reset_mask`` is none, or there are more or fewer seeds than sub-environments.
        """
        seeds = seeds_of(seed, self.num_envs)
        self.fault_watch.seed(seeds)
        beginning, options = reset_mask_of(options, self.num_envs)
        infos: dict[str, Any] = {}
        for i in beginning.nonzero()[0].tolist():
            self._env_obs[i], info = self._begin(i, seeds[i], options)
            infos = self._add_info(infos, info, i)
        self._autoreset_envs = self._autoreset_envs & ~beginning
        return self._shown(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a vector step; where a sub-environment fails in it, a new one shows its first observation.

        Raises:
            ResetNeeded: If an episode is over and nobody but the caller is to begin another.
        """
        infos: dict[str, Any] = {}
        rewards, terminated, truncated = [], [], []
        observations, in_a_row = self._env_obs, self.fault_watch.in_a_row
        recovers = any(in_a_row)
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        due = self._due()
        each = zip(iterate(self.action_space, actions), self.envs, self._looks, strict=True)
        for i, (action, env, look) in enumerate(each):
            reward, ends, is_cut = 0.0, False, False
            if due and due[i]:
                observations[i], info = self._begin(i, None, None)
            else:
                try:
                    observation, reward, ends, is_cut, info = look.step(env.step(action))
                except Exception as error:
                    before = observations[i]
                    observations[i], info = self._restart(i, fault_of(error), None)
                    is_cut = True
                    if same_step:
                        told = {"final_obs": before, "final_info": {RESTARTED: True}}
                        infos = self._add_info(infos, told, i)
                    else:
                        info = {**info, RESTARTED: True}
                else:
                    observations[i] = observation
                    if recovers:
                        in_a_row[i] = 0
                    if same_step and (ends or is_cut):
                        # The reset may write into what the step returned.
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
            self._autoreset_envs = terminations | truncations
        return self._shown(), np.array(rewards, dtype=np.float64), terminations, truncations, infos

    def _due(self) -> list[bool] | None:
        """Which sub-environments begin an episode in this step; None for none.

        Raises:
            ResetNeeded: If they should have begun one before.
        """
        if not np.count_nonzero(self._autoreset_envs):
            return None
        if self.autoreset_mode is AutoresetMode.DISABLED:
            ended = " and ".join(map(str, self._autoreset_envs.nonzero()[0]))
            raise ResetNeeded(
                f"the episodes of sub-environments {ended} are over and autoreset is disabled: begin others with "
                'reset(options={"reset_mask": terminated | truncated}) before the next step'
            )
        due: list[bool] = self._autoreset_envs.tolist()
        return due

    def _begin(self, i: int, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, in a new environment if the present one cannot."""
        try:
            return self._looks[i].reset(self.envs[i].reset(seed=seed, options=options))
        except Exception as error:
            observation, info = self._restart(i, fault_of(error), options)
            return observation, {**info, RESTARTED: True}

    def _restart(self, i: int, fault: Fault, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Have a new environment begin an episode.

        Raises:
            EnvError: If there is to be none, or it fails too.
        """
        while True:
            self.fault_watch.meet({i: fault})
            broken = self.envs[i]
            with suppress(Exception):
                broken.close()
            try:
                self.envs[i] = _made_like(self.env_fns[i], broken)
                return self._looks[i].reset(self.envs[i].reset(seed=self.fault_watch.seeds[i], options=options))
            except Exception as error:
                fault = fault_of(error)

    def _shown(self) -> Any:
        """The observations, one of each sub-environment."""
        each: list[Any] = self._env_obs
        if self._in_a_row is None:
            self._observations = concatenate(self.single_observation_space, each, self._observations)
        else:
            # np.stack, which the former takes, is slow for small arrays.
            np.concatenate(each, out=self._in_a_row)
        return deepcopy(self._observations) if self.copy else self._observations


def _made_like(make: Any, model: Env) -> Env:
    """A new environment under the same values, ready to be changed and saved if the former was made so later."""
    one: Env = make()
    if model.has_wrapper_attr("parameter_targets"):
        if not one.has_wrapper_attr("parameter_targets"):
            one = Parametrized(one, model.get_wrapper_attr("parameter_targets"))
        for name in LASTING:
            value = model.get_wrapper_attr(name)
            if is_set(value):
                one.set_wrapper_attr(name, value)
    return one
