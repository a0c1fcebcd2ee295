"""Every number that shapes a run's learning, with its unit, range and default.

These dataclasses are what the agents' constructors fill, what YAML holds and what the command line explains,
so a range is checked here once for all of them. The module imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rl_rms.half_life import parse_half_life

DEFAULT_OPTIMIZER = "rl_rms.RMSprop"
Activation = Literal["tanh", "relu", "elu", "silu"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The policy network: separate multilayer perceptrons for the actor and the critic.

    Args:
        hidden_sizes: Units of each hidden layer.
        activation: Non-linearity after each hidden layer.
        log_std_init: Initial logarithm of the standard deviation of continuous actions.
    """

    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = "tanh"
    log_std_init: float = 0.0

    def __post_init__(self) -> None:
        sizes = tuple(self.hidden_sizes)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"hidden_sizes must be whole numbers >= 1 such as [64, 64], got {list(sizes)}")
        object.__setattr__(self, "hidden_sizes", sizes)
        _check_number("log_std_init", self.log_std_init)


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Hyperparameters that every agent has.

    Args:
        algorithm: Which agent they are for.
        learning_rate: Step size of the optimizer, > 0.
        gamma: Discount per env step, in [0, 1].
        ent_coef: Weight of the entropy bonus in the loss, >= 0.
        vf_coef: Weight of the value loss in the loss, >= 0.
        max_grad_norm: Global gradient norm above which gradients are scaled down before the optimizer sees
            them, > 0; null turns clipping off.
        normalize_advantage: Whether each update's advantages are shifted to mean 0 and scaled to standard
            deviation 1.
        normalize_reward: Whether rewards are divided by the running standard deviation of the discounted
            return before they are learned from; returns are reported as they are.
        half_life: Memory of RMSprop's second moment: ``69`` or ``"69 updates"``, or ``"20_000 steps"`` (env
            steps, converted with the steps that each update spans); ``match`` takes it from the time scale of the
            environment's changes and from the gradients' signal-to-noise ratio, ``auto`` (experimental) from the
            gradients alone, both between 32 and 10,000 updates; null means 200 updates. Only for optimizers that
            take ``half_life``.
        optimizer: Import path of a ``torch.optim.Optimizer`` class.
        optimizer_kwargs: Further keyword arguments of the optimizer. RMSprop gets ``eps=1e-5`` and
            ``debias=True`` unless they are set here.
        policy: The policy network.
        device: torch device of the network, ``"auto"`` takes CUDA where there is one.
    """

    algorithm: str
    learning_rate: float = 7e-4
    gamma: float = 0.99
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float | None = 0.5
    normalize_advantage: bool = False
    normalize_reward: bool = False
    half_life: float | str | None = None
    optimizer: str = DEFAULT_OPTIMIZER
    optimizer_kwargs: dict[str, Any] = field(default_factory=dict)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_number("learning_rate", self.learning_rate, above=0.0)
        _check_number("gamma", self.gamma, least=0.0, most=1.0)
        _check_number("ent_coef", self.ent_coef, least=0.0)
        _check_number("vf_coef", self.vf_coef, least=0.0)
        if self.max_grad_norm is not None:
            _check_number("max_grad_norm", self.max_grad_norm, above=0.0)
        if self.half_life is not None:
            parse_half_life(self.half_life)


@dataclass(frozen=True, kw_only=True)
class A2CConfig(AgentConfig):
    """Hyperparameters of A2C (advantage actor-critic).

    Args:
        algorithm: The agent's algorithm.
        n_steps: Vector steps between two updates, >= 1; an update spans ``num_envs * n_steps`` env steps.
        gae_lambda: Bias-variance trade-off of the advantages, in [0, 1]; 1 is the n-step return.
    """

    algorithm: Literal["a2c"] = "a2c"
    n_steps: int = 5
    gae_lambda: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole("n_steps", self.n_steps)
        _check_number("gae_lambda", self.gae_lambda, least=0.0, most=1.0)


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(AgentConfig):
    """Hyperparameters of REINFORCE (Monte Carlo policy gradient).

    Args:
        algorithm: The agent's algorithm.
        episodes_per_env: Whole episodes that each sub-environment plays for one update, >= 1.
        baseline: Whether a learned value is subtracted from the returns; without it ``vf_coef`` has no effect
            and a truncated episode's return is what was collected.
    """

    algorithm: Literal["reinforce"] = "reinforce"
    learning_rate: float = 2e-3
    normalize_advantage: bool = True
    episodes_per_env: int = 1
    baseline: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_whole("episodes_per_env", self.episodes_per_env)


def _check_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> None:
    """Raise a sentence that names the argument unless ``value`` is a finite number in range."""
    allowed = "a finite number"
    if above is not None:
        allowed = f"> {above:g}"
    elif least is not None:
        allowed = f"in [{least:g}, {most:g}]" if most is not None else f">= {least:g}"
    good = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    if (
        not good
        or (above is not None and value <= above)
        or (least is not None and value < least)
        or (most is not None and value > most)
    ):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _check_whole(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
