"""Stepping a vector environment and recording what happened, alike under every autoreset mode.

Gymnasium replaces a finished episode's final observation by the next one's first in three ways: one step later
(NEXT_STEP: that step is a reset frame, its action ignored), within the same step (SAME_STEP: the final one is in
``info``), or when told to (DISABLED). A `Rollout` reads the same in all three: reset frames are marked invalid
and the true final observation of every truncated episode is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Episode:
    """A finished episode.

    Attributes:
        ret: Undiscounted sum of its rewards.
        length: Its env steps.
        env_index: Sub-environment that played it.
        num_timesteps: Env steps that the agent had lived when it ended, all sub-environments together.
    """

    ret: float
    length: int
    env_index: int
    num_timesteps: int


@dataclass
class Rollout:
    """What ``num_steps`` vector steps showed.

    Attributes:
        observations: Shape ``(num_steps + 1, num_envs, *observation)``; the last row follows the last step.
        actions: As the policy gave them, shape ``(num_steps, num_envs, *action)``.
        rewards: Shape ``(num_steps, num_envs)``.
        terminated: Whether the transition ended its episode for good, shape ``(num_steps, num_envs)``.
        truncated: Whether it was cut off from outside, same shape.
        valid: False for reset frames, which are no transitions, same shape.
        final_index: Rows ``(step, env)`` of truncated transitions whose following observation is not in
            ``observations``, shape ``(num_finals, 2)``.
        final_observations: Those observations, shape ``(num_finals, *observation)``.
        episodes: The episodes that ended, in order.
    """

    observations: Array
    actions: Array
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    valid: npt.NDArray[np.bool_]
    final_index: npt.NDArray[np.int64]
    final_observations: Array
    episodes: list[Episode] = field(default_factory=list)

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Whether the transition was its episode's last, shape ``(num_steps, num_envs)``."""
        return self.terminated | self.truncated

    @property
    def env_steps(self) -> int:
        """True transitions in the rollout."""
        return int(self.valid.sum())


class Collector:
    """Steps a vector environment with an agent's actions and counts what is true in it.

    Args:
        env: The vector environment.

    Raises:
        ValueError: If the environment does not say how it resets.
    """

    def __init__(self, env: VectorEnv) -> None:
        self.env = env
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; set it "
                "to what the environment does at an episode's end"
            )
        self._mode = mode
        self._observations: Array | None = None
        self._resetting = np.zeros(env.num_envs, dtype=np.bool_)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self.num_timesteps = 0

    @property
    def started(self) -> bool:
        """Whether the environment has been reset and waits for actions."""
        return self._observations is not None

    def start(self, seed: int | None, clock: int | None = None) -> None:
        """Reset the environment and begin new episodes everywhere.

        Args:
            seed: Seeds the environment; None goes on with its random generator.
            clock: Where a changing world's clock is to stand, in env steps; None leaves it to the reset.
        """
        options = None if clock is None else {"clock": clock}
        self._observations = np.array(self.env.reset(seed=seed, options=options)[0])
        self._resetting[:] = False
        self._returns[:] = 0.0
        self._lengths[:] = 0

    @property
    def observations(self) -> Array:
        """What the environment showed last, shape ``(num_envs, *observation)``."""
        if self._observations is None:
            raise RuntimeError("start() must be called before there are observations")
        return self._observations

    @property
    def resetting(self) -> npt.NDArray[np.bool_]:
        """Which sub-environments begin an episode in the next step, shape ``(num_envs,)``."""
        return self._resetting

    def state_dict(self) -> dict[str, Any]:
        """The episodes in progress, for `rl_rms.envs.snapshots.encode`."""
        return {
            "observations": self.observations,
            "resetting": self._resetting,
            "returns": self._returns,
            "lengths": self._lengths,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`, the environment being where it was."""
        self._observations = state["observations"]
        self._resetting = state["resetting"]
        self._returns, self._lengths = state["returns"], state["lengths"]

    def collect(
        self, act: Callable[[Array], tuple[Array, Array]], stop: Callable[[int, list[Episode]], bool]
    ) -> Rollout:
        """Step until ``stop``.

        Args:
            act: From observations ``(num_envs, *observation)`` to the policy's actions and the same actions as
                the environment takes them.
            stop: From the number of vector steps so far and the episodes ended so far to whether that is enough.

        Returns:
            The rollout.
        """
        observations: list[Array] = [self.observations]
        actions: list[Array] = []
        rewards: list[npt.NDArray[np.float32]] = []
        terminations: list[npt.NDArray[np.bool_]] = []
        truncations: list[npt.NDArray[np.bool_]] = []
        valids: list[npt.NDArray[np.bool_]] = []
        final_index: list[tuple[int, int]] = []
        final_observations: list[Array] = []
        episodes: list[Episode] = []
        while not stop(len(rewards), episodes):
            action, env_action = act(observations[-1])
            following, reward, terminated, truncated, info = self.env.step(env_action)
            valid = ~self._resetting
            done = terminated | truncated
            following = np.array(following)  # environments may hand out their own buffer
            if done.any():
                cut = np.flatnonzero(truncated & ~terminated)
                if self._mode is AutoresetMode.SAME_STEP:
                    final_index += [(len(rewards), int(i)) for i in cut]
                    final_observations += [np.asarray(info["final_obs"][i]) for i in cut]
                elif self._mode is AutoresetMode.DISABLED:
                    final_index += [(len(rewards), int(i)) for i in cut]
                    final_observations += [following[i].copy() for i in cut]
                    fresh, _ = self.env.reset(options={"reset_mask": done})
                    following[done] = np.asarray(fresh)[done]
            self._resetting = done if self._mode is AutoresetMode.NEXT_STEP else np.zeros_like(done)
            self._count(np.asarray(reward), valid, done, episodes)
            observations.append(following)
            actions.append(action)
            rewards.append(np.asarray(reward, dtype=np.float32))
            terminations.append(terminated)
            truncations.append(truncated)
            valids.append(valid)
        self._observations = observations[-1]
        return Rollout(
            observations=np.stack(observations),
            actions=np.stack(actions),
            rewards=np.stack(rewards),
            terminated=np.stack(terminations),
            truncated=np.stack(truncations),
            valid=np.stack(valids),
            final_index=np.array(final_index, dtype=np.int64).reshape(-1, 2),
            final_observations=np.array(final_observations, dtype=observations[0].dtype).reshape(
                -1, *observations[0].shape[1:]
            ),
            episodes=episodes,
        )

    def _count(
        self,
        reward: Array,
        valid: npt.NDArray[np.bool_],
        done: npt.NDArray[np.bool_],
        episodes: list[Episode],
    ) -> None:
        """Count env steps and close the episodes that ended."""
        self.num_timesteps += int(np.count_nonzero(valid))
        self._returns += np.where(valid, reward, 0.0)
        self._lengths += valid
        for i in np.flatnonzero(done):
            episodes.append(Episode(float(self._returns[i]), int(self._lengths[i]), int(i), self.num_timesteps))
            self._returns[i] = 0.0
            self._lengths[i] = 0


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
