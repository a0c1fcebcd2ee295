"""The wrapper that changes an environment by schedules and a curriculum, on a clock that spans episodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rl_rms.envs.changing import Changing, check_inner, join_targets, take_clock
from rl_rms.envs.checks import check_int
from rl_rms.envs.clocks import SingleClock
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.drift import timescale
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.episodes import success_in, success_keys
from rl_rms.envs.feedback import Feedback
from rl_rms.envs.keys import REGIME
from rl_rms.envs.observers import Observer
from rl_rms.envs.parametrized import Parametrized, Transition
from rl_rms.envs.schedules import Schedule, as_schedules
from rl_rms.envs.seeds import first_seed


class NonStationary(Changing, Parametrized):
    """An environment whose parameters change while an agent acts in it.

    The clock counts transitions across episodes. ``reset()`` keeps the clock, ``reset(seed=s)`` sets the clock to
    0, and ``reset(options={"rl_rms.clock": k})`` sets the clock to ``k``. After a step, the clock, parameters and
    regime already belong to the next transition. ``info["rl_rms.regime"]`` counts the regime changes: the clock
    readings at which a target jumped, and the changes of the curriculum's stage.

    Args:
        env: The environment.
        changes: Targets and their schedules; a number is a constant value. A target is a parameter of the
            unwrapped environment (``"gravity"``), an attribute of an inner wrapper (``"WrapperClass.name"``), or
            one of `rl_rms.envs.transforms`: ``"reward.scale"``, ``offset``, ``noise``; ``"observation.gain"``,
            ``offset``, ``offsets``, ``offsets_draw``, ``noise``, ``permute``, ``mask``; ``"action.delay"``,
            ``flip``, ``permute``, ``gain``, ``bias``, ``noise``. If an observation target changes a Box of
            floats, the Box loses its bounds.
        curriculum: Rule that sets the values of its targets at the beginning of each episode; None for none.
        observe: Additions to the observations: ``"params"``, ``"time"`` or ``"change"``, or several of them; None
            for none. See `rl_rms.envs.observers`.
        seed: Seed of the drift, for the random numbers of schedules and transforms, >= 0. None uses the seed of
            ``reset(seed=s)``, and a random seed until then.
        env_index: Index of this environment among the environments with the same seed. Each index has its own
            random numbers.
        success_key: Entry of info with the success of an episode, for the curriculum and the agent's log; None
            uses ``"is_success"`` or ``"success"``.

    Attributes:
        last_observation: The last observation; None before the first reset.

    Raises:
        ValueError: If an argument is invalid, if the environment does not have a target, if a change of a target
            would have no effect, if a change of a target also changes another target, or if changes, the
            curriculum or a `NonStationary` inside set the same target.

    Examples:
        >>> from rl_rms.envs.schedules import Step
        >>> env = NonStationary(gym.make("CartPole-v1"), {"gravity": Step(before=9.8, after=1.6, at=2)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(0)[-1]["rl_rms.regime"] for _ in range(3)], env.parameters
        ([0, 1, 1], {'gravity': 1.6})
    """

    _STATE_KEY = "task"
    _clock: SingleClock

    def __init__(
        self,
        env: gym.Env[Any, Any],
        changes: Mapping[str, Schedule | float] | None = None,
        *,
        curriculum: Curriculum | None = None,
        observe: str | Sequence[str] | None = None,
        seed: int | None = None,
        env_index: int = 0,
        success_key: str | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            changes=changes,
            curriculum=curriculum,
            observe=observe,
            seed=seed,
            env_index=env_index,
            success_key=success_key,
        )
        self.success_keys = success_keys(success_key)
        schedules = as_schedules(changes)
        targets = join_targets(schedules, curriculum)
        check_inner(env, targets)
        Parametrized.__init__(self, env, targets)
        env_index = check_int("env_index", env_index, least=0)
        self._has_own_seed = seed is not None
        self._clock = SingleClock(schedules, first_seed(seed), env_index)
        self._feedback = Feedback(schedules, curriculum, (env_index,))
        # Before the first episode, the targets of the curriculum have the environment's own values.
        self._task = self.current_values()[len(schedules) :]
        self._feedback.tasks = np.array(self._task, dtype=np.float64)[:, None]
        self._observer: Observer | None = None
        if observe is not None:
            self._observer = Observer(observe, self.observation_space, len(targets), timescale(schedules))
            self.observation_space = self._observer.space
        # A plain environment has no curriculum, adversary or observer, no target that ends episodes, and no target
        # that needs random numbers. After each step, a plain environment only sets the values of the schedules.
        is_drawn, episodic = self._transforms.is_drawn, self._setter.episodic
        is_plain = not (self._feedback.is_needed or episodic or is_drawn or self._observer)
        self._passes_on = self._is_passive = self._is_passive and is_plain
        self._regime_shown = 0
        self.last_observation: Any = None
        self._set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of the environment. Except in the context of `frozen`, a seed also sets the clock to 0,
                resets the curriculum and removes the bursts of adversarial schedules. If the constructor got no
                seed, the seed also becomes the seed of the drift.
            options: ``"rl_rms.clock"`` sets the clock, in env steps. Other options go to the environment.
        """
        if seed is not None or options is not None or not self._is_passive:
            seed, options = self._prepare(seed, options)
        observation, info = super().reset(seed=seed, options=options)
        if self._observer is not None:
            observation = self._observed(self._observer, observation)
        self.last_observation = observation
        info[REGIME] = self.regime
        return observation, info

    def _prepare(
        self, seed: int | None, options: dict[str, Any] | None
    ) -> tuple[int | None, dict[str, Any] | None]:
        """Set the clock and the values of the next episode; return the seed and the options of the environment."""
        seed = None if seed is None else check_int("seed", seed, least=0)
        clock, options = take_clock(options)
        frozen = self._clock.is_frozen
        if seed is not None and not frozen:
            self._restart(seed)
            self._regime_shown = 0
        if clock is not None:
            self._clock.set(clock)
        if self._feedback.is_needed and not frozen:
            self._feedback.begin((0,))
            self._task = tuple(self._feedback.tasks[:, 0].tolist())
        self._set()
        return seed, options

    def step(self, action: Any) -> Transition:
        """Make a transition, then advance the clock by one unless the clock is frozen."""
        clock = self._clock
        if not self._passes_on or clock.is_frozen:
            return self._complete(*Parametrized.step(self, action))
        transition: Transition = self.env.step(action)
        # The loop runs at most once. It does the work of `_complete` without function calls, which would take most
        # of the time.
        for now in clock.ahead:
            clock.now, setter = now, self._setter
            if now != setter.now:
                # CPython caches the attribute lookup only if the lookup is separate from the call.
                assign = setter.assign
                assign(now)
                setter.now = now
            self.last_observation = transition[0]
            transition[4][REGIME] = clock.regime
            return transition
        return self._complete(*transition)

    def _complete(
        self, observation: Any, reward: Any, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> Transition:
        """Advance the clock, report a transition to curriculum and adversaries, and extend the observation."""
        clock = self._clock
        clock.advance()
        if self._setter.episodic and self._setter.ends_episode(clock.values + self._task):
            truncated = truncated or not terminated
        if self._feedback.is_needed and not clock.is_frozen:
            ends = (terminated or truncated,)
            if self._feedback.record(
                clock.reading, (float(reward),), (True,), ends, (success_in(info, self.success_keys),)
            ):
                self._replace_schedules()
        self._set()
        if self._observer is not None:
            observation = self._observed(self._observer, observation)
        self.last_observation = observation
        info[REGIME] = self.regime
        return observation, reward, terminated, truncated, info

    @property
    def parameters(self) -> dict[str, float]:
        """The current value of each target."""
        return dict(zip(self.parameter_targets, self.parameter_values, strict=True))

    def state_dict(self, *, environment: bool = True) -> dict[str, Any]:
        """Return the state of the changes and of the environment within its episode, as plain JSON data.

        Args:
            environment: Whether to include the wrapped environment and its episode.
        """
        snapshot = None
        if environment:
            snapshot = self.parameter_snapshot
            self._warn_of_problem()
        return {
            **self._changes_state(),
            "regime_shown": self._regime_shown,
            "task": list(self._task),
            "observation": None if snapshot is None else encode(self.last_observation),
            "environment": snapshot,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        If the state includes the wrapped environment, ``last_observation`` is also restored. Otherwise the
        environment continues its episode, and a curriculum counts only the rest of this episode.

        Raises:
            ValueError: If the state belongs to an environment that was made with different arguments.
        """
        self._check_state(state)
        self._load_changes_state(state)
        self._regime_shown = int(state["regime_shown"])
        self._task = tuple(state["task"])
        self._feedback.tasks = np.array(self._task, dtype=np.float64)[:, None]
        if state["environment"] is not None:
            self.parameter_snapshot = state["environment"]
            self._warn_of_problem()
            self.last_observation = decode(state["observation"])
        self._set()

    def _observed(self, observer: Observer, observation: Any) -> Any:
        changed = self.regime != self._regime_shown
        self._regime_shown = int(self.regime)
        return observer.add(observation, self.parameter_values, self._clock.reading, changed)

    def _set(self) -> None:
        if self._transforms.is_drawn:
            self._transforms.draws.noise_key = self._clock.noise_key
        self._setter.set(self._clock.values + self._task)
