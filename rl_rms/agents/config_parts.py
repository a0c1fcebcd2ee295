"""Parts of an agent's configuration (policy network, normalizers, meta-gradient), and checks of fields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from rl_rms.envs.checks import check_int, check_number, check_one_of
from rl_rms.half_life import AverageHalfLife

Activation = Literal["tanh", "relu", "elu", "silu"]
Norm = Literal["none", "layer", "batch"]
Recurrent = Literal["none", "gru", "lstm"]
OnJump = Literal["keep", "forget"]
Adaptable = Literal["learning_rate", "half_life", "eps"]
CONVOLUTIONS = ("nature_cnn", "small_cnn", "impala")
ENCODERS = ("auto", "mlp", *CONVOLUTIONS)
_KINDS: dict[Any, str] = {bool: "true or false", str: "a string"}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The policy network: an encoder of the observations, and multilayer perceptrons for actor and critic.

    Args:
        encoder: The network for images, before actor and critic: ``nature_cnn`` (at least 36 by 36 pixels),
            ``small_cnn`` or ``impala`` (both at least 3 by 3), or ``mlp``, which flattens images. ``auto`` uses
            nature_cnn, or small_cnn if a side is below 36 pixels, or mlp if a side is below 3 pixels. Each image
            of a Dict has its own network. For your own encoder, give the import path of a torch module class. The
            class is called with the observation space.
        hidden_sizes: Units of each hidden layer of actor and critic.
        critic_hidden_sizes: Units of each hidden layer of the critic; null uses hidden_sizes.
        shared_trunk: Whether actor and critic share the hidden layers; each has its own last layer.
        activation: Non-linearity after each hidden layer.
        norm: Normalization of each hidden layer before its activation: ``none``, ``layer`` (LayerNorm) or
            ``batch`` (BatchNorm, with the batch's statistics in updates and running statistics for actions).
        recurrent: The recurrent cell that actor and critic share: ``none``, ``gru`` or ``lstm``. The state is
            reset at the end of an episode. Gradients are propagated back to the beginning of a rollout.
        recurrent_size: Units of the recurrent cell.
        image_features: Features of each image, the units of a convolutional encoder's last layer.
        log_std_init: Initial logarithm of the standard deviation of continuous actions.
        squash_actions: Whether a tanh scales continuous actions to the space's bounds; otherwise they are clipped.
        orthogonal_init: Whether weights are initially orthogonal and biases zero; otherwise torch's defaults. The
            weights of a recurrent cell are always orthogonal and its biases zero.
        module: Import path of a torch module class with ``actor`` and ``critic`` that replaces the network; null
            for none. The class is called with the observation space, the action space and this configuration.
    """

    encoder: str = "auto"
    hidden_sizes: Sequence[int] = (64, 64)
    critic_hidden_sizes: Sequence[int] | None = None
    shared_trunk: bool = False
    activation: Activation = "tanh"
    norm: Norm = "none"
    recurrent: Recurrent = "none"
    recurrent_size: int = 64
    image_features: int = 512
    log_std_init: float = 0.0
    squash_actions: bool = False
    orthogonal_init: bool = True
    module: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        self._check_sizes("hidden_sizes")
        if self.critic_hidden_sizes is not None:
            self._check_sizes("critic_hidden_sizes")
            if self.shared_trunk:
                raise ValueError(
                    "critic_hidden_sizes must be null with shared_trunk, because actor and critic share layers, "
                    f"got {self.critic_hidden_sizes!r}; leave one of them out"
                )
        if self.encoder not in ENCODERS and not _is_import_path(self.encoder):
            raise ValueError(
                f"encoder must be one of {', '.join(ENCODERS)}, or the import path of a torch module class such "
                f"as my_networks.Encoder, got {self.encoder!r}"
            )
        if self.module is not None and not _is_import_path(self.module):
            raise ValueError(
                "module must be the import path of a torch module class such as my_networks.Policy, or null, got "
                f"{self.module!r}"
            )
        for name, allowed in (("activation", Activation), ("norm", Norm), ("recurrent", Recurrent)):
            check_one_of(name, getattr(self, name), get_args(allowed))
        check_int("recurrent_size", self.recurrent_size, least=1)
        check_int("image_features", self.image_features, least=1)
        check_number("log_std_init", self.log_std_init)

    @property
    def user_classes(self) -> dict[str, str]:
        """The import paths of the user's classes by field."""
        paths = {} if self.encoder in ENCODERS else {"encoder": self.encoder}
        return paths if self.module is None else {**paths, "module": self.module}

    def _check_sizes(self, name: str) -> None:
        sizes = getattr(self, name)
        if not isinstance(sizes, (list, tuple)) or any(
            isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes
        ):
            raise ValueError(f"{name} must be a list of whole numbers >= 1 such as [64, 64], got {sizes!r}")
        object.__setattr__(self, name, tuple(sizes))


def _is_import_path(value: Any) -> bool:
    parts = value.split(".") if isinstance(value, str) else []
    return len(parts) > 1 and all(map(str.isidentifier, parts))


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """Adaptation of RMSprop's hyperparameters by meta-gradient during the training, see `rl_rms.agents.meta`.

    Args:
        adapt: The adapted hyperparameters: ``learning_rate``, ``half_life`` and ``eps``. A half-life stays within
            RMSprop's half_life_bounds, by default 32 to 10,000 updates.
        window: Number of updates through which the meta-gradient is computed, >= 1.
        num_eval_rollouts: Rollouts that evaluate the policy after the window, >= 1. The policy also learns from
            the last of these rollouts. The other evaluation rollouts cost env steps, but make the meta-gradient
            less noisy.
        rate: Step size of the hyperparameters' logarithms, > 0. Each window makes one step, usually at most this
            large.
        fluctuation: Weight of the loss's variance along the window in the meta-objective, >= 0.
        memory_mb: Largest size of the window's graph in megabytes, > 0. With a larger graph, the meta-gradient
            uses only the last updates.
    """

    adapt: Sequence[Adaptable] = ("learning_rate", "half_life")
    window: int = 4
    num_eval_rollouts: int = 1
    rate: float = 0.05
    fluctuation: float = 0.0
    memory_mb: float = 256.0

    def __post_init__(self) -> None:
        adapt = self.adapt
        if not isinstance(adapt, (list, tuple)) or not adapt or any(adapt.count(name) > 1 for name in adapt):
            raise ValueError(f"meta.adapt must name at least one hyperparameter, and each once, got {adapt!r}")
        for name in adapt:
            check_one_of("meta.adapt", name, get_args(Adaptable))
        object.__setattr__(self, "adapt", tuple(adapt))
        check_int("meta.window", self.window, least=1, unit="updates")
        check_int("meta.num_eval_rollouts", self.num_eval_rollouts, least=1)
        check_number("meta.rate", self.rate, above=0.0)
        check_number("meta.fluctuation", self.fluctuation, least=0.0)
        check_number("meta.memory_mb", self.memory_mb, above=0.0)


@dataclass(frozen=True, kw_only=True)
class NormalizerConfig:
    """Running statistics of observations.

    Args:
        half_life: Half-life of the statistics: ``"10_000 steps"`` (env steps), ``69`` or ``"69 updates"``; ``inf``
            never forgets.
        on_jump: Response to a jump of the observations' mean, see `rl_rms.agents.jumps.JumpDetector`: ``forget``
            all values before the jump, or ``keep`` them.
    """

    half_life: float | str = math.inf
    on_jump: OnJump = "forget"

    def __post_init__(self) -> None:
        AverageHalfLife.parse(self.half_life)
        check_one_of("on_jump", self.on_jump, get_args(OnJump))

    @property
    def parsed_half_life(self) -> AverageHalfLife:
        """The half-life with its unit."""
        return AverageHalfLife.parse(self.half_life)


def normalizer_config(value: bool | float | str | NormalizerConfig) -> NormalizerConfig | None:
    """The configuration of the observations' normalizer; None without normalization."""
    if isinstance(value, bool):
        return NormalizerConfig() if value else None
    return value if isinstance(value, NormalizerConfig) else NormalizerConfig(half_life=value)


def reward_half_life(value: bool | float | str) -> AverageHalfLife | None:
    """The half-life of the rewards' normalizer; None without normalization."""
    if isinstance(value, bool):
        return AverageHalfLife(math.inf) if value else None
    return AverageHalfLife.parse(value)


def check_kinds(config: Any) -> None:
    """Check the types of boolean and string fields, and convert NumPy's numbers to Python's.

    NumPy's float64 would change the type of float32 arrays.

    Raises:
        ValueError: If a field has a wrong type.
    """
    for spec in fields(config):
        value = getattr(config, spec.name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(config, spec.name, value)
        if spec.type in _KINDS and type(value) is not spec.type:
            raise ValueError(f"{spec.name} must be {_KINDS[spec.type]}, got {value!r}")
