"""The hyperparameters of the agents, each with its unit, range and default.

The constructors, YAML, ``--help`` and the reference are derived from these dataclasses. This module does not
import torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

from rl_rms.agents.config_parts import (
    MetaConfig,
    NormalizerConfig,
    PolicyConfig,
    check_kinds,
    normalizer_config,
    reward_half_life,
)
from rl_rms.envs.adversary import depends_on_returns
from rl_rms.envs.checks import check_int, check_keys, check_number, check_one_of
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.schedules import Constant, Schedule
from rl_rms.half_life import HalfLife, parse_half_life

# Env steps of a rollout if ``n_steps`` is None, see `RolloutConfig.rollout_length`.
_ROLLOUT_ENV_STEPS = 256
ConfigT = TypeVar("ConfigT", bound="AgentConfig")
DEFAULT_OPTIMIZER = "rl_rms.RMSprop"
# Packages whose classes an untrusted file may name. Importing these packages cannot run an attacker's code.
TRUSTED = ("rl_rms.", "torch.optim.")
OnChange = Literal["keep", "reset", "forget"]
OnNonfinite = Literal["raise", "skip"]
_NOT_IN_OPTIMIZER_KWARGS = {
    "lr": "set learning_rate instead",
    "params": "the optimizer trains the parameters of policy",
    "half_life": "set half_life instead",
}

# Names of hyperparameters in other libraries, with their names here.
SYNONYMS = {
    "lr": "learning_rate",
    "alpha": "half_life",
    "rho": "half_life",
    "discount": "gamma",
    "entropy_coef": "ent_coef",
    "value_coef": "vf_coef",
    "lam": "gae_lambda",
    "num_steps": "n_steps",
    "norm_adv": "normalize_advantage",
    "update_epochs": "n_epochs",
    "clip_coef": "clip_range",
    "clip_vloss": "clip_range_vf",
    "n_envs": "num_envs",
    "net_arch": "hidden_sizes",
    "activation_fn": "activation",
}


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Hyperparameters that every agent has.

    Args:
        algorithm: The agent's algorithm.
        learning_rate: Step size of the optimizer: a number > 0, or a schedule over the agent's env steps such as
            ``{linear: {start: 7.0e-4, end: 0.0, over: 1_000_000}}``; the help of env.changes lists the schedules.
            A resumed training continues the schedule.
        critic_learning_rate: Step size of the critic's parameters, a number or a schedule; null uses
            learning_rate. Shared parameters use learning_rate.
        gamma: Discount per env step, in [0, 1].
        ent_coef: Weight of the entropy bonus in the loss: a number >= 0, or a schedule, as for learning_rate.
        vf_coef: Weight of the value loss in the loss, >= 0.
        max_grad_norm: Global gradient norm to which larger gradients are scaled down before the optimizer's step,
            > 0; null turns clipping off.
        normalize_advantage: Whether each update's advantages are shifted to mean 0 and scaled to standard
            deviation 1.
        normalize_observation: Whether observations are shifted and scaled by their running mean and standard
            deviation and clipped to +-10. ``true`` forgets earlier values only when their mean jumps; with a
            half-life such as ``"10_000 steps"`` the statistics also forget gradually. Images and discrete
            observations are not normalized.
        normalize_reward: Whether learning divides rewards by the running standard deviation of the discounted
            return and clips the results to +-10; true (never forgets), false, or a half-life. Reported returns
            are neither divided nor clipped.
        mask_actions: Whether to choose only valid actions. The mask is ``info["action_mask"]`` or the entry
            ``action_mask`` of a Dict observation.
        log_info: Entries of ``info`` whose means since the last log entry are logged as ``info/<name>``, such as
            ``[x_velocity, reward_forward]``. The mean covers the env steps whose ``info`` has the entry.
            ``episode.r`` is the entry ``r`` of the dictionary ``episode``.
        on_env_error: Response to a sub-environment that raises an error or returns a value of a wrong shape or
            type, and to a worker that ends or hangs: ``raise`` ends the training and names the sub-environment;
            ``restart`` truncates the episode before the failed step, replaces the sub-environment, and continues.
            Only the backends ``sync`` and ``async`` can restart. If a vector environment was itself made with
            ``restart``, ``raise`` has no effect.
        env_timeout: Seconds after which a step or a reset of a worker of the backend ``async`` counts as hung,
            > 0; null for no limit.
        half_life: Half-life of RMSprop's second moment: ``69`` or ``"69 updates"``, or ``"20_000 steps"`` (env
            steps, converted with the env steps per update). ``match`` computes the half-life from the
            environment's timescale and the gradients' signal-to-noise ratio; ``auto`` computes the half-life from
            the gradients alone. With ``match`` and ``auto``, the half-life stays between 32 and 10,000 updates by
            default. null uses ``rho`` or ``alpha`` of optimizer_kwargs, by default 200 updates. Only for RMSprop.
        on_change: Response of the optimizer's state to a change of regime, such as a jump of a parameter:
            ``keep``, ``reset`` (discard the averages; RMSprop keeps a half-life that it estimates) or ``forget``
            (RMSprop's half-life is forget_half_life for forget_updates updates).
        forget_half_life: Half-life after a change with on_change ``forget``, in updates, > 0.
        forget_updates: Updates for which forget_half_life holds, >= 1.
        on_nonfinite: Response to a reward, observation or gradient that is nan or infinite: ``raise`` ends the
            training and names the value; ``skip`` excludes the transition from learning, or skips the update.
            RMSprop's own ``on_nonfinite`` gets this value unless optimizer_kwargs sets it.
        meta: Adaptation of RMSprop's hyperparameters by meta-gradient, as in ``{adapt: [learning_rate, half_life],
            window: 4}``; null for none. The adaptation starts at the configured values.
        optimizer: Import path of a ``torch.optim.Optimizer`` class.
        optimizer_kwargs: Further keyword arguments of the optimizer, without ``lr``, ``params`` and ``half_life``.
            RMSprop gets ``eps=1e-5`` and ``bias_correction=True`` unless they are set here.
        policy: The policy network.
        fused: Whether small networks of linear layers on a CPU run in numpy, see `rl_rms.agents.numpy_backend`.
            numpy is faster than autograd, and its gradients are equal up to rounding. false always uses autograd.
        device: torch device of the network; ``"auto"`` is the CPU for a network that ``fused`` runs in numpy.
            For other networks, ``"auto"`` is CUDA if it is available, else the CPU.
    """

    default_log_interval: ClassVar[int] = 100
    """Maximum number of rollouts between two log entries without a ``log_interval``, as in Stable-Baselines3."""

    algorithm: str
    learning_rate: float | dict[str, Any] = 7e-4
    critic_learning_rate: float | dict[str, Any] | None = None
    gamma: float = 0.99
    ent_coef: float | dict[str, Any] = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float | None = 0.5
    normalize_advantage: bool = False
    normalize_observation: bool | float | str | NormalizerConfig = True
    normalize_reward: bool | float | str = True
    mask_actions: bool = False
    log_info: Sequence[str] = ()
    on_env_error: OnEnvError = "raise"
    env_timeout: float | None = None
    half_life: float | str | None = None
    on_change: OnChange = "keep"
    forget_half_life: float = 10.0
    forget_updates: int = 50
    on_nonfinite: OnNonfinite = "raise"
    meta: MetaConfig | None = None
    optimizer: str = DEFAULT_OPTIMIZER
    optimizer_kwargs: dict[str, Any] = field(default_factory=dict)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    fused: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        check_kinds(self)
        self._check_schedule("learning_rate", is_above_0=True)
        if self.critic_learning_rate is not None:
            self._check_schedule("critic_learning_rate")
        self._check_schedule("ent_coef")
        self._check_normalizers()
        check_number("gamma", self.gamma, least=0.0, most=1.0)
        check_number("vf_coef", self.vf_coef, least=0.0)
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, above=0.0)
        check_keys("optimizer_kwargs", self.optimizer_kwargs)
        for name, mend in _NOT_IN_OPTIMIZER_KWARGS.items():
            if name in self.optimizer_kwargs:
                raise ValueError(
                    f"optimizer_kwargs must not have {name}, got {self.optimizer_kwargs[name]!r}; {mend}"
                )
        names = self.log_info
        is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) and name for name in names)
        if not is_list or len(set(names)) < len(names):
            raise ValueError(
                f"log_info must be a list of different entries of info, such as [x_velocity], got {names!r}"
            )
        object.__setattr__(self, "log_info", tuple(names))
        check_one_of("on_env_error", self.on_env_error, get_args(OnEnvError))
        if self.env_timeout is not None:
            check_number("env_timeout", self.env_timeout, above=0.0)
        if self.half_life is not None:
            parse_half_life(self.half_life)
        given: Any = self.half_life
        if isinstance(given, HalfLife):  # a checkpoint holds plain data
            object.__setattr__(self, "half_life", given.value if given.unit == "updates" else str(given))
        check_one_of("on_change", self.on_change, get_args(OnChange))
        check_one_of("on_nonfinite", self.on_nonfinite, get_args(OnNonfinite))
        HalfLife(check_number("forget_half_life", self.forget_half_life, above=0.0))
        check_int("forget_updates", self.forget_updates, least=1, unit="updates")
        if self.meta is not None and "half_life" in self.meta.adapt and self.on_change == "forget":
            raise ValueError(
                'on_change="forget" and meta.adapt=["half_life", ...] would both set the half-life; leave one out'
            )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data."""
        plain = asdict(self)
        for name in ("hidden_sizes", "critic_hidden_sizes"):
            if plain["policy"][name] is not None:
                plain["policy"][name] = list(plain["policy"][name])
        plain["log_info"] = list(plain["log_info"])
        if plain["meta"] is not None:
            plain["meta"]["adapt"] = list(plain["meta"]["adapt"])
        return plain

    @classmethod
    def from_dict(cls: type[ConfigT], plain: dict[str, Any], **changed: Any) -> ConfigT:
        """The configuration from the data of `to_dict`, with some hyperparameters changed."""
        meta = None if plain["meta"] is None else MetaConfig(**plain["meta"])
        return cls(**{**plain, "policy": PolicyConfig(**plain["policy"]), "meta": meta, **changed})

    def _check_normalizers(self) -> None:
        """Convert a dictionary to a `NormalizerConfig`, and check the half-lives."""
        allowed = 'true, false, or a half-life such as 69, "10_000 steps" or inf'
        observation: Any = self.normalize_observation
        try:
            if isinstance(observation, dict):
                object.__setattr__(self, "normalize_observation", NormalizerConfig(**observation))
            else:
                normalizer_config(observation)
        except (TypeError, ValueError):
            raise ValueError(
                f"normalize_observation must be {allowed}, or keys such as {{half_life: 10_000 steps, "
                f"on_jump: keep}}, got {observation!r}"
            ) from None
        try:
            reward_half_life(self.normalize_reward)
        except (TypeError, ValueError):
            raise ValueError(f"normalize_reward must be {allowed}, got {self.normalize_reward!r}") from None

    def _check_schedule(self, name: str, *, is_above_0: bool = False) -> None:
        """Check that a number or a schedule is >= 0, and store the value as plain data.

        With ``is_above_0`` a number must be > 0.
        """
        given = getattr(self, name)
        if callable(given) and not isinstance(given, Schedule):
            raise ValueError(
                f"{name} must be a number or a schedule over env steps such as "
                f"rl_rms.envs.schedules.Linear(7e-4, 0.0, over=1_000_000), got {given!r}"
            )
        if not isinstance(given, (Schedule, dict)):
            limits = {"above": 0.0} if is_above_0 else {"least": 0.0}
            object.__setattr__(self, name, check_number(name, given, **limits))
            return
        try:
            schedule = Schedule.from_config(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if schedule.random:
            raise ValueError(f"{name} must be a schedule that is not random, got {schedule!r}")
        if depends_on_returns(schedule):
            raise ValueError(
                f"{name} must be a schedule that does not depend on returns, got {schedule!r}; replay() turns its "
                "past bursts into such a schedule"
            )
        if not schedule.bounds[0] >= 0:
            raise ValueError(f"{name} must be >= 0 always, but {schedule!r} goes down to {schedule.bounds[0]:g}")
        object.__setattr__(self, name, schedule.to_config())


def as_schedule(value: float | dict[str, Any]) -> Schedule:
    """Convert a configuration's number or schedule to a schedule over env steps."""
    return Schedule.from_config(value) if isinstance(value, dict) else Constant(float(value))


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(AgentConfig):
    """Hyperparameters of the agents that learn from rollouts of a fixed length.

    Args:
        algorithm: The agent's algorithm.
        n_steps: Vector steps of a rollout, >= 1. A rollout has at most ``num_envs * n_steps`` env steps. null
            means 256 divided by the number of sub-environments and rounded down, but at least 1.
        gae_lambda: lambda of generalized advantage estimation, in [0, 1]. A larger value means less bias and more
            variance; 1 uses n-step returns.
    """

    ent_coef: float | dict[str, Any] = 0.01
    n_steps: int | None = 8
    gae_lambda: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_steps is not None:
            check_int("n_steps", self.n_steps, least=1)
        check_number("gae_lambda", self.gae_lambda, least=0.0, most=1.0)

    def rollout_length(self, num_envs: int) -> int:
        """Vector steps of a rollout.

        Args:
            num_envs: Number of sub-environments of all workers.
        """
        return max(1, _ROLLOUT_ENV_STEPS // num_envs) if self.n_steps is None else self.n_steps


@dataclass(frozen=True, kw_only=True)
class A2CConfig(RolloutConfig):
    """Hyperparameters of A2C (advantage actor-critic), which takes one optimizer step on each rollout."""

    algorithm: Literal["a2c"] = "a2c"
    learning_rate: float | dict[str, Any] = 2e-3


@dataclass(frozen=True, kw_only=True)
class PPOConfig(RolloutConfig):
    """Hyperparameters of PPO (proximal policy optimization).

    Args:
        algorithm: The agent's algorithm.
        batch_size: Transitions of a minibatch, of all workers together, >= 1. An epoch's last minibatch may be
            smaller. With a recurrent policy, a minibatch has the full rollouts of ``batch_size // n_steps``
            sub-environments, but at least one.
        n_epochs: Passes over each rollout, >= 1.
        clip_range: Distance from 1 at which the probability ratio is clipped. Beyond this distance, a transition
            does not move the ratio further away from 1. A number > 0, or a schedule, as for learning_rate.
        clip_range_vf: Maximum change of the values in the value loss, in units of the scaled returns: a number or
            a schedule, as for clip_range; null for no limit.
        target_kl: Limit of the approximate KL divergence from the policy that collected the rollout, > 0. When a
            minibatch exceeds ``1.5 * target_kl``, learning from the rollout ends. null for no limit.
    """

    default_log_interval: ClassVar[int] = 1

    algorithm: Literal["ppo"] = "ppo"
    learning_rate: float | dict[str, Any] = 1e-3
    n_steps: int | None = None
    normalize_advantage: bool = True
    batch_size: int = 64
    n_epochs: int = 4
    clip_range: float | dict[str, Any] = 0.2
    clip_range_vf: float | dict[str, Any] | None = None
    target_kl: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("batch_size", self.batch_size, least=1)
        check_int("n_epochs", self.n_epochs, least=1)
        self._check_schedule("clip_range", is_above_0=True)
        if self.clip_range_vf is not None:
            self._check_schedule("clip_range_vf", is_above_0=True)
        if self.target_kl is not None:
            check_number("target_kl", self.target_kl, above=0.0)
        if self.batch_size == 1 and self.normalize_advantage and self.policy.recurrent == "none":
            raise ValueError(
                "batch_size must be > 1 with normalize_advantage, got 1; give a larger batch_size, because one "
                "advantage has no standard deviation"
            )
        if self.meta is not None:
            raise ValueError(
                "meta must be None for PPO, because meta needs exactly one optimizer step on each rollout and PPO "
                "makes several; leave meta out, or use A2C"
            )


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(AgentConfig):
    """Hyperparameters of REINFORCE (Monte Carlo policy gradient).

    Args:
        algorithm: The agent's algorithm.
        episodes_per_env: Whole episodes that each sub-environment plays for one update, >= 1.
        baseline: Whether a learned value is subtracted from the returns. Without a baseline, ``vf_coef`` has no
            effect, and the return of a truncated episode has no bootstrap value.
    """

    algorithm: Literal["reinforce"] = "reinforce"
    learning_rate: float | dict[str, Any] = 2e-3
    normalize_advantage: bool = True
    episodes_per_env: int = 1
    baseline: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("episodes_per_env", self.episodes_per_env, least=1)
