"""Vector environments that drift, jump and follow a curriculum: the wrapper, and what makes them."""

import copy
import importlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec, WrapperSpec, find_highest_version, get_env_id, parse_env_id
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rl_rms.envs.adversary import find_adversaries
from rl_rms.envs.backends import Transitions, make_backend
from rl_rms.envs.checks import arguments, check_int
from rl_rms.envs.clocks import Column, IndependentClocks, Mask, PhaseClocks, SharedClock
from rl_rms.envs.config import EnvConfig, Sharing
from rl_rms.envs.counting import EpisodeCounter
from rl_rms.envs.curricula import Curriculum, Teacher
from rl_rms.envs.drift import timescale
from rl_rms.envs.faults import Checked, broken_in
from rl_rms.envs.keys import REGIME
from rl_rms.envs.nonstationary import (
    ask_for_task,
    check_span,
    check_state,
    first_seed,
    freeze,
    join_targets,
    take_clock,
)
from rl_rms.envs.observers import Observer
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.schedules import Floats, Ints, Schedule, as_schedules
from rl_rms.envs.snapshots import decode, encode
from rl_rms.envs.transforms import unbounded

_REGIME_MASK = f"_{REGIME}"
_CLOCKS = {"shared": SharedClock, "phase": PhaseClocks, "independent": IndependentClocks}


class NonStationaryVector(VectorWrapper):
    """A vector environment that changes while it is lived in.

    The clock counts true transitions; the frames in which a sub-environment is only reset do not count. All that
    `NonStationary` says of the clock holds here too: ``reset()`` does not rewind it, ``reset(seed=s)`` does,
    ``reset(options={"rl_rms.clock": k})`` sets it; a reset with a ``reset_mask`` never rewinds. All frames
    of a vector step, the first ones of new episodes too, are made under the values that held when it began.

    Args:
        env: The vector environment: native, Sync, or an Async that `make_vec` made.
        changes: Targets and their schedules, as in `NonStationary`.
        curriculum: Sets its own targets, at the beginning of each episode. Episodes that end in the same vector
            step are recorded in order of their sub-environments. Where an environment resets within the step that
            ends an episode (SAME_STEP), the next one's first observation is still made under the last one's task.
        sharing: ``"shared"``: one clock counts the env steps of all sub-environments, and all see the same values.
            ``"phase"``: the same, but each sub-environment is at another phase of the drift, evenly spread.
            ``"independent"``: each has its own clock and its own chance.
        observe: What observations show of the change, as in `NonStationary`.
        seed: Seed of the drift, >= 0. None: that of ``reset(seed=s)``; until there is one, a random one.
        shard: ``(rank, size)`` of the process, if the sub-environments are divided equally among ``size``
            processes. The clock counts the env steps of all processes, which take equally many. All need the same
            ``seed``.

    Attributes:
        last_observations: What the environment showed last; None before the first reset.

    Raises:
        ValueError: If the environment has no such target, changing it would have no effect, both changes and
            curriculum set it, or the sub-environments cannot be reached.

    Examples:
        >>> from rl_rms.envs.schedules import Step
        >>> env = make_vec("CartPole-v1", 3, {"gravity": Step(before=9.8, after=1.6, at=5)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.zeros(3, dtype=int))[-1]["rl_rms.regime"].tolist() for _ in range(2)]
        [[0, 0, 0], [1, 1, 1]]
        >>> env.clock, env.parameters
        (6, {'gravity': 1.6})
    """

    def __init__(
        self,
        env: VectorEnv,
        changes: Mapping[str, Schedule | float] | None = None,
        *,
        curriculum: Curriculum | None = None,
        sharing: Sharing = "shared",
        observe: str | Sequence[str] | None = None,
        seed: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(env)
        if not 0 <= shard[0] < shard[1]:
            raise ValueError(f"shard must be (rank, size) with 0 <= rank < size, got {shard!r}")
        self.shard = shard
        if sharing not in _CLOCKS:
            raise ValueError(f"sharing must be one of {', '.join(_CLOCKS)}, got {sharing!r}")
        self._sharing = sharing
        self._schedules = schedules = as_schedules(changes)
        self._targets = join_targets(schedules, curriculum)
        self._mode = _autoreset_mode(env)
        self._adversaries = find_adversaries(schedules)
        if self._adversaries and sharing != "shared":
            raise ValueError(
                f"an adversarial_burst answers to all episodes of one world, which needs sharing='shared', got "
                f"{sharing!r}"
            )
        arrays = self._targets[len(schedules) :] if sharing == "shared" else self._targets
        self._backend = make_backend(env, self._targets, arrays)
        if self._backend.moves_observations:
            self.single_observation_space = unbounded(env.single_observation_space)
            self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        if curriculum is not None and self._mode is AutoresetMode.SAME_STEP:
            _check_curriculum(env, [target for target in curriculum.targets if target in self._backend.late])
        self._keyed = seed is not None
        self._clocks = _CLOCKS[sharing](schedules, first_seed(seed), env.num_envs, shard)
        self._curriculum = curriculum
        needs_returns = curriculum is not None or bool(self._adversaries)
        self._episodes = EpisodeCounter(env.num_envs) if needs_returns else None
        self._observer: Observer | None = None
        if observe is not None:
            space, scale = self.single_observation_space, timescale(schedules)
            self._observer = Observer(observe, space, len(self._targets), scale)
            self.single_observation_space = self._observer.space
            self.observation_space = batch_space(self._observer.space, env.num_envs)
        self.last_observations: Any = None
        # Before the first episodes a curriculum has set nothing. One row for each of its targets.
        current = self._backend.current()[len(schedules) :]
        self._world: tuple[Any, ...] = ()
        self._tasks = np.repeat(np.array(current)[:, None], env.num_envs, axis=1)
        self._resetting = np.zeros(env.num_envs, dtype=np.bool_)
        # Gymnasium's mask of the sub-environments that an entry of info is of; read-only, since it is handed out.
        self._everywhere = _read_only(np.ones(env.num_envs, dtype=np.bool_))
        # Whether anybody asks which frames are no transitions, beside how many.
        self._asks_where = sharing == "independent" or needs_returns or self._backend.asks_where
        # Whether a vector step needs nothing but the drift.
        self._is_plain = not (self._episodes or self._observer or self._backend.episodic or self._backend.is_drawn)
        self._regimes, self._regime_told = _read_only(np.zeros(env.num_envs, dtype=np.int64)), 0
        self._set()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: Seeds the environment, rewinds the clock to 0, makes the curriculum begin anew, and seeds the
                drift unless the constructor did; of a list, the first seed in it does. In `frozen` it only seeds
                the environment.
            options: ``"rl_rms.clock"`` sets the clock, in env steps of all sub-environments together. The others
                are the environment's, such as ``"reset_mask"``, which says where episodes are to begin.
        """
        if isinstance(seed, Iterable):
            seed = [None if one is None else check_int("seed", one, least=0) for one in seed]
        elif seed is not None:
            seed = check_int("seed", seed, least=0)
        clock, options = take_clock(options)
        mask = None if options is None else options.get("reset_mask")
        if seed is not None and mask is None and not self._clocks.is_frozen:
            self._restart(None if self._keyed else _first_of(seed))
        if clock is not None:
            self._clocks.set(clock)
        beginning = np.ones_like(self._resetting) if mask is None else np.asarray(mask)
        self._begin(beginning)
        self._set()
        observations, infos = self._backend.reset(seed, options)
        self._resetting &= ~beginning
        return self._observed(observations), self._with_regime(infos)

    def step(self, actions: Any) -> Transitions:
        """Make a vector step, then let the clock go on by its true transitions."""
        begins = int(np.count_nonzero(self._resetting))
        if begins and self._episodes is not None:
            self._begin(self._resetting)
            self._set()
        valid = ~self._resetting if begins and self._asks_where else self._everywhere
        if self._backend.episodic:
            self._announce(valid)
        transitions = self._backend.step(actions, valid)
        infos = transitions[4]
        broken = broken_in(infos, transitions[3])
        if broken is not None:
            valid = ~(self._resetting | broken)
            begins = len(valid) - int(np.count_nonzero(valid))
        if self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = transitions[2] | transitions[3]
        clocks = self._clocks
        clocks.advance(valid, len(valid) - begins)
        if self._is_plain:
            # As in _complete, without its calls.
            self._backend.set(clocks.columns)
            self.last_observations = transitions[0]
            if clocks.regime is self._regime_told:
                infos[REGIME], infos[_REGIME_MASK] = self._regimes, self._everywhere
                return transitions
        else:
            transitions = self._complete(valid, *transitions)
        self._with_regime(infos)
        return transitions

    @property
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together; it can be set."""
        return self._clocks.clock

    @clock.setter
    def clock(self, clock: int) -> None:
        self._clocks.set(check_int("clock", clock, least=0, unit="env steps"))
        self._set()

    @property
    def clocks(self) -> Ints:
        """The reading by which each sub-environment goes, in env steps, shape ``(num_envs,)``."""
        return self._clocks.clocks

    @property
    def parameters(self) -> dict[str, Column]:
        """The value of each target that holds now: a number, or one for each, shape ``(num_envs,)``."""
        return dict(zip(self._targets, self._columns(), strict=True))

    @property
    def regime(self) -> int | Ints:
        """The number of changes of regime so far: of all, or of each, shape ``(num_envs,)``."""
        drifted = self._clocks.regime
        return drifted if self._curriculum is None else drifted + self._curriculum.stage_changes

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each target that has one; an adversary's with all its bursts so far."""
        return {**self._schedules, **{target: one.schedule for target, one in self._adversaries.items()}}

    @property
    def timescale(self) -> float:
        """The shortest timescale of any schedule and of the curriculum, in env steps of all together.

        ``inf`` where nothing changes.
        """
        drifting = self._clocks.timescale
        return drifting if self._curriculum is None else min(drifting, self._curriculum.timescale)

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers inside whose state cannot be saved."""
        return self._backend.lost_wrappers

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum, if there is one."""
        return self._curriculum

    def oracle(self, t0: int, t1: int) -> dict[str, Floats]:
        """What the schedules have been or will be, at any clock: the truth that an agent does not see.

        Args:
            t0: First reading of the clock, in env steps, >= 0; with independent clocks of each one's own.
            t1: The one after the last.

        Returns:
            The values of each target that has a schedule, shape ``(t1 - t0,)``, or ``(num_envs, t1 - t0)`` where
            sub-environments differ; of an adversary's, its bursts so far.

        Raises:
            ValueError: If they are no whole numbers, or ``t1`` comes before ``t0``.
        """
        return self._clocks.oracle(check_span(t0, t1))

    @contextmanager
    def frozen(self, clock: int | None = None) -> Iterator["NonStationaryVector"]:
        """Stop the world, to see how good an agent is in it; afterwards all is as it was before.

        All that `NonStationary.frozen` says holds here too.

        Args:
            clock: The reading at which it stands, in env steps of all together; None for the present one.

        Yields:
            The environment itself.
        """
        with freeze(self, self._clocks, clock):
            yield self

    def state_dict(self, *, environment: bool = True) -> dict[str, Any]:
        """All of it as plain JSON data: clocks, seed, curriculum, and the sub-environments within their episodes.

        Args:
            environment: False leaves out the sub-environments and their episodes, for others to begin.
        """
        snapshot = self._backend.snapshot() if environment else None
        return {
            **self._clocks.state_dict(),
            "sharing": self._sharing,
            "adversaries": {target: one.state_dict() for target, one in self._adversaries.items()},
            "curriculum": None if self._curriculum is None else self._curriculum.state_dict(),
            "episodes": None if self._episodes is None else self._episodes.state_dict(),
            "regimes_shown": self._regimes.tolist(),
            "tasks": self._tasks.tolist(),
            "resetting": self._resetting.tolist(),
            # Those of the environment, unless something is added to them.
            "observations": None if self._observer is None else encode(self.last_observations),
            "environment": snapshot,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`, exactly; ``last_observations`` are what was shown last.

        Where the state has no environment, the sub-environments stay in the episodes in which they are, which a
        curriculum takes for the beginnings of those that were in progress.

        Raises:
            ValueError: If it is the state of a world that was made otherwise.
        """
        check_state(state, "resetting", self._adversaries, self._curriculum)
        saved = (state["sharing"], len(state["resetting"]))
        if saved != (self._sharing, self.num_envs):
            raise ValueError(
                f"the state was saved with sharing={saved[0]!r} and num_envs={saved[1]}, this world has "
                f"sharing={self._sharing!r} and num_envs={self.num_envs}; make it as it was then"
            )
        if self._curriculum is not None:
            self._curriculum.load_state_dict(state["curriculum"])
        for target, adversary in self._adversaries.items():
            adversary.load_state_dict(state["adversaries"][target])
        self._tell_clocks()
        self._clocks.load_state_dict(state)
        self._tasks = np.array(state["tasks"], dtype=np.float64).reshape(self._tasks.shape)
        if state["environment"] is None:
            if self._episodes is not None:
                self._episodes = EpisodeCounter(self.num_envs)
        else:
            self._regimes = _read_only(np.array(state["regimes_shown"], dtype=np.int64))
            self._regime_told = int(self._regimes[0])
            self._resetting = np.array(state["resetting"], dtype=np.bool_)
            if self._episodes is not None:
                self._episodes.load_state_dict(state["episodes"])
            self._backend.restore(state["environment"], self._resetting)
            self.last_observations = (
                self._backend.last if self._observer is None else decode(state["observations"])
            )
        self._world = ()
        self._set()

    def _complete(
        self, valid: Mask, observations: Any, rewards: Any, terminated: Any, truncated: Any, infos: dict[str, Any]
    ) -> Transitions:
        """What else a vector step brings, after the clock has gone on."""
        if self._episodes is not None:
            done = np.logical_or(terminated, truncated)
            if not self._clocks.is_frozen:
                self._record(rewards, valid, done, infos)
            if self._mode is AutoresetMode.SAME_STEP:
                self._begin(done)
        if self._observer is not None and "final_obs" in infos:
            infos["final_obs"] = self._observed_final(infos["final_obs"])
        self._set()
        return self._observed(observations), rewards, terminated, truncated, infos

    def _restart(self, seed: int | None) -> None:
        """Rewind the world to its beginning, with another seed if one is given."""
        self._adversaries = find_adversaries(self._schedules)
        self._tell_clocks()
        self._clocks.set(clock=0, seed=seed)
        if self._curriculum is not None:
            self._curriculum.restart(self._clocks.seed)
        self._regimes, self._regime_told = _read_only(np.zeros_like(self._regimes)), 0

    def _begin(self, beginning: Mask) -> None:
        """Count episodes that begin, and ask for their tasks."""
        if self._episodes is None or self._clocks.is_frozen:
            return
        rows = np.flatnonzero(beginning).tolist()
        for row in rows:
            self._episodes.begin(row)
        if self._curriculum is not None and rows:
            # A new array: the old one may be in use inside the environment.
            self._tasks = self._tasks.copy()
            for row in rows:
                self._tasks[:, row] = ask_for_task(self._curriculum, row)

    def _record(self, rewards: Any, valid: Mask, done: Mask, infos: Mapping[str, Any]) -> None:
        """Tell curriculum and adversaries of the episodes that ended."""
        assert self._episodes is not None
        successes = _successes(infos, done)
        for episode in self._episodes.add(np.asarray(rewards).tolist(), valid.tolist(), done.tolist(), successes):
            if self._curriculum is not None:
                self._curriculum.record(episode.episode_return, episode.length, episode.row, episode.success)
            struck = [one.record(self.clock, episode.episode_return) for one in self._adversaries.values()]
            if any(struck):
                self._tell_clocks()

    def _tell_clocks(self) -> None:
        """Put the adversaries' schedules in force."""
        if self._adversaries:
            assert isinstance(self._clocks, SharedClock)
            self._clocks.changes = self.schedules

    def _announce(self, valid: Mask) -> None:
        """Let the episodes end whose world is another after the next transition."""
        now, then = self._columns(), (*self._clocks.columns_after(valid), *self._tasks)
        ending = np.zeros_like(valid)
        for index in self._backend.episodic:
            ending |= np.not_equal(now[index], then[index]) & valid
        if ending.any():
            self._backend.announce(then, ending)

    def _columns(self) -> tuple[Column, ...]:
        columns = self._clocks.columns
        return columns if self._curriculum is None else (*columns, *self._tasks)

    def _set(self) -> None:
        if self._backend.is_drawn:
            moment = self._clocks.moment
            # Sending it to workers takes time, and only noise depends on the clock.
            if self._backend.has_noise or moment[:2] != self._world:
                self._world = moment[:2]
                self._backend.place(moment)
        self._backend.set(self._columns())

    def _observed(self, observations: Any) -> Any:
        """Observations with what the agent is shown of the change."""
        if self._observer is not None:
            observations = self._observer.add(observations, self._columns(), self.clocks, self._is_other_regime())
        self.last_observations = observations
        return observations

    def _observed_final(self, final: Any) -> Any:
        """The same for the last ones of episodes, an array of objects in which the others are None."""
        assert self._observer is not None
        columns = [np.broadcast_to(column, self.num_envs) for column in self._columns()]
        changed, clocks = self._is_other_regime(), self.clocks
        told = np.full(len(final), None, dtype=object)
        for row in range(len(final)):
            if final[row] is not None:
                values = [column[row] for column in columns]
                told[row] = self._observer.add(final[row], values, clocks[row], changed[row])
        return told

    def _is_other_regime(self) -> Mask:
        """Where the regime is another than the one in the last info."""
        other: Mask = np.not_equal(self._regimes, self.regime)
        return other

    def _with_regime(self, infos: dict[str, Any]) -> dict[str, Any]:
        regime = self.regime
        if isinstance(regime, np.ndarray):
            self._regimes = _read_only(regime)
        elif regime != self._regime_told:
            self._regimes = _read_only(np.full(self.num_envs, regime, dtype=np.int64))
            self._regime_told = regime
        infos[REGIME] = self._regimes
        infos[_REGIME_MASK] = self._everywhere
        return infos


def make_vec(
    id: str | EnvSpec,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    curriculum: Curriculum | None = None,
    sharing: Sharing = "shared",
    observe: str | Sequence[str] | None = None,
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
    vectorization_mode: str | None = None,
    vector_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Wrapper[Any, Any, Any, Any]]] = (),
    **kwargs: Any,
) -> NonStationaryVector:
    """Make a vector environment that changes, as ``gymnasium.make_vec`` makes one that does not.

    Args:
        id: The environment's id or specification; that of a ready-made world, such as
            ``"rl_rms/DriftingCartPole-v0"``, is its environment with its changes and its curriculum.
        num_envs: Number of sub-environments.
        changes: See `NonStationaryVector`; go before those of a ready-made world, target by target.
        curriculum: See `NonStationaryVector`.
        sharing: See `NonStationaryVector`.
        observe: See `NonStationaryVector`.
        seed: See `NonStationaryVector`.
        shard: See `NonStationaryVector`.
        vectorization_mode: ``"vector_entry_point"``, ``"sync"`` or ``"async"``; None takes the environment's own
            vector form where it has one and neither ``vector_kwargs`` nor ``wrappers`` ask for another, else Sync.
        vector_kwargs: Arguments of SyncVectorEnv or AsyncVectorEnv, such as ``{"autoreset_mode": "SameStep"}``.
        wrappers: Put around each sub-environment; they see it changing.
        **kwargs: Arguments of the environment.

    Returns:
        The environment, with a clock and a regime even where nothing changes.

    Raises:
        ValueError: See `NonStationaryVector`.
    """
    num_envs = check_int("num_envs", num_envs, least=1)
    if isinstance(id, str) and id.rpartition(":")[2].startswith("rl_rms/"):
        from rl_rms.envs.tasks import find_task  # which registers them, and stands on this module's wrappers

        config = find_task(id)
        if config is not None:
            id, changes, kwargs = config.id, {**config.schedules(), **(changes or {})}, {**config.kwargs, **kwargs}
            curriculum = config.make_curriculum() if curriculum is None else curriculum
    if vectorization_mode is None and (vector_kwargs or wrappers):
        vectorization_mode = "sync"
    if vectorization_mode in ("sync", "async"):
        targets = join_targets(as_schedules(changes), curriculum)
        make = partial(_in_a_worker, parent=os.getpid()) if vectorization_mode == "async" else Parametrized
        wrappers = (partial(make, targets=targets), *wrappers)
    if vectorization_mode == "async":
        # Here, since what a worker writes into shared memory can no longer be told from a right observation.
        wrappers = (*wrappers, Checked)
    env = gym.make_vec(
        id,
        num_envs,
        vectorization_mode=vectorization_mode,
        vector_kwargs=dict(vector_kwargs or {}),
        wrappers=wrappers,
        **kwargs,
    )
    base = env.unwrapped
    if isinstance(base, SyncVectorEnv) and not isinstance(getattr(base, "env_fns", None), Sequence):
        # Before Gymnasium 1.4 an iterator that is at its end, from which none can be made anew.
        base.env_fns = [partial(_make_one, id, wrappers, kwargs)] * num_envs
    return NonStationaryVector(
        env, changes, curriculum=curriculum, sharing=sharing, observe=observe, seed=seed, shard=shard
    )


def _make_one(
    id: str | EnvSpec, wrappers: Sequence[Callable[[Any], gym.Env[Any, Any]]], kwargs: Mapping[str, Any]
) -> gym.Env[Any, Any]:
    """A sub-environment as ``gymnasium.make_vec`` makes it."""
    env = gym.make(id, **kwargs)
    for wrapper in wrappers:
        env = wrapper(env)
    return env


def _in_a_worker(env: gym.Env[Any, Any], targets: tuple[str, ...], parent: int) -> Parametrized:
    """One that leaves Ctrl-C, which a terminal sends to workers too, to the process that they step for."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Parametrized(env, targets)


def make_from_config(config: EnvConfig, seed: int, shard: tuple[int, int] = (0, 1)) -> NonStationaryVector:
    """Make the vector environment of a configuration, or an equal part of it.

    Args:
        config: The configuration.
        seed: Seed of the drift where the configuration leaves it open; the first reset seeds the rest.
        shard: See `NonStationaryVector`; of how many, ``num_envs`` is divided by.

    Raises:
        ValueError: See `NonStationaryVector`. If the sub-environments cannot be divided, or ``kwargs`` has a key
            that is an argument of `make_vec`.
    """
    if config.num_envs % shard[1]:
        raise ValueError(
            f"num_envs must be a multiple of the {shard[1]} workers that share it, got {config.num_envs}"
        )
    taken = [name for name in config.kwargs if name in arguments(make_vec)]
    if taken:
        raise ValueError(
            f"env.kwargs cannot have the key {taken[0]!r}, which is not passed to the environment, got "
            f"{config.kwargs!r}; leave it out, or set the key of the same purpose under env"
        )
    autoreset = {} if config.autoreset_mode is None else {"autoreset_mode": config.autoreset_mode}
    mode = config.vectorization_mode
    if config.frame_stack is not None and mode is None:
        mode = "sync"
    curriculum = config.make_curriculum()
    if isinstance(curriculum, Teacher):
        _ = curriculum.function  # A wrong path is refused here, not in the first episode.
    return make_vec(
        config.id if config.frame_stack is None else stacked(config.id, config.frame_stack),
        config.num_envs // shard[1],
        config.schedules(),
        curriculum=curriculum,
        sharing=config.sharing,
        observe=config.observe,
        shard=shard,
        seed=seed if config.drift_seed is None else config.drift_seed,
        vectorization_mode=mode,
        vector_kwargs=autoreset,
        **config.kwargs,
    )


def stacked(id: str, num_frames: int) -> EnvSpec:
    """Return the specification of an environment that stacks its last observations."""
    spec = copy.deepcopy(find_spec(id))
    wrapper = WrapperSpec(
        "FrameStackObservation", "gymnasium.wrappers:FrameStackObservation", {"stack_size": num_frames}
    )
    spec.additional_wrappers = (*spec.additional_wrappers, wrapper)
    return spec


def find_spec(id: str) -> EnvSpec:
    """Return the specification that ``gymnasium.make`` finds for an id.

    Args:
        id: ``"Name-v0"``, ``"Name"`` for the highest version, or ``"module:Name-v0"``, which imports the module.

    Raises:
        gymnasium.error.Error: If no such environment is registered.
        ModuleNotFoundError: If there is no such module.
    """
    module, _, name = id.rpartition(":")
    if module:
        importlib.import_module(module)
    namespace, base, version = parse_env_id(name)
    if version is None and name not in gym.registry:
        name = get_env_id(namespace, base, find_highest_version(namespace, base))
    return gym.spec(name)


def _autoreset_mode(env: VectorEnv) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(
            f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; the clock "
            "counts true transitions and must know which frames are none"
        )
    return mode


def _check_curriculum(env: VectorEnv, late: Sequence[str]) -> None:
    """Refuse tasks that would be set too late, where episodes begin within the step that ends the last one.

    Raises:
        ValueError: If they would.
    """
    if isinstance(env.unwrapped, AsyncVectorEnv):
        reason = "the workers of an AsyncVectorEnv begin episodes on their own"
        mend = 'autoreset_mode="NextStep", or vectorization_mode="sync"'
    elif late:
        reason, mend = f"{late[0]!r} would take effect an episode too late", 'autoreset_mode="NextStep"'
    else:
        return
    raise ValueError(
        f"a curriculum sets each task before the episode begins, but in SAME_STEP mode {reason}; use {mend}"
    )


def _successes(infos: Mapping[str, Any], done: Mask) -> list[bool | None]:
    """What the sub-environments say of episodes that end; with SAME_STEP autoreset it stands in ``final_info``."""
    infos = infos.get("final_info", infos)
    for key in ("is_success", "success"):
        if key in infos and isinstance(infos[key], np.ndarray):
            told = infos.get(f"_{key}", done)
            return [bool(one) if says else None for one, says in zip(infos[key], told, strict=True)]
    return [None] * len(done)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # It is handed out in infos.
    array.flags.writeable = False
    return array


def _first_of(seed: int | Sequence[int | None]) -> int | None:
    return seed if isinstance(seed, int) else next((one for one in seed if one is not None), None)
