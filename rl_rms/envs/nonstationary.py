"""The wrapper that lets an environment drift, jump and follow a curriculum on a lifelong clock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rl_rms.envs.adversary import Adversary, find_adversaries
from rl_rms.envs.checks import check_int
from rl_rms.envs.counting import EpisodeCounter, success_in
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.drift import Drift, timescale, trace
from rl_rms.envs.faults import EnvError
from rl_rms.envs.keys import CLOCK, REGIME
from rl_rms.envs.observers import Observer
from rl_rms.envs.parametrized import Parametrized, Transition
from rl_rms.envs.schedules import Floats, Ints, Schedule, as_schedules
from rl_rms.envs.snapshots import decode, encode


class NonStationary(Parametrized):
    """An environment that changes while it is lived in.

    The clock counts transitions over the environment's whole life: ``reset()`` does not rewind it,
    ``reset(seed=s)`` does, and ``reset(options={"rl_rms.clock": k})`` sets it. Clock, parameters and regime are
    always
    those that hold for the transition to come; what a step returns was made under those before it.
    ``info["rl_rms.regime"]`` counts the changes of regime so far: the clocks at which any target jumped, and the
    stages that the curriculum has passed.

    Args:
        env: The environment.
        changes: Targets and their schedules. A target is a parameter of the unwrapped environment by its own
            name (``"gravity"``), or one of `rl_rms.envs.transforms`: ``"reward.scale"``, ``offset``, ``noise``;
            ``"observation.gain"``, ``offset``, ``offsets``, ``offsets_draw``, ``noise``, ``permute``, ``mask``
            (after any of which the observation space has no bounds); ``"action.delay"``, ``flip``, ``permute``,
            ``gain``, ``bias``, ``noise``. A number stands for a value that never changes.
        curriculum: Sets its own targets, at the beginning of each episode.
        observe: ``"params"``, ``"time"`` or ``"change"``, or several of them: what observations show of the
            change (`rl_rms.envs.observers`). None leaves them as they are.
        seed: Seed of the drift, >= 0. None: that of ``reset(seed=s)``; until there is one, a random one.
        env_index: Number of this environment among those with the same seed, each with its own chance.

    Attributes:
        last_observation: What the environment showed last; None before the first reset.

    Raises:
        ValueError: If the environment has no such target, changing it would have no effect, or both changes and
            curriculum set it.

    Examples:
        >>> from rl_rms.envs.schedules import Step
        >>> env = NonStationary(gym.make("CartPole-v1"), {"gravity": Step(before=9.8, after=1.6, at=2)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(0)[-1]["rl_rms.regime"] for _ in range(3)], env.parameters
        ([0, 1, 1], {'gravity': 1.6})
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        changes: Mapping[str, Schedule | float] | None = None,
        *,
        curriculum: Curriculum | None = None,
        observe: str | Sequence[str] | None = None,
        seed: int | None = None,
        env_index: int = 0,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, changes=changes, curriculum=curriculum, observe=observe, seed=seed, env_index=env_index
        )
        self._schedules = schedules = as_schedules(changes)
        Parametrized.__init__(self, env, join_targets(schedules, curriculum))
        self._keyed = seed is not None
        self._drift = Drift(schedules, first_seed(seed), check_int("env_index", env_index, least=0))
        self._curriculum = curriculum
        self._adversaries = find_adversaries(schedules)
        self._episodes = EpisodeCounter() if curriculum is not None or self._adversaries else None
        # Before the first episode a curriculum has set nothing.
        self._task = self.current_values()[len(schedules) :]
        self._observer: Observer | None = None
        if observe is not None:
            targets = self.parameter_targets
            self._observer = Observer(observe, self.observation_space, len(targets), timescale(schedules))
            self.observation_space = self._observer.space
        self._regime_shown = 0
        self.last_observation: Any = None
        # Whether a step needs nothing but the drift.
        self._is_plain = not (self._episodes or self._observer or self._setter.episodic)
        self._set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the environment, rewinds the clock to 0, makes the curriculum begin anew, and seeds the
                drift unless the constructor did. In `frozen` it only seeds the environment.
            options: ``"rl_rms.clock"`` sets the clock, in env steps; the others are the environment's.
        """
        seed = None if seed is None else check_int("seed", seed, least=0)
        clock, options = take_clock(options)
        frozen = self._drift.is_frozen
        if seed is not None and not frozen:
            self._adversaries = find_adversaries(self._schedules)
            self._drift.changes = dict(self._schedules)
            self._drift.set(clock=0, seed=None if self._keyed else seed)
            if self._curriculum is not None:
                self._curriculum.restart(self._drift.seed)
            self._regime_shown = 0
        if clock is not None:
            self._drift.set(clock)
        if not frozen:
            self._begin()
        self._set()
        observation, info = super().reset(seed=seed, options=options)
        self.last_observation = observation = self._observed(observation)
        info[REGIME] = self.regime
        return observation, info

    def step(self, action: Any) -> Transition:
        """Make a transition, then let the clock go on by one."""
        transition = Parametrized.step(self, action)
        drift = self._drift
        drift.advance()
        if not self._is_plain:
            return self._complete(*transition)
        # As in the other branch, without its calls, which would be the most of what a drift costs.
        setter = self._setter
        if drift.values != setter.values:
            setter.set(drift.values)
        if setter.has_noise:
            setter.place(drift.moment)
        transition[4][REGIME] = drift.regime
        self.last_observation = transition[0]
        return transition

    @property
    def clock(self) -> int:
        """Transitions so far, in env steps; it can be set."""
        return self._drift.clock

    @clock.setter
    def clock(self, clock: int) -> None:
        self._drift.set(check_int("clock", clock, least=0, unit="env steps"))
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
        """The schedule of each target that has one; an adversary's with all its bursts so far."""
        return dict(self._drift.changes)

    @property
    def timescale(self) -> float:
        """The shortest timescale of any schedule and the curriculum, in env steps; ``inf`` where none changes."""
        drifting = timescale(self._drift.changes)
        return drifting if self._curriculum is None else min(drifting, self._curriculum.timescale)

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum, if there is one."""
        return self._curriculum

    def oracle(self, t0: int, t1: int) -> dict[str, Floats]:
        """What the schedules have been or will be, at any clock: the truth that an agent does not see.

        Args:
            t0: First reading of the clock, in env steps, >= 0.
            t1: The one after the last.

        Returns:
            The values of each target that has a schedule, shape ``(t1 - t0,)``; of an adversary's, its bursts so
            far.

        Raises:
            ValueError: If they are no whole numbers, or ``t1`` comes before ``t0``.
        """
        return trace(self._drift.changes, check_span(t0, t1), self._drift.seed, self._drift.env_index)

    @contextmanager
    def frozen(self, clock: int | None = None) -> Iterator["NonStationary"]:
        """Stop the world, to see how good an agent is in it; afterwards all is as it was before.

        Inside, the clock stands still, the curriculum keeps its task and learns nothing, and no adversary strikes;
        noise is still noise. Episodes can be played and the environment be seeded. At the end the world goes on
        from where it was stopped, in the same episode; where that cannot be kept (see `parameter_snapshot`), it
        needs a reset.

        Args:
            clock: The reading at which it stands, in env steps; None for the present one.

        Yields:
            The environment itself.

        Examples:
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
        with freeze(self, self._drift, clock):
            yield self

    def state_dict(self, *, environment: bool = True) -> dict[str, Any]:
        """All of it as plain JSON data: clock, seed, curriculum, and the environment inside within its episode.

        Args:
            environment: False leaves out the environment inside and its episode, for another one to begin.
        """
        snapshot = None
        if environment:
            snapshot = self.parameter_snapshot
            self._warn_of_problem()
        return {
            "clock": self._drift.clock,
            "seed": self._drift.seed,
            "regime_shown": self._regime_shown,
            "adversaries": {target: one.state_dict() for target, one in self._adversaries.items()},
            "curriculum": None if self._curriculum is None else self._curriculum.state_dict(),
            "episodes": None if self._episodes is None else self._episodes.state_dict(),
            "task": list(self._task),
            "observation": None if snapshot is None else encode(self.last_observation),
            "environment": snapshot,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`, exactly; ``last_observation`` is what was shown last.

        Where the state has no environment, the one inside stays in the episode in which it is, which a curriculum
        takes for the beginning of the one that was in progress.

        Raises:
            ValueError: If it is the state of a world that was made otherwise.
        """
        check_state(state, "task", self._adversaries, self._curriculum)
        if self._curriculum is not None:
            self._curriculum.load_state_dict(state["curriculum"])
        self._drift.changes = dict(self._schedules)
        for target, adversary in self._adversaries.items():
            adversary.load_state_dict(state["adversaries"][target])
            self._drift.changes[target] = adversary.schedule
        self._drift.set(clock=int(state["clock"]), seed=int(state["seed"]))
        self._regime_shown = int(state["regime_shown"])
        self._task = tuple(state["task"])
        if state["environment"] is None:
            if self._episodes is not None:
                self._episodes.begin()
        else:
            if self._episodes is not None:
                self._episodes.load_state_dict(state["episodes"])
            self.parameter_snapshot = state["environment"]
            self._warn_of_problem()
            self.last_observation = decode(state["observation"])
        self._set()

    def _begin(self) -> None:
        """Begin to count an episode, and ask for its task."""
        if self._episodes is not None:
            self._episodes.begin()
        if self._curriculum is not None:
            self._task = ask_for_task(self._curriculum, self._drift.env_index)

    def _complete(
        self, observation: Any, reward: Any, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> Transition:
        """What else a transition brings, after the clock has gone on."""
        if self._setter.ends_episode(self._drift.values + self._task):
            truncated = truncated or not terminated
        if self._episodes is not None and not self._drift.is_frozen:
            done = terminated or truncated
            for episode in self._episodes.add((float(reward),), (True,), (done,), (success_in(info),)):
                if self._curriculum is not None:
                    self._curriculum.record(
                        episode.episode_return, episode.length, self._drift.env_index, episode.success
                    )
                for target, adversary in self._adversaries.items():
                    if adversary.record(self._drift.clock, episode.episode_return):
                        self._drift.replace(target, adversary.schedule)
        self._set()
        self.last_observation = observation = self._observed(observation)
        info[REGIME] = self.regime
        return observation, reward, terminated, truncated, info

    def _observed(self, observation: Any) -> Any:
        if self._observer is None:
            return observation
        changed = self.regime != self._regime_shown
        self._regime_shown = self.regime
        return self._observer.add(observation, self.parameter_values, self._drift.clock, changed)

    def _set(self) -> None:
        if self._setter.is_drawn:
            self._setter.place(self._drift.moment)
        values = self._drift.values + self._task
        if values != self._setter.values:
            self._setter.set(values)


class Freezable(Protocol):
    """What `freeze` needs of a world."""

    clock: int

    def state_dict(self) -> dict[str, Any]:
        """All of it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@contextmanager
def freeze(world: Freezable, time: Any, clock: int | None) -> Iterator[None]:
    """Stop a world, and let it go on from where it was.

    Args:
        world: The world.
        time: What its clock is, with an attribute ``is_frozen``.
        clock: The reading at which it stands, in env steps; None for the present one.
    """
    state = world.state_dict()
    time.is_frozen = True
    try:
        if clock is not None:
            world.clock = clock
        yield
    except EnvError:
        # Its environment is in no state to be brought back to where it was.
        state = {**state, "environment": None}
        raise
    finally:
        time.is_frozen = False
        world.load_state_dict(state)


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
    return check_int("seed", seed, least=0)


def take_clock(options: Mapping[str, Any] | None) -> tuple[int | None, dict[str, Any] | None]:
    """The clock that the options of a reset ask for, and the options without it, in a copy.

    Raises:
        ValueError: If it is no whole number >= 0.
    """
    if options is None:
        return None, None
    rest = dict(options)
    clock = rest.pop(CLOCK, None)
    return None if clock is None else check_int(CLOCK, clock, least=0, unit="env steps"), rest


def check_span(t0: int, t1: int) -> Ints:
    """The readings from ``t0`` on and before ``t1``.

    Raises:
        ValueError: If they are no whole numbers >= 0, or ``t1`` comes before ``t0``.
    """
    t0 = check_int("t0", t0, least=0, unit="env steps")
    return np.arange(t0, check_int("t1", t1, least=t0, unit="env steps"))


def ask_for_task(curriculum: Curriculum, env_index: int) -> tuple[float, ...]:
    """The values of a curriculum's targets for an episode that begins, in their order."""
    task = curriculum.task(env_index)
    return tuple(task[target] for target in curriculum.targets)


def check_state(
    state: Mapping[str, Any], mark: str, adversaries: Mapping[str, Adversary], curriculum: Curriculum | None
) -> None:
    """Refuse the state of a world that was made otherwise.

    Args:
        state: The state.
        mark: The key by which a state of this kind of world is known.
        adversaries: Those of this world.
        curriculum: That of this world.

    Raises:
        ValueError: If it is not such a state, or there is a curriculum or an adversary and no part for it, or the
            other way round.
    """
    if not isinstance(state, Mapping) or mark not in state:
        raise ValueError(
            f"this is not the state of such a world: it has no {mark!r}; NonStationary and NonStationaryVector "
            "each load what their own state_dict() gave"
        )
    if (curriculum is None) != (state["curriculum"] is None):
        with_or_without = "without" if state["curriculum"] is None else "with"
        raise ValueError(f"the state was saved {with_or_without} a curriculum; make the environment so too")
    if set(state["adversaries"]) != set(adversaries):
        raise ValueError(
            f"the state was saved with adversaries of {sorted(state['adversaries']) or 'nothing'}, this world has "
            f"them of {sorted(adversaries) or 'nothing'}; make the environment as it was then"
        )
