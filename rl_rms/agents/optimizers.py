"""Builds the optimizer of a configuration, RMSprop or another ``torch.optim.Optimizer``."""

import inspect
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from rl_rms.agents.class_paths import import_class
from rl_rms.agents.config import DEFAULT_OPTIMIZER, AgentConfig, as_schedule
from rl_rms.envs.schedules import Key
from rl_rms.optim.rmsprop import RMSprop

OptimizerLike = str | type[Optimizer]

# The agents' default half-life, in updates. With a short half-life, RMSprop scales down the largest gradients,
# which carry the signal.
DEFAULT_HALF_LIFE = 200.0
DEFAULT_EPS = 1e-5
_HALF_LIFE_NAMES = {"half_life", "rho", "alpha"}


def optimizer_path(optimizer: OptimizerLike) -> str:
    """Return the import path of an optimizer class.

    Raises:
        TypeError: If the optimizer is neither a class nor an import path.
    """
    if isinstance(optimizer, str):
        return optimizer
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise TypeError(
            "optimizer must be a class derived from torch.optim.Optimizer, or its import path, got "
            f"{optimizer!r}; give arguments of the optimizer in optimizer_kwargs"
        )
    return DEFAULT_OPTIMIZER if optimizer is RMSprop else f"{optimizer.__module__}.{optimizer.__qualname__}"


def _check_step(chosen: type[Optimizer]) -> None:
    """Raise an error for an optimizer whose step needs an argument, such as a closure.

    Raises:
        ValueError: If ``step`` has a required argument.
    """
    _, *parameters = inspect.signature(chosen.step).parameters.values()
    needed = [
        param.name
        for param in parameters
        if param.default is param.empty and param.kind not in (param.VAR_POSITIONAL, param.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"optimizer must take a step without arguments, got {optimizer_path(chosen)}, whose step needs "
            f"{' and '.join(needed)}; choose another optimizer, such as {DEFAULT_OPTIMIZER} or torch.optim.Adam"
        )


def make_optimizer(policy: nn.Module, config: AgentConfig, optimizer: OptimizerLike | None = None) -> Optimizer:
    """The optimizer of a configuration.

    Args:
        policy: The policy. With a ``critic_learning_rate``, the policy's parameters whose names begin with
            ``critic`` are a second group.
        config: Configuration with the class, the arguments, the learning rate and the half-life.
        optimizer: The class, or its import path; None uses the configuration's optimizer.

    Raises:
        ValueError: If the class or its arguments are wrong, if a checkpoint cannot hold an argument, or if the
            configuration has a half-life and the class is not `RMSprop`.
    """
    if isinstance(optimizer, type):
        chosen = optimizer
    else:
        example = f"{DEFAULT_OPTIMIZER} or torch.optim.Adam"
        chosen = import_class("optimizer", optimizer or config.optimizer, Optimizer, example)
    _check_step(chosen)
    kwargs: dict[str, Any] = dict(config.optimizer_kwargs)
    for name, value in kwargs.items():
        if not _is_savable(value):
            raise ValueError(
                "optimizer_kwargs must be numbers, strings, tensors or None, or lists and dictionaries of these, "
                f"which a checkpoint can hold, got {name}={value!r}; derive a class from {optimizer_path(chosen)} "
                f"that sets {name} in its constructor, and give this class as optimizer"
            )
    groups = _groups(policy, config)
    if issubclass(chosen, RMSprop):
        guard = {"max_grad_norm": config.max_grad_norm, "on_nonfinite": config.on_nonfinite}
        # Some presets of RMSprop have no default learning rate, although each group has one here.
        kwargs = {"lr": groups[0]["lr"], "eps": DEFAULT_EPS, "bias_correction": True, **guard, **kwargs}
        if config.half_life is not None:
            kwargs["half_life"] = config.half_life
        elif not _HALF_LIFE_NAMES & kwargs.keys():
            kwargs["half_life"] = DEFAULT_HALF_LIFE
    elif config.half_life is not None:
        raise ValueError(
            f"half_life={config.half_life!r} is an argument of {DEFAULT_OPTIMIZER}, not of "
            f"{optimizer_path(chosen)}; leave half_life out, or use the optimizer rl_rms.RMSprop"
        )
    try:
        return chosen(groups, **kwargs)
    except TypeError as error:
        raise ValueError(f"optimizer_kwargs of {optimizer_path(chosen)}: {error}") from error


def _is_savable(value: Any) -> bool:
    """Whether a checkpoint can hold a value: numbers, strings, tensors and None, in lists and dictionaries."""
    if isinstance(value, dict):
        return all(map(_is_savable, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_savable, value))
    return value is None or isinstance(value, (int, float, str, np.generic, Tensor))


def group_rates(config: AgentConfig) -> list[float | dict[str, Any]]:
    """The configured learning rate of each parameter group."""
    critic = config.critic_learning_rate
    return [config.learning_rate] if critic is None else [config.learning_rate, critic]


def _groups(policy: nn.Module, config: AgentConfig) -> list[dict[str, Any]]:
    """Parameter groups with their initial learning rates.

    Raises:
        ValueError: If ``critic_learning_rate`` is set and no parameter's name begins with ``critic``.
    """
    rates = [as_schedule(rate).value(0, Key(0)) for rate in group_rates(config)]
    if len(rates) == 1:
        return [{"params": list(policy.parameters()), "lr": rates[0]}]
    named = list(policy.named_parameters())
    critic = [param for name, param in named if name.startswith("critic")]
    if not critic:
        raise ValueError(
            "critic_learning_rate needs parameters whose names begin with critic, but the parameters of "
            f"{type(policy).__name__} are {', '.join(name for name, _ in named)}; rename the critic's parameters, "
            "or leave critic_learning_rate out"
        )
    return [
        {"params": [param for name, param in named if not name.startswith("critic")], "lr": rates[0]},
        {"params": critic, "lr": rates[1]},
    ]
