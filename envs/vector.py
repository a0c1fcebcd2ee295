"""Vector environments that drift, jump and follow a curriculum: the wrapper, and what makes them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rl_rms.envs.backends import Transitions, make_backend
from rl_rms.envs.checks import check_whole
from rl_rms.envs.clocks import Column, IndependentClocks, Mask, SharedClock
from rl_rms.envs.config import EnvConfig
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.episodes import Episodes
from rl_rms.envs.nonstationary import first_seed, join_targets, load_curriculum, take_clock
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.schedules import Ints, Schedule, as_schedules
from rl_rms.envs.transforms import unbounded

Sharing = Literal["shared", "independent"]
_CLOCKS = {"shared": SharedClock, "independent": IndependentClocks}


class NonStationaryVector(VectorWrapper):
    """A vector environment that changes while it is lived in.

    The clock counts true transitions; the frames in which a sub-environment is only reset do not count. All that
    `NonStationary` says of the clock holds here too: ``reset()`` does not rewind it, ``reset(seed=s)`` does,
    ``reset(options={"clock": k})`` sets it; a reset with a ``reset_mask`` never rewinds. All frames of a vector
    step, the first ones of new episodes too, are made under the values that held when it began.

    Args:
        env: The vector environment: native, Sync, or an Async that `make_vec` made.
        changes: Targets and their schedules, as in `NonStationary`.
        curriculum: Sets its own targets, at the beginning of each episode. Episodes that end in the same vector
            step are recorded in order of their sub-environments. Where an environment resets within the step that
            ends an episode (SAME_STEP), the next one's first observation is still made under the last one's task.
        sharing: ``"shared"``: one clock counts the env steps of all sub-environments, and all see the same values.
            ``"independent"``: each has its own clock and its own chance.
        seed: Seed of the drift, >= 0. None: that of ``reset(seed=s)``; until there is one, a random one.

    Raises:
        ValueError: If the environment has no such target, changing it would have no effect, both changes and
            curriculum set it, or the sub-environments cannot be reached.

    Example:
        >>> from rl_rms.envs.schedules import Step
        >>> env = make_vec("CartPole-v1", 3, {"gravity": Step(before=9.8, after=1.6, at=5)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.zeros(3, dtype=int))[-1]["regime"].tolist() for _ in range(2)], env.clock, env.parameters
        ([[0, 0, 0], [1, 1, 1]], 6, {'gravity': 1.6})
    """

    def __init__(
        self,
        env: VectorEnv,
        changes: Mapping[str, Schedule | float] | None = None,
        *,
        curriculum: Curriculum | None = None,
        sharing: Sharing = "shared",
        seed: int | None = None,
    ) -> None:
        super().__init__(env)
        if sharing not in _CLOCKS:
            raise ValueError(f"sharing must be one of {', '.join(_CLOCKS)}, got {sharing!r}")
        self._schedules = schedules = as_schedules(changes)
        self._targets = join_targets(schedules, curriculum)
        self._mode = _autoreset_mode(env)
        if curriculum is not None and isinstance(env.unwrapped, AsyncVectorEnv):
            raise ValueError(
                "a curriculum sets each task before the episode begins, but the workers of an AsyncVectorEnv "
                'begin episodes on their own; use vectorization_mode="sync"'
            )
        arrays = self._targets if sharing == "independent" else self._targets[len(schedules) :]
        self._backend = make_backend(env, self._targets, arrays)
        if self._backend.moves_observations:
            self.single_observation_space = unbounded(env.single_observation_space)
            self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._keyed = seed is not None
        self._clocks = _CLOCKS[sharing](schedules, first_seed(seed), env.num_envs)
        self._curriculum = curriculum
        self._episodes = None if curriculum is None else Episodes(curriculum, env.num_envs)
        # Before the first episodes a curriculum has set nothing. One row for each of its targets.
        current = self._backend.current()[len(schedules) :]
        self._world: tuple[Any, ...] = ()
        self._tasks = np.repeat(np.array(current)[:, None], env.num_envs, axis=1)
        self._resetting = np.zeros(env.num_envs, dtype=np.bool_)
        # Gymnasium's mask of the sub-environments that an entry of info is of; read-only, since it is handed out.
        self._everywhere = np.ones(env.num_envs, dtype=np.bool_)
        self._everywhere.flags.writeable = False
        self._set()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: Seeds the environment, rewinds the clock to 0, and seeds the drift unless the constructor did;
                of a list, the first seed in it does.
            options: ``"clock"`` sets the clock, in env steps of all sub-environments together; the others are the
                environment's, such as ``"reset_mask"``, which says where episodes are to begin.
        """
        clock, options = take_clock(options)
        mask = None if options is None else options.get("reset_mask")
        if seed is not None and mask is None:
            self._clocks.set(clock=0, seed=None if self._keyed else _first_of(seed))
        if clock is not None:
            self._clocks.set(clock)
        beginning = np.ones_like(self._resetting) if mask is None else np.asarray(mask)
        self._begin(beginning)
        self._set()
        observations, infos = self._backend.reset(seed, options)
        self._resetting &= ~beginning
        return observations, self._with_regime(infos)

    def step(self, actions: Any) -> Transitions:
        """Make a vector step, then let the clock go on by its true transitions."""
        resetting = self._resetting
        if self._episodes is not None and resetting.any():
            self._begin(resetting)
            self._set()
        valid = ~resetting
        transitions = self._backend.step(actions, valid)
        observations, rewards, terminated, truncated, infos = transitions
        done = np.logical_or(terminated, truncated)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = done
        self._clocks.advance(valid)
        if self._episodes is not None:
            self._episodes.add(np.asarray(rewards).tolist(), valid.tolist(), done.tolist())
            if self._mode is AutoresetMode.SAME_STEP:
                self._begin(done)
        self._set()
        return observations, rewards, terminated, truncated, self._with_regime(infos)

    @property
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together; it can be set."""
        return self._clocks.clock

    @clock.setter
    def clock(self, clock: int) -> None:
        self._clocks.set(check_whole("clock", clock, least=0, unit="env steps"))
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
        changes = 0 if self._curriculum is None else self._curriculum.stage_changes
        return self._clocks.regime + changes

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of each target that has one."""
        return dict(self._schedules)

    @property
    def timescale(self) -> float:
        """The shortest timescale of any schedule, in env steps of all together; ``inf`` where nothing changes."""
        return self._clocks.timescale

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum, if there is one."""
        return self._curriculum

    def state_dict(self) -> dict[str, Any]:
        """Clocks, seed and curriculum as plain JSON data; not the state of the environment inside."""
        curriculum = None if self._curriculum is None else self._curriculum.state_dict()
        return {**self._clocks.state_dict(), "curriculum": curriculum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`.

        The sub-environments stay in the episodes in which they are; a curriculum takes them for ones that begin.

        Raises:
            ValueError: If the state was saved with another sharing, or with and without a curriculum.
        """
        load_curriculum(self._curriculum, state)
        self._clocks.load_state_dict(state)
        self._begin(np.ones_like(self._resetting))
        self._set()

    def _begin(self, beginning: Mask) -> None:
        """Ask for the tasks of the episodes that begin."""
        if self._episodes is not None:
            # A new array: the old one may be in use inside the environment.
            self._tasks = self._tasks.copy()
            for i in np.flatnonzero(beginning).tolist():
                self._tasks[:, i] = self._episodes.begin(i)

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

    def _with_regime(self, infos: dict[str, Any]) -> dict[str, Any]:
        infos["regime"] = np.full(self.num_envs, self.regime, dtype=np.int64)
        infos["_regime"] = self._everywhere
        return infos


def make_vec(
    id: str | EnvSpec,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    curriculum: Curriculum | None = None,
    sharing: Sharing = "shared",
    seed: int | None = None,
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
        seed: See `NonStationaryVector`.
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
    if isinstance(id, str) and id.startswith("rl_rms/"):
        from rl_rms.envs.tasks import find_task  # which registers them, and stands on this module's wrappers

        config = find_task(id)
        if config is not None:
            id, changes, kwargs = config.id, {**config.schedules(), **(changes or {})}, {**config.kwargs, **kwargs}
            curriculum = config.make_curriculum() if curriculum is None else curriculum
    if vectorization_mode is None and (vector_kwargs or wrappers):
        vectorization_mode = "sync"
    if vectorization_mode in ("sync", "async"):
        targets = join_targets(as_schedules(changes), curriculum)
        wrappers = (partial(Parametrized, targets=targets), *wrappers)
    env = gym.make_vec(
        id,
        num_envs,
        vectorization_mode=vectorization_mode,
        vector_kwargs=dict(vector_kwargs or {}),
        wrappers=wrappers,
        **kwargs,
    )
    return NonStationaryVector(env, changes, curriculum=curriculum, sharing=sharing, seed=seed)


def make_from_config(config: EnvConfig, seed: int) -> NonStationaryVector:
    """Make the vector environment of a configuration.

    Args:
        config: The configuration.
        seed: Seed of the drift where the configuration leaves it open; the first reset seeds the rest.

    Raises:
        ValueError: See `NonStationaryVector`.
    """
    autoreset = {} if config.autoreset_mode is None else {"autoreset_mode": config.autoreset_mode}
    return make_vec(
        config.id,
        config.num_envs,
        config.schedules(),
        curriculum=config.make_curriculum(),
        sharing=config.sharing,
        seed=seed if config.drift_seed is None else config.drift_seed,
        vectorization_mode=config.vectorization_mode,
        vector_kwargs=autoreset,
        **config.kwargs,
    )


def _autoreset_mode(env: VectorEnv) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(
            f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; the clock "
            "counts true transitions and must know which frames are none"
        )
    return mode


def _first_of(seed: int | Sequence[int | None]) -> int | None:
    return seed if isinstance(seed, int) else next((one for one in seed if one is not None), None)
