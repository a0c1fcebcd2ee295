"""The base class of `NonStationary` and `NonStationaryVector`: clock, schedules, curriculum, freezing."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorWrapper

from rl_rms.envs.checks import check_int
from rl_rms.envs.clocks import Clock, SharedClock
from rl_rms.envs.config import Sharing
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.faults import EnvError
from rl_rms.envs.feedback import Feedback
from rl_rms.envs.keys import CLOCK
from rl_rms.envs.schedules import Floats, Ints, Schedule
from rl_rms.envs.targets import parse_target

T = TypeVar("T", bound="Changing")


class Changing:
    """An environment whose parameters follow schedules over a clock, and a curriculum.

    Subclasses make ``_clock`` and ``_feedback``, and implement the abstract methods.
    """

    _clock: Clock
    _feedback: Feedback
    success_keys: tuple[str, ...]
    """The entries of info in which the environment reports successes."""
    # Whether the constructor got a seed for the drift. If True, the seed of a reset does not seed the drift.
    _has_own_seed: bool
    # A key of the state dictionary by which the subclass recognizes its own states.
    _STATE_KEY: str

    @abstractmethod
    def _set(self) -> None:
        """Set the targets to their values for the next transition."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """The current value of each target."""

    @property
    def clock(self) -> int:
        """The clock's reading, in env steps of all sub-environments together. Assign a value to set the clock."""
        return self._clock.reading

    @clock.setter
    def clock(self, clock: int) -> None:
        self._clock.set(check_int("clock", clock, least=0, unit="env steps"))
        self._set()

    @property
    def regime(self) -> int | Ints:
        """The number of regime changes so far: a scalar, or shape ``(num_envs,)`` if sub-environments differ.

        A regime change is a clock reading at which a target jumps, or a change of the curriculum's stage.
        """
        curriculum = self._feedback.curriculum
        return self._clock.regime if curriculum is None else self._clock.regime + curriculum.stage_changes

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each target that has a schedule. An adversarial schedule includes all bursts so far."""
        return self._feedback.schedules

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum; None if there is none."""
        return self._feedback.curriculum

    @property
    def drift_seed(self) -> int:
        """Seed of the changes' random numbers."""
        return self._clock.seed

    @property
    def sharing(self) -> Sharing:
        """How sub-environments share the changes; always ``"shared"`` for a single environment."""
        return "shared"

    @property
    def timescale(self) -> float:
        """The shortest timescale of the schedules and the curriculum; ``inf`` if nothing changes.

        The unit is env steps of all sub-environments together. The timescale of a schedule is its autocorrelation
        time.
        """
        drifting = self._clock.timescale
        return drifting if self.curriculum is None else min(drifting, self.curriculum.timescale)

    def oracle(self, t0: int, t1: int) -> dict[str, Floats]:
        """Return the values of the schedules in an interval of the clock.

        Args:
            t0: First clock reading in env steps, >= 0. With independent clocks, the interval is on the clock of
                each sub-environment.
            t1: End of the interval in env steps, exclusive, >= ``t0``.

        Returns:
            The values of each target that has a schedule, shape ``(t1 - t0,)``, or ``(num_envs, t1 - t0)`` if
            sub-environments differ. An adversarial schedule includes its bursts so far.

        Raises:
            ValueError: If ``t0`` is not a whole number >= 0, or ``t1`` is not a whole number >= ``t0``.
        """
        t0 = check_int("t0", t0, least=0, unit="env steps")
        return self._clock.oracle(np.arange(t0, check_int("t1", t1, least=t0, unit="env steps")))

    @contextmanager
    def frozen(self: T, clock: int | None = None) -> Iterator[T]:
        """Stop the changes while an agent is evaluated, and restore the earlier state afterwards.

        In the context, the clock stops, resets keep the curriculum's current tasks, the curriculum records no
        episodes, and no adversarial burst begins. Noise is still drawn. You can reset, seed and step the
        environment. On exit, the earlier state and episode are restored. If the environment's state cannot be
        saved (see `rl_rms.envs.snapshots.register_state`), reset the environment afterwards.

        Args:
            clock: Clock in the context, in env steps of all sub-environments together; None keeps the current
                reading.

        Yields:
            The environment itself.

        Examples:
            >>> import gymnasium as gym
            >>> from rl_rms.envs import NonStationary
            >>> from rl_rms.envs.schedules import Linear
            >>> env = NonStationary(gym.make("CartPole-v1"), {"gravity": Linear(start=5.0, end=15.0, over=100)})
            >>> _ = env.reset(seed=0)
            >>> with env.frozen(clock=50):
            ...     _ = env.reset(), [env.step(0) for _ in range(5)]
            ...     env.parameters, env.clock
            ({'gravity': 10.0}, 50)
            >>> env.parameters, env.clock
            ({'gravity': 5.0}, 0)
        """
        state, was_frozen = self.state_dict(), self._clock.is_frozen
        self._clock.is_frozen = True
        try:
            if clock is not None:
                self.clock = clock
            yield self
        except EnvError:
            # The state of a failed environment cannot be restored.
            state = {**state, "environment": None}
            raise
        finally:
            self._clock.is_frozen = was_frozen
            self.load_state_dict(state)

    @abstractmethod
    def state_dict(self, *, environment: bool = True) -> dict[str, Any]:
        """Return the state as plain JSON data.

        Args:
            environment: Whether to include the wrapped environment and its episodes.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""

    def _restart(self, seed: int | None) -> None:
        """Set the clock to 0, and reset the curriculum and the adversarial schedules.

        A ``seed`` also seeds the drift, unless the constructor got a seed for the drift.
        """
        seed = self._clock.seed if seed is None or self._has_own_seed else seed
        self._feedback.restart(seed)
        self._replace_schedules()
        self._clock.set(0, seed)

    def _replace_schedules(self) -> None:
        """Pass the schedules with all adversarial bursts so far to the clock."""
        if self._feedback.has_adversaries:
            assert isinstance(self._clock, SharedClock)
            self._clock.changes = self._feedback.schedules

    def _changes_state(self) -> dict[str, Any]:
        """Return the state of the clock, the curriculum, the adversaries and the episode counters."""
        return {**self._clock.state_dict(), **self._feedback.state_dict()}

    def _load_changes_state(self, state: Mapping[str, Any]) -> None:
        """Restore the entries of a wrapper's state that `_changes_state` returned.

        Raises:
            ValueError: If the state was saved with another curriculum or other adversaries.
        """
        self._feedback.load_state_dict(state, episodes=state["environment"] is not None)
        self._replace_schedules()
        self._clock.load_state_dict(state)

    def _check_state(self, state: Any) -> None:
        if not isinstance(state, Mapping) or self._STATE_KEY not in state:
            raise ValueError(
                f"this is not the state of a {type(self).__name__}, because it has no entry {self._STATE_KEY!r}; "
                "load a state that state_dict() of the same class returned"
            )


def join_targets(schedules: Mapping[str, Schedule], curriculum: Curriculum | None) -> tuple[str, ...]:
    """Return the targets of the changes and of the curriculum.

    Raises:
        ValueError: If changes and curriculum set the same target.
    """
    tasks = () if curriculum is None else curriculum.targets
    for target in tasks:
        if target in schedules:
            raise ValueError(f"{target!r} is set by both changes and curriculum; remove it from one of them")
    return (*schedules, *tasks)


def check_inner(env: Any, targets: Iterable[str]) -> None:
    """Raise an error if a wrapper inside also changes one of the targets.

    Two wrappers may apply the same transform, but not to the sub-environments of a Sync- or AsyncVectorEnv.

    Raises:
        ValueError: If a wrapper inside changes one of the targets.
    """
    is_shared = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
    while isinstance(env, (gym.Wrapper, VectorWrapper)):
        if isinstance(env, Changing):
            for target in targets:
                if target in env.parameters and (is_shared or parse_target(target) is None):
                    raise ValueError(
                        f"{target!r} already changes in the {type(env).__name__} inside; change it in one wrapper"
                    )
        env = env.env


def take_clock(options: Mapping[str, Any] | None) -> tuple[int | None, dict[str, Any] | None]:
    """Split the options of a reset into the clock, None if not given, and a copy of the other options.

    Raises:
        ValueError: If the clock is not a whole number >= 0.
    """
    if options is None:
        return None, None
    rest = dict(options)
    clock = rest.pop(CLOCK, None)
    return None if clock is None else check_int(CLOCK, clock, least=0, unit="env steps"), rest
