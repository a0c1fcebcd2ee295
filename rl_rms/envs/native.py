"""The backend of native vector environments, which compute all sub-environments at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_rms.envs.backend import OTHERWISE, Backend, Transitions
from rl_rms.envs.checks import check_reset
from rl_rms.envs.clocks import Column, Mask
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.layers import Layers, check_wrappers
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.parameter_setter import ParameterSetter
from rl_rms.envs.snapshots import CARTPOLE, has_known_state, known_state, restore_known_state
from rl_rms.envs.specs import qualified
from rl_rms.envs.target_transforms import TargetTransforms
from rl_rms.envs.targets import parse_targets


class Native(Backend):
    """The backend of a vector environment that is neither a SyncVectorEnv nor an AsyncVectorEnv."""

    def __init__(self, env: VectorEnv, targets: Sequence[str], arrays: Sequence[str]) -> None:
        super().__init__()
        self._env = env
        part = next((one for one in parse_targets(targets) if one.keys), None)
        if part is not None:
            raise ValueError(
                f"{part.name!r} changes a part of the observations, which {type(env.unwrapped).__name__} cannot "
                'do; use vectorization_mode="sync"'
            )
        self._layers = Layers(env, env.unwrapped)
        self._transforms = TargetTransforms(
            targets, env.single_observation_space, env.single_action_space, env.num_envs
        )
        self._setter = ParameterSetter(env, targets, self._transforms, arrays)
        self.episodic = self._setter.episodic
        if self.episodic:
            raise ValueError(
                f"{targets[self.episodic[0]]!r} ends episodes when it changes, which "
                f"{type(env.unwrapped).__name__} cannot do for one sub-environment; use "
                'vectorization_mode="sync"'
            )
        self._same_step = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        self.moves_observations = self._transforms.observation is not None
        self.late = self._setter.late
        self.needs_valid = bool(self._transforms)
        self.has_noise = self._transforms.has_noise
        self.is_drawn = self._transforms.is_drawn

    def set(self, columns: tuple[Column, ...]) -> None:
        """Set the targets' values."""
        self._setter.set(columns)

    def place(self, noise_key: NoiseKey) -> None:
        """Set the environments and clock readings for which random numbers are drawn."""
        self._transforms.draws.noise_key = noise_key

    def current(self) -> tuple[float, ...]:
        """Return the current values of the targets."""
        return self._setter.current()

    def reset(self, seed: Any, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Raises:
            ValueError: If Gymnasium's native CartPole gets a list of seeds, or a mask that leaves out a
                sub-environment.
        """
        mask = None if options is None else options.get("reset_mask")
        beginning = np.ones(self._env.num_envs, dtype=np.bool_) if mask is None else np.asarray(mask)
        if qualified(type(self._env.unwrapped)) == CARTPOLE and (isinstance(seed, list) or not beginning.all()):
            # Gymnasium's environment would ignore the mask.
            raise ValueError(
                "CartPoleVectorEnv resets all sub-environments with one random generator, so seed must be an int "
                f"and options['reset_mask'] True everywhere, got seed={seed!r} and reset_mask={mask!r}; use "
                'vectorization_mode="sync"'
            )
        observations, infos = check_reset(self._env.reset(seed=seed, options=options))
        self._setter.again()
        self._transforms.begin(np.flatnonzero(beginning).tolist())
        if self._transforms.observation is not None:
            moved = self._transforms.observation(observations, first=beginning)
            if not beginning.all():
                # Sub-environments that are not reset keep their last observations.
                moved[~beginning] = self.last[~beginning]
            observations = moved
        self.last = observations
        return observations, infos

    def step(self, actions: Any, valid: Mask) -> Transitions:
        """Make a vector step. The rewards of sub-environments that only start an episode are not transformed."""
        transforms = self._transforms
        if transforms.action is not None:
            actions = transforms.action(actions)
            # The environment does not execute the actions of sub-environments that only start an episode.
            transforms.begin(np.flatnonzero(~valid).tolist())
        observations, rewards, terminated, truncated, infos = self._env.step(actions)
        if transforms.reward is not None:
            rewards = np.where(valid, transforms.reward(np.asarray(rewards, dtype=np.float64)), rewards)
        if transforms.observation is not None:
            if "final_obs" in infos:
                final = _moved_final(transforms.observation, infos["final_obs"], observations)
                infos = {**infos, "final_obs": final}
            first = np.logical_or(terminated, truncated) if self._same_step else ~valid
            observations = transforms.observation(observations, first)
        if self._same_step:
            transforms.begin(np.flatnonzero(np.logical_or(terminated, truncated)).tolist())
        self.last = observations
        return observations, rewards, terminated, truncated, infos

    def announce(self, columns: tuple[Column, ...], ending: Mask) -> None:
        """Do nothing, because the constructor raises an error for episodic targets."""

    def snapshot(self) -> Any:
        """Return the state of the vector environment and its last observations.

        The result is None before the first reset, and with a warning if the state cannot be saved.
        """
        if self.last is None:
            return None
        if not has_known_state(self._env):
            self._notices.give(
                f"the state of {type(self._env.unwrapped).__name__} within its episodes is not known, so a "
                "restored environment begins new episodes; use vectorization_mode 'sync', or declare the state "
                "with register_state"
            )
            return None
        lost = self.lost_wrappers
        if lost:
            self._warn_of_lost(lost)
            return None
        delayed = encode(self._transforms.delayed)
        try:
            known = known_state(self._env)
        except ValueError as error:
            self._notices.give(
                f"the state of {type(self._env.unwrapped).__name__} within its episodes cannot be saved: {error}; "
                "a restored environment begins new episodes"
            )
            return None
        return {
            "known": known,
            "wrappers": self._layers.state_dict(),
            "last": encode(self.last),
            "delayed": delayed,
        }

    def restore(self, snapshot: Any, resetting: Mask) -> None:
        """Restore a `snapshot`. ``resetting`` is not used, because the snapshot includes the pending resets."""
        if "known" not in snapshot or not has_known_state(self._env):
            raise ValueError(OTHERWISE)
        check_wrappers(snapshot["wrappers"], self._layers.names)
        restore_known_state(self._env, snapshot["known"])
        self._layers.load_state_dict(snapshot["wrappers"])
        self._transforms.delayed = decode(snapshot["delayed"])
        self.last = decode(snapshot["last"])


def _moved_final(transform: Callable[[Any], Any], final: Any, observations: Any) -> Any:
    """Transform the final observations of ended episodes; None for the other sub-environments."""
    ended = [i for i in range(len(final)) if final[i] is not None]
    batch = np.zeros_like(observations)
    batch[ended] = [final[i] for i in ended]
    moved = np.full(len(final), None, dtype=object)
    for i, observation in zip(ended, transform(batch)[ended], strict=True):
        moved[i] = observation
    return moved
