"""A wrapper that sets an environment's parameters, and saves and restores the state within an episode."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from rl_rms.envs.checks import check_reset, check_reward
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.layers import Layers, Names, State, check_wrappers
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.notices import Notices
from rl_rms.envs.parameter_setter import ParameterSetter
from rl_rms.envs.replay import Replay
from rl_rms.envs.snapshots import (
    has_known_state,
    is_made_anew_by_pickle,
    known_state,
    restore_known_state,
)
from rl_rms.envs.target_transforms import TargetTransforms
from rl_rms.envs.targets import moved_space

Transition = tuple[Any, Any, bool, bool, dict[str, Any]]


class Parametrized(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Sets an environment's targets, and saves and restores the state within an episode.

    A target is a parameter of the environment or of an inner wrapper, or one of `rl_rms.envs.transforms`. If a
    target ``observation.*`` changes a Box of floats, the wrapper's Box has no bounds, because the changed
    observations may lie outside the declared bounds. A pickled or copied environment continues its episode. Only
    an environment that inherits from EzPickle and whose state cannot be saved begins a new episode.

    Raises:
        ValueError: If the environment lacks a target, or a change of a target would have no effect.
    """

    def __init__(self, env: gym.Env[Any, Any], targets: Sequence[str]) -> None:
        RecordConstructorArgs.__init__(self, targets=targets)
        gym.Wrapper.__init__(self, env)
        self._transforms = TargetTransforms(targets, env.observation_space, env.action_space)
        self._setter = ParameterSetter(env, targets, self._transforms)
        if self._transforms.observation is not None:
            self.observation_space = moved_space(env.observation_space, targets)
        self._layers = Layers(env, env.unwrapped)
        # If the episode is replayed, the replay also restores wrappers whose state cannot be saved.
        is_known = has_known_state(env) and not self._layers.lost
        self._episode = None if is_known else Replay(env)
        # The wrappers' state at the beginning of the replayed episode.
        self._initial_wrappers: State = []
        self._has_begun = False
        self._problem: str | None = None
        self._notices = Notices()
        # The last observation before targets ``observation.*`` changed it, used if episodes are replayed.
        self._last_observation: Any = None
        # Values to set after the next step, if the next step truncates the episode; else None.
        self._upcoming: tuple[float, ...] | None = None
        self._is_passive = self._episode is None and not self._transforms
        # Whether the next step only calls ``env.step``.
        self._passes_on = self._is_passive

    @property
    def parameter_values(self) -> tuple[Any, ...]:
        """The current values, in the order of the targets. Each value is None until the values are first set."""
        return self._setter.values

    @parameter_values.setter
    def parameter_values(self, values: tuple[float, ...]) -> None:
        if values != self._setter.values:
            self._setter.set(values)

    @property
    def parameter_noise_key(self) -> NoiseKey:
        """The key of the transforms' random numbers."""
        return self._transforms.draws.noise_key

    @parameter_noise_key.setter
    def parameter_noise_key(self, noise_key: NoiseKey) -> None:
        self._transforms.draws.noise_key = noise_key

    @property
    def parameter_targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return self._setter.targets

    @property
    def parameter_episodic(self) -> tuple[int, ...]:
        """Indices of the targets that end the episode in progress when they change."""
        return self._setter.episodic

    @property
    def parameter_late(self) -> tuple[str, ...]:
        """Targets that take effect only at the next reset."""
        return self._setter.late

    @property
    def parameter_upcoming(self) -> tuple[float, ...] | None:
        """Values to set after the next transition, which truncates the episode; None for no truncation."""
        return self._upcoming

    @parameter_upcoming.setter
    def parameter_upcoming(self, values: tuple[float, ...] | None) -> None:
        self._upcoming = values
        self._passes_on = self._is_passive and values is None

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the inner wrappers whose state cannot be saved."""
        return self._layers.lost

    @property
    def wrapper_names(self) -> Names:
        """The classes of the inner wrappers, from the outermost inward, and whether each has a state now."""
        return self._layers.names

    @property
    def inner_wrapper_states(self) -> State:
        """The current state of the inner wrappers."""
        return self._layers.state_dict()

    @inner_wrapper_states.setter
    def inner_wrapper_states(self, states: State) -> None:
        self._layers.load_state_dict(states)

    @property
    def parameter_snapshot(self) -> dict[str, Any] | None:
        """The state within the episode as plain JSON data, from which another environment continues the episode.

        The state is None before the first reset. It is also None if it cannot be saved, for example because an
        episode is too long to be replayed or a part of the state cannot be written as JSON. Assign a state to
        restore it in an environment that was made with the same arguments. If a state could not be saved, or not
        be restored exactly, `parameter_problem` contains the reason.
        """
        self._problem = None
        if not self._has_begun:
            return None
        delayed = encode(self._transforms.delayed)
        try:
            if self._episode is None:
                wrappers, inside = self._layers.state_dict(), {"known": known_state(self.env)}
            else:
                wrappers = self._initial_wrappers
                inside = {"episode": self._episode.state_dict(self._last_observation)}
        except ValueError as error:
            self._problem = (
                f"the state of {type(self.unwrapped).__name__} within its episode cannot be saved: {error}. A "
                "restored environment begins a new episode, unless register_state declares the environment's "
                "state"
            )
            return None
        return {**inside, "wrappers": wrappers, "delayed": delayed}

    @parameter_snapshot.setter
    def parameter_snapshot(self, snapshot: Mapping[str, Any] | None) -> None:
        self._problem = None
        if snapshot is None:
            return
        if ("known" in snapshot) != (self._episode is None):
            check_wrappers(snapshot["wrappers"], self._layers.names)
            raise ValueError(
                f"the state does not fit this {type(self.unwrapped).__name__}; make it with the "
                "arguments of the saved environment, and with the same wrappers in the same order"
            )
        if not self._has_begun:
            # Gymnasium's PassiveEnvChecker, among other wrappers, cannot step before the first reset.
            self.env.reset()
        self._layers.load_state_dict(snapshot["wrappers"])
        self._initial_wrappers = snapshot["wrappers"]
        if self._episode is None:
            restore_known_state(self.env, snapshot["known"])
        else:
            self._last_observation, is_exact = self._episode.repeat(snapshot["episode"], self._setter.set_all)
            if not is_exact:
                self._problem = (
                    f"{type(self.unwrapped).__name__} was not restored exactly: the replay of its episode ended "
                    "with an observation other than the saved one; the environment continues from this observation"
                )
        self._transforms.delayed = decode(snapshot["delayed"])
        self._has_begun = True

    @property
    def parameter_problem(self) -> str | None:
        """The reason why the last state was not saved, or not restored exactly; None if there was no problem."""
        return self._problem

    def _warn_of_problem(self) -> None:
        """Warn about each `parameter_problem` once."""
        if self._problem is not None:
            self._notices.give(self._problem)

    def current_values(self) -> tuple[float, ...]:
        """Return the current value of each target, even if the value was never set."""
        return self._setter.current()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the current values."""
        self.parameter_upcoming = None
        if self._episode is not None:
            self._initial_wrappers = self._layers.state_dict()
            self._episode.begin(seed, options, self._setter.values)
        observation, info = check_reset(self.env.reset(seed=seed, options=options))
        self._last_observation, self._has_begun = observation, True
        # Some environments overwrite the values of targets when they are reset.
        self._setter.again()
        self._transforms.begin()
        if self._transforms.observation is not None:
            observation = self._transforms.observation(observation, first=True)
        return observation, info

    def step(self, action: Any) -> Transition:
        """Make a transition with the current values."""
        transition: Transition
        if self._passes_on:
            transition = self.env.step(action)
            return transition
        if self._upcoming is not None:
            return self._last_step(action, self._upcoming)
        transforms = self._transforms
        if transforms.action is not None:
            action = transforms.action(action)
        if self._episode is None:
            transition = self.env.step(action)
        else:
            self._episode.add(action, self._setter.values)
            transition = self.env.step(action)
            self._last_observation = transition[0]
        if transforms.reward is None and transforms.observation is None:
            return transition
        observation, reward, terminated, truncated, info = transition
        if transforms.reward is not None:
            reward = float(transforms.reward(check_reward(reward)))
        if transforms.observation is not None:
            observation = transforms.observation(observation)
        return observation, reward, terminated, truncated, info

    def _last_step(self, action: Any, upcoming: tuple[float, ...]) -> Transition:
        """Make the last transition of the episode, truncated unless it terminates, then set the next values."""
        self.parameter_upcoming = None
        observation, reward, terminated, truncated, info = Parametrized.step(self, action)
        self._setter.set(upcoming)
        return observation, reward, terminated, truncated or not terminated, info

    def __getstate__(self) -> dict[str, Any]:
        if not is_made_anew_by_pickle(self.unwrapped):
            return self.__dict__
        snapshot = self.parameter_snapshot
        self._warn_of_problem()
        return {**self.__dict__, "_snapshot": snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        snapshot = state.pop("_snapshot", None)
        self.__dict__.update(state)
        if snapshot is not None:
            values = self._setter.values
            self.parameter_snapshot = snapshot
            self._warn_of_problem()
            self._setter.set(values)


def find_parametrized(env: Any) -> Parametrized:
    """Return the outermost `Parametrized` wrapper."""
    while not isinstance(env, Parametrized):
        env = env.env
    return env
