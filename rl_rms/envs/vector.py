"""The wrapper that changes a vector environment by schedules and a curriculum, on a clock of env steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rl_rms.envs.backend import Transitions
from rl_rms.envs.backends import make_backend
from rl_rms.envs.changing import Changing, check_inner, join_targets, take_clock
from rl_rms.envs.checks import check_int, check_one_of
from rl_rms.envs.clocks import Clock, Column, Mask, SharedClock
from rl_rms.envs.config import Sharing
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.drift import timescale
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.episodes import success_keys, successes_in
from rl_rms.envs.faults import broken_in
from rl_rms.envs.feedback import Feedback, check_curriculum
from rl_rms.envs.independent_clocks import IndependentClocks
from rl_rms.envs.keys import REGIME
from rl_rms.envs.layers import WrapperStates
from rl_rms.envs.observers import Observer
from rl_rms.envs.phase_clocks import PhaseClocks
from rl_rms.envs.schedules import Ints, Schedule, as_schedules
from rl_rms.envs.seeds import first_seed
from rl_rms.envs.targets import moved_space

_REGIME_MASK = f"_{REGIME}"
_CLOCKS: dict[str, Callable[..., Clock]] = {
    "shared": SharedClock,
    "phase": PhaseClocks,
    "independent": IndependentClocks,
}


class NonStationaryVector(Changing, VectorWrapper):
    """A vector environment whose parameters change while an agent acts in it.

    The clock counts true transitions. A sub-environment that is only reset in a vector step makes no transition.
    As in `NonStationary`, ``reset()`` keeps the clock, ``reset(seed=s)`` sets the clock to 0, and
    ``reset(options={"rl_rms.clock": k})`` sets the clock to ``k``. A seed with a ``reset_mask`` does not
    change the clock. All observations of a vector step, including the first observations of new episodes, use the
    values at the beginning of the step. There is one exception: if a change of a target ends episodes, as a change
    of `TaskSwitch`'s task does, an episode that begins in the same step begins with the new values.

    Args:
        env: The vector environment: native, a SyncVectorEnv, or an AsyncVectorEnv made by `make_vec`.
        changes: Targets and their schedules, as in `NonStationary`.
        curriculum: Rule that sets the values of its targets at the beginning of each episode. Episodes that end in
            the same vector step are recorded in the order of their sub-environments. With SAME_STEP autoreset, the
            first observation of an episode still uses the values of the previous episode.
        sharing: ``"shared"``: one clock counts the env steps of all sub-environments, and all see the same values.
            ``"phase"``: one clock, but the sub-environments follow the schedules at evenly spaced phases.
            ``"independent"``: each sub-environment has its own clock and its own random numbers.
        observe: Additions to the observations, as in `NonStationary`.
        seed: Seed of the drift, for the random numbers of schedules and transforms, >= 0. None uses the seed of
            ``reset(seed=s)``, and a random seed until then.
        shard: ``(rank, size)`` of the process, if the sub-environments are divided equally among ``size``
            processes. The clock counts the env steps of all processes. All processes must use the same ``seed``,
            and make the same number of env steps.
        success_key: As in `NonStationary`.

    Attributes:
        last_observations: The last observations; None before the first reset.

    Raises:
        ValueError: If an argument is invalid, if the environment does not have a target, if a change of a target
            would have no effect, if a change of a target also changes another target, if changes, the
            curriculum or a `NonStationaryVector` inside set the same target, or if the vector environment does not
            support the changes.

    Examples:
        >>> from rl_rms.envs import make_vec
        >>> from rl_rms.envs.schedules import Step
        >>> env = make_vec("CartPole-v1", 3, {"gravity": Step(before=9.8, after=1.6, at=5)}, seed=0)
        >>> _ = env.reset(seed=0)
        >>> [env.step(np.zeros(3, dtype=int))[-1]["rl_rms.regime"].tolist() for _ in range(2)]
        [[0, 0, 0], [1, 1, 1]]
        >>> env.clock, env.parameters
        (6, {'gravity': 1.6})
    """

    _STATE_KEY = "resetting"

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
        success_key: str | None = None,
    ) -> None:
        super().__init__(env)
        self.success_keys = success_keys(success_key)
        if not 0 <= shard[0] < shard[1]:
            raise ValueError(f"shard must be (rank, size) with 0 <= rank < size, got {shard!r}")
        self.shard = shard
        check_one_of("sharing", sharing, tuple(_CLOCKS))
        self._sharing: Sharing = sharing
        schedules = as_schedules(changes)
        self._targets = join_targets(schedules, curriculum)
        check_inner(env, self._targets)
        self._mode = _autoreset_mode(env)
        self._feedback = Feedback(schedules, curriculum, range(env.num_envs))
        if self._feedback.has_adversaries and sharing != "shared":
            raise ValueError(
                f"an adversarial_burst needs sharing='shared', got {sharing!r}; the burst reacts to the episodes "
                "of all sub-environments"
            )
        arrays = self._targets[len(schedules) :] if sharing == "shared" else self._targets
        self._backend = make_backend(env, self._targets, arrays)
        if self._backend.moves_observations:
            self.single_observation_space = moved_space(env.single_observation_space, self._targets)
            self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        if curriculum is not None and self._mode is AutoresetMode.SAME_STEP:
            check_curriculum(env, [target for target in curriculum.targets if target in self._backend.late])
        self._has_own_seed = seed is not None
        self._clock = _CLOCKS[sharing](schedules, first_seed(seed), env.num_envs, shard)
        self._observer: Observer | None = None
        if observe is not None:
            space, scale = self.single_observation_space, timescale(schedules)
            self._observer = Observer(observe, space, len(self._targets), scale)
            self.single_observation_space = self._observer.space
            self.observation_space = batch_space(self._observer.space, env.num_envs)
        self.last_observations: Any = None
        # Before the first episodes, the targets of the curriculum have the environment's own values.
        current = np.array(self._backend.current()[len(schedules) :], dtype=np.float64)
        self._feedback.tasks = np.repeat(current[:, None], env.num_envs, axis=1)
        # `seed` and `drifts` of the last `NoiseKey` that the backend got. An unchanged key is not sent again.
        self._placed: tuple[Any, ...] = ()
        self._resetting = np.zeros(env.num_envs, dtype=np.bool_)
        # A mask that is True for all sub-environments, for steps and for the entries of info.
        self._everywhere = _read_only(np.ones(env.num_envs, dtype=np.bool_))
        # Whether a step needs the mask of true transitions, not only their number.
        self._needs_mask = sharing == "independent" or self._feedback.is_needed or self._backend.needs_valid
        self._regimes, self._shown_regime = _read_only(np.zeros(env.num_envs, dtype=np.int64)), 0
        self._set()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: Seed of the environment. Except in the context of `frozen` and with a ``reset_mask``, a seed also
                sets the clock to 0, resets the curriculum and removes the bursts of adversarial schedules. If the
                constructor got no seed, the seed also becomes the seed of the drift. From a list, the drift uses
                the first seed that is not None.
            options: ``"rl_rms.clock"`` sets the clock, in env steps of all sub-environments together. Other
                options go to the environment. ``"reset_mask"`` selects the sub-environments to reset.
        """
        if isinstance(seed, Iterable):
            seed = [None if one is None else check_int("seed", one, least=0) for one in seed]
        elif seed is not None:
            seed = check_int("seed", seed, least=0)
        clock, options = take_clock(options)
        mask = None if options is None else options.get("reset_mask")
        if seed is not None and mask is None and not self._clock.is_frozen:
            self._restart(_first_of(seed))
            self._regimes, self._shown_regime = _read_only(np.zeros_like(self._regimes)), 0
        if clock is not None:
            self._clock.set(clock)
        beginning = np.ones_like(self._resetting) if mask is None else np.asarray(mask)
        self._begin(beginning)
        self._set()
        observations, infos = self._backend.reset(seed, options)
        self._resetting &= ~beginning
        return self._observed(observations), self._with_regime(infos)

    def step(self, actions: Any) -> Transitions:
        """Make a vector step, then count its true transitions unless the clock is frozen."""
        begins = int(np.count_nonzero(self._resetting))
        if begins and self._feedback.is_needed:
            self._begin(self._resetting)
            self._set()
        valid = ~self._resetting if begins and self._needs_mask else self._everywhere
        if self._backend.episodic:
            self._announce(valid)
        observations, rewards, terminated, truncated, infos = self._backend.step(actions, valid)
        broken = broken_in(infos, truncated)
        if broken is not None:
            valid = ~(self._resetting | broken)
            begins = len(valid) - int(np.count_nonzero(valid))
        if self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = terminated | truncated
        self._clock.advance(valid, len(valid) - begins)
        if self._feedback.is_needed:
            self._record(rewards, valid, np.logical_or(terminated, truncated), infos)
        if self._observer is not None and "final_obs" in infos:
            infos["final_obs"] = self._observed_final(infos["final_obs"])
        self._set()
        observations = self._observed(observations)
        return observations, rewards, terminated, truncated, self._with_regime(infos)

    @property
    def clocks(self) -> Ints:
        """The clock reading of each sub-environment in env steps, shape ``(num_envs,)``."""
        return self._clock.readings

    @property
    def parameters(self) -> dict[str, Column]:
        """The current value of each target: a scalar, or shape ``(num_envs,)``."""
        return dict(zip(self._targets, self._values(), strict=True))

    @property
    def sharing(self) -> Sharing:
        """How the sub-environments share the changes, as given to the constructor."""
        return self._sharing

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        return self._backend.lost_wrappers

    @property
    def wrapper_states(self) -> WrapperStates:
        """The states of the wrappers inside and around each `Parametrized`, as plain JSON data."""
        return self._backend.wrapper_states

    @wrapper_states.setter
    def wrapper_states(self, states: WrapperStates) -> None:
        own = len(self._backend.wrapper_states)
        if states and own:
            # The number of sub-environments may differ from the saved number.
            self._backend.wrapper_states = [states[i % len(states)] for i in range(own)]

    def state_dict(self, *, environment: bool = True) -> dict[str, Any]:
        """Return the state of the changes and of the sub-environments within their episodes, as plain JSON data.

        Args:
            environment: Whether to include the sub-environments and their episodes.
        """
        snapshot = self._backend.snapshot() if environment else None
        return {
            **self._changes_state(),
            "sharing": self._sharing,
            "regimes_shown": self._regimes.tolist(),
            "tasks": self._feedback.tasks.tolist(),
            "resetting": self._resetting.tolist(),
            # Without an observer, the environment's state contains the last observations.
            "observations": None if self._observer is None else encode(self.last_observations),
            "environment": snapshot,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        If the state includes the sub-environments, ``last_observations`` is also restored. Otherwise the
        sub-environments continue their current episodes, and their number may differ. Curricula and
        `AdversarialBurst` then count the returns and lengths of these episodes from 0.

        Raises:
            ValueError: If the state belongs to an environment that was made with different arguments.
        """
        self._check_state(state)
        saved = (state["sharing"], len(state["resetting"]))
        is_same_number = saved[1] == self.num_envs
        if saved[0] != self._sharing or not (is_same_number or state["environment"] is None):
            raise ValueError(
                f"the state was saved with sharing={saved[0]!r} and num_envs={saved[1]}, but this environment has "
                f"sharing={self._sharing!r} and num_envs={self.num_envs}; make it with the values of the state"
            )
        self._load_changes_state(state)
        if is_same_number:
            tasks = np.array(state["tasks"], dtype=np.float64)
            self._feedback.tasks = tasks.reshape(self._feedback.tasks.shape)
        else:
            self._begin(np.ones_like(self._resetting))
        if state["environment"] is not None:
            self._regimes = _read_only(np.array(state["regimes_shown"], dtype=np.int64))
            self._shown_regime = int(self._regimes[0])
            self._resetting = np.array(state["resetting"], dtype=np.bool_)
            self._backend.restore(state["environment"], self._resetting)
            self.last_observations = (
                self._backend.last if self._observer is None else decode(state["observations"])
            )
        self._placed = ()
        self._set()

    def _begin(self, beginning: Mask) -> None:
        """Unless the clock is frozen, begin to count the episodes, and get their tasks from the curriculum."""
        if self._feedback.is_needed and not self._clock.is_frozen:
            self._feedback.begin(np.flatnonzero(beginning).tolist())

    def _record(self, rewards: Any, valid: Mask, done: Mask, infos: Mapping[str, Any]) -> None:
        """Report the transitions to curriculum and adversaries; in SAME_STEP mode the next episodes begin."""
        if not self._clock.is_frozen:
            successes = successes_in(infos, done, self.success_keys)
            reports = np.asarray(rewards).tolist(), valid.tolist(), done.tolist(), successes
            if self._feedback.record(self._clock.reading, *reports):
                self._replace_schedules()
        if self._mode is AutoresetMode.SAME_STEP:
            self._begin(done)

    def _announce(self, valid: Mask) -> None:
        """Let the next step truncate the episodes of sub-environments in which an episodic target changes.

        Episodes that begin in the next step begin with the new values instead.
        """
        now, then = self._values(), (*self._clock.values_after(valid), *self._feedback.tasks)
        changes = np.zeros_like(valid)
        for index in self._backend.episodic:
            changes |= np.not_equal(now[index], then[index])
        ending, beginning = changes & valid, changes & ~valid
        if beginning.any():
            self._backend.set(tuple(np.where(beginning, *both) for both in zip(then, now, strict=True)))
        if ending.any():
            self._backend.announce(then, ending)

    def _values(self) -> tuple[Column, ...]:
        values = self._clock.values
        return values if self._feedback.curriculum is None else (*values, *self._feedback.tasks)

    def _set(self) -> None:
        if self._backend.is_drawn:
            noise_key = self._clock.noise_key
            # Sending the key to workers takes time. Without noise, only its seed and its drift indices matter.
            if self._backend.has_noise or noise_key[:2] != self._placed:
                self._placed = noise_key[:2]
                self._backend.place(noise_key)
        self._backend.set(self._values())

    def _observed(self, observations: Any) -> Any:
        """Return the observations with the observer's additions."""
        if self._observer is not None:
            changed = np.not_equal(self._regimes, self.regime)
            observations = self._observer.add(observations, self._values(), self.clocks, changed)
        self.last_observations = observations
        return observations

    def _observed_final(self, final: Any) -> Any:
        """Return the last observations of ended episodes with the observer's additions; None for other rows."""
        assert self._observer is not None
        values = [np.broadcast_to(one, self.num_envs) for one in self._values()]
        changed, clocks = np.not_equal(self._regimes, self.regime), self.clocks
        observed = np.full(len(final), None, dtype=object)
        for row in range(len(final)):
            if final[row] is not None:
                row_values = [one[row] for one in values]
                observed[row] = self._observer.add(final[row], row_values, clocks[row], changed[row])
        return observed

    def _with_regime(self, infos: dict[str, Any]) -> dict[str, Any]:
        regime = self.regime
        if isinstance(regime, np.ndarray):
            self._regimes = _read_only(regime)
        elif regime != self._shown_regime:
            self._regimes = _read_only(np.full(self.num_envs, regime, dtype=np.int64))
            self._shown_regime = regime
        infos[REGIME] = self._regimes
        infos[_REGIME_MASK] = self._everywhere
        return infos


def _autoreset_mode(env: VectorEnv) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(
            f"env.metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, got {mode!r}; set it, "
            "because the clock does not count steps that only reset a sub-environment"
        )
    return mode


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # The infos contain this array, so a later step must not change it.
    array.flags.writeable = False
    return array


def _first_of(seed: int | Sequence[int | None]) -> int | None:
    return seed if isinstance(seed, int) else next((one for one in seed if one is not None), None)
