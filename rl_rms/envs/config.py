"""The configuration of an environment: the ``env`` keys of a run's YAML file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rl_rms.envs.checks import check_int, check_keys, check_one_of
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.episodes import success_keys
from rl_rms.envs.schedules import Schedule, as_schedules

VectorizationMode = Literal["native", "vector_entry_point", "sync", "async"]
Autoreset = Literal["NextStep", "SameStep", "Disabled"]
Observe = Literal["params", "time", "change"]
Sharing = Literal["shared", "phase", "independent"]
OnEnvError = Literal["raise", "restart"]
_NATIVE = ("native", "vector_entry_point")


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """A vector environment and its changes.

    Args:
        id: Gymnasium's id of the environment.
        num_envs: Number of sub-environments, >= 1.
        vectorization_mode: ``native`` (all sub-environments at once; also ``vector_entry_point``, Gymnasium's
            name), ``sync`` (one after the other) or ``async`` (one process each); null uses ``native`` if there is
            such an environment and neither wrappers nor autoreset_mode are set, else ``sync``. With fewer than 8
            sub-environments, null ignores the native environments that rl_rms adds to Gymnasium's environments.
        autoreset_mode: Time at which a finished sub-environment starts its next episode: ``NextStep``,
            ``SameStep`` or ``Disabled``; null means ``NextStep``. Some native vector environments, such as
            CartPole's, have only ``NextStep``.
        changes: Targets and their schedules over the clock of env steps, such as ``gravity: {sinusoid: {mean: 9.8,
            amplitude: 4.0, period: 20000}}``. A target is a parameter of the environment or of a wrapper, or a
            transform of rewards, observations or actions, such as ``reward.scale``, ``observation.noise`` or
            ``action.delay``.
            ``rl-rms inspect ENV`` lists the targets. Schedules are ``constant``, ``step``, ``piecewise_constant``,
            ``linear``, ``cosine``, ``exponential``, ``sigmoid``, ``sinusoid``, ``square``, ``sawtooth``,
            ``redraw``, ``poisson_jumps``, ``markov``, ``burst``, ``adversarial_burst``, ``ornstein_uhlenbeck``,
            ``random_walk`` and ``trace``; a number means ``constant``. ``sum`` and ``product`` combine a list of
            schedules and numbers; ``clip``, ``reflect``, ``delay``, ``ahead``, ``during`` and ``then`` modify
            schedules, such as ``{clip: {schedule: {random_walk: {start: 9.8, std: 0.01}}, low: 5.0, high:
            15.0}}``. ``rl-rms plot-schedule`` plots any schedule.
        curriculum: Rule that sets the values of its targets at the beginning of each episode, such as
            ``{staged: {stages: [{length: 1.0}, {length: 0.5}], threshold: 400, window: 20}}``; null for none.
            Curricula are ``linear_ramp``, ``staged``, ``success_gated``, ``expanding_box``,
            ``domain_randomization``, ``learning_progress``, ``learnability``, ``prioritized_level_replay``,
            ``alp_gmm`` and ``teacher``.
        sharing: ``shared``: one clock counts the env steps of all sub-environments, and all see the same changes.
            ``phase``: one clock, but each sub-environment is at a different phase of the schedules.
            ``independent``: each sub-environment has its own clock and its own random numbers.
        observe: Additions to the observations: a list of one or more of ``params`` (the targets' values), ``time``
            (the clock) and ``change`` (whether the regime has changed); null for none.
        drift_seed: Seed of the changes' random numbers, >= 0; null uses the run's seed.
        success_key: Entry of ``info`` with the success of an episode, for the curriculum, the log and evaluations;
            null uses ``is_success`` or ``success``.
        wrappers: Wrappers around each sub-environment, the innermost first: names of Gymnasium's wrappers and
            import paths ``module:Class`` of others, with arguments ``{name: {argument: value}}``, such as
            ``[NormalizeReward, {FrameStackObservation: {stack_size: 4}}]``. The changes are applied inside the
            wrappers, or at the position of the entry ``drift``. ``native`` does not support wrappers.
        kwargs: Further arguments of the environment, such as ``{render_mode: rgb_array}``.
    """

    id: str = "CartPole-v1"
    num_envs: int = 8
    vectorization_mode: VectorizationMode | None = None
    autoreset_mode: Autoreset | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    curriculum: dict[str, Any] | None = None
    sharing: Sharing = "shared"
    observe: list[str] | None = None
    drift_seed: int | None = None
    success_key: str | None = None
    wrappers: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_int("env.num_envs", self.num_envs, least=1)
        check_keys("env.changes", self.changes)
        check_keys("env.kwargs", self.kwargs)
        check_one_of("env.vectorization_mode", self.vectorization_mode, (*get_args(VectorizationMode), None))
        check_one_of("env.autoreset_mode", self.autoreset_mode, (*get_args(Autoreset), None))
        check_one_of("env.sharing", self.sharing, get_args(Sharing))
        success_keys(self.success_key)
        if self.wrappers != []:
            # `rl_rms.envs.wrappers` imports Gymnasium, which a configuration without wrappers does not need.
            from rl_rms.envs.wrappers import check_config

            check_config("env.wrappers", self.wrappers)
            if self.vectorization_mode in _NATIVE:
                raise ValueError(
                    f"env.wrappers {self.wrappers!r} do not work with env.vectorization_mode "
                    f"{self.vectorization_mode}, which has no separate sub-environments; set "
                    "env.vectorization_mode to sync or async, or leave it out"
                )
        if self.drift_seed is not None:
            check_int("env.drift_seed", self.drift_seed, least=0)
        schedules = self.schedules()
        curriculum = self.make_curriculum()
        if self.observe is not None:
            check_observe(self.observe, "env.observe")
        if curriculum is None:
            return
        if (self.vectorization_mode, self.autoreset_mode) == ("async", "SameStep"):
            raise ValueError(
                "env.curriculum does not work with env.vectorization_mode async and env.autoreset_mode SameStep, "
                "because the workers begin episodes on their own; set env.autoreset_mode to NextStep"
            )
        for target in curriculum.targets:
            if target in schedules:
                raise ValueError(
                    f"{target!r} is set by both env.changes and env.curriculum; remove it from one of them"
                )

    def schedules(self) -> dict[str, Schedule]:
        """Return the schedules of ``changes``.

        Raises:
            ValueError: If a schedule is invalid; the message names the target.
        """
        return as_schedules(self.changes, "env.changes")

    def make_curriculum(self) -> Curriculum | None:
        """Make a new curriculum; None if the configuration has none.

        Raises:
            ValueError: If the curriculum's configuration is invalid.
        """
        if self.curriculum is None:
            return None
        try:
            return Curriculum.from_config(self.curriculum)
        except ValueError as error:
            raise ValueError(f"env.curriculum: {error}") from error


def check_observe(observe: str | Sequence[str], name: str = "observe") -> tuple[str, ...]:
    """Check an argument ``observe``, and return its entries.

    Raises:
        ValueError: If there is no entry, or an entry is unknown or repeated.
    """
    words = (observe,) if isinstance(observe, str) else tuple(observe)
    known = get_args(Observe)
    if not words or len(set(words)) < len(words) or not set(words) <= set(known):
        raise ValueError(f"{name} must be one or more of {', '.join(known)}, each at most once, got {observe!r}")
    return words
