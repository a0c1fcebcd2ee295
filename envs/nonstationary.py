"""The wrapper that lets an environment drift, jump and follow a curriculum on a lifelong clock."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rl_rms.envs.chance import Moment
from rl_rms.envs.checks import check_whole
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.drift import Drift, timescale
from rl_rms.envs.episodes import Episodes
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.schedules import Schedule, as_schedules


class NonStationary(Parametrized):
    """An environment that changes while it is lived in.

    The clock counts transitions over the environment's whole life: ``reset()`` does not rewind it,
    ``reset(seed=s)`` does, and ``reset(options={"clock": k})`` sets it. Clock, parameters and regime are always
    those that hold for the transition to come; what a step returns was made under those before it.
    ``info["regime"]`` counts the changes of regime so far: the clocks at which any target jumped, and the
    stages that the curriculum has passed.

    Args:
        env: The environment.
        changes: Targets and their schedules. A target is a parameter of the unwrapped environment by its own
            name (``"gravity"``), or one of `rl_rms.envs.transforms`: ``"reward.scale"``, ``offset``, ``noise``;
            ``"observation.gain"``, ``offset``, ``offsets``, ``offsets_draw``, ``noise``, ``permute``, ``mask``
            (after any of which the observation space has no bounds); ``"action.delay"``, ``flip``, ``permute``,
            ``gain``, ``bias``, ``noise``. A number stands for a value that never changes.
        curriculum: Sets its own targets, at the beginning of each episode.
        seed: Seed of the drift, >= 0. None: that of ``reset(seed=s)``; until there is one, a random one.
        env_index: Number of this environment among those with the same seed, each with its own chance.

    Raises:
        ValueError: If the environment has no such target, changing it would have no effect, or both changes and
            curriculum set it.

    Example:
        >>> from rl_rms.envs.schedules import Step
        >>> env = NonStationary(gym.make("CartPole-v1"), {"gravity": Step(before=9.8, after=1.6, at=2)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(0)[-1]["regime"] for _ in range(3)], env.parameters
        ([0, 1, 1], {'gravity': 1.6})
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        changes: Mapping[str, Schedule | float] | None = None,
        *,
        curriculum: Curriculum | None = None,
        seed: int | None = None,
        env_index: int = 0,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, changes=changes, curriculum=curriculum, seed=seed, env_index=env_index
        )
        schedules = as_schedules(changes)
        Parametrized.__init__(self, env, join_targets(schedules, curriculum))
        self._keyed = seed is not None
        self._drift = Drift(schedules, first_seed(seed), check_whole("env_index", env_index, least=0))
        self._curriculum = curriculum
        self._episodes = None if curriculum is None else Episodes(curriculum, first=env_index)
        # Before the first episode a curriculum has set nothing.
        self._task = self.current_values()[len(schedules) :]
        self._set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the environment, rewinds the clock to 0, and seeds the drift unless the constructor did.
            options: ``"clock"`` sets the clock, in env steps; the others are the environment's.
        """
        clock, options = take_clock(options)
        if seed is not None:
            self._drift.set(clock=0, seed=None if self._keyed else seed)
        if clock is not None:
            self._drift.set(clock)
        if self._episodes is not None:
            self._task = self._episodes.begin()
        self._set()
        observation, info = super().reset(seed=seed, options=options)
        info["regime"] = self.regime
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a transition, then let the clock go on by one."""
        transition = Parametrized.step(self, action)
        drift = self._drift
        drift.advance()
        if self._episodes is None:
            # As in the other branch, without its calls, which would be the most of what a drift costs.
            if drift.values != self._controls.values:
                self._controls.set(drift.values)
            if self._controls.has_noise:
                self._controls.place(self._moment())
            transition[4]["regime"] = drift.regime
        else:
            _, reward, terminated, truncated, info = transition
            self._episodes.add((float(reward),), (True,), (terminated or truncated,))
            self._set()
            info["regime"] = self.regime
        return transition

    @property
    def clock(self) -> int:
        """Transitions so far, in env steps; it can be set."""
        return self._drift.clock

    @clock.setter
    def clock(self, clock: int) -> None:
        self._drift.set(check_whole("clock", clock, least=0, unit="env steps"))
        self._set()

    @property
    def parameters(self) -> dict[str, float]:
        """The value of each target that holds now."""
        return dict(zip(self.parameter_targets, self.parameter_values, strict=True))

    @property
    def regime(self) -> int:
        """The number of changes of regime so far."""
        drifted = self._drift.regime
        return drifted if self._curriculum is None else drifted + self._curriculum.stage_changes

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each target that has one."""
        return dict(self._drift.changes)

    @property
    def timescale(self) -> float:
        """The shortest timescale of any schedule, in env steps; ``inf`` where nothing changes."""
        return timescale(self._drift.changes)

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum, if there is one."""
        return self._curriculum

    def state_dict(self) -> dict[str, Any]:
        """Clock, seed and curriculum as plain JSON data; not the state of the environment inside."""
        curriculum = None if self._curriculum is None else self._curriculum.state_dict()
        return {"clock": self._drift.clock, "seed": self._drift.seed, "curriculum": curriculum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`.

        The environment inside stays in the episode in which it is; a curriculum takes it for one that begins.
        """
        load_curriculum(self._curriculum, state)
        self._drift.set(clock=int(state["clock"]), seed=int(state["seed"]))
        if self._episodes is not None:
            self._task = self._episodes.begin()
        self._set()

    def _moment(self) -> Moment:
        drift = self._drift
        return Moment(drift.seed, (drift.env_index,), (drift.env_index,), (drift.clock,))

    def _set(self) -> None:
        if self._controls.is_drawn:
            self._controls.place(self._moment())
        values = self._drift.values + self._task
        if values != self._controls.values:
            self._controls.set(values)


def join_targets(schedules: Mapping[str, Schedule], curriculum: Curriculum | None) -> tuple[str, ...]:
    """The targets of changes and those of a curriculum.

    Raises:
        ValueError: If both have one.
    """
    tasks = () if curriculum is None else curriculum.targets
    for target in tasks:
        if target in schedules:
            raise ValueError(f"{target!r} is set by both changes and curriculum; leave it to one of them")
    return (*schedules, *tasks)


def first_seed(seed: int | None) -> int:
    """The given seed of a drift, or a random one.

    Raises:
        ValueError: If it is no whole number >= 0.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    return check_whole("seed", seed, least=0)


def take_clock(options: Mapping[str, Any] | None) -> tuple[int | None, dict[str, Any] | None]:
    """The clock that the options of a reset ask for, and the options without it, in a copy.

    Raises:
        ValueError: If it is no whole number >= 0.
    """
    if options is None:
        return None, None
    rest = dict(options)
    clock = rest.pop("clock", None)
    return None if clock is None else check_whole("clock", clock, least=0, unit="env steps"), rest


def load_curriculum(curriculum: Curriculum | None, state: Mapping[str, Any]) -> None:
    """Load a curriculum's part of a wrapper's state.

    Raises:
        ValueError: If there is a curriculum and no such part, or a part and no curriculum.
    """
    saved = state["curriculum"]
    if (curriculum is None) != (saved is None):
        with_or_without = "without" if saved is None else "with"
        raise ValueError(f"the state was saved {with_or_without} a curriculum; make the environment so too")
    if curriculum is not None:
        curriculum.load_state_dict(saved)
