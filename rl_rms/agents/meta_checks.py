"""Checks of the optimizer, the policy and the saved updates of `rl_rms.agents.meta.MetaGradient`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rl_rms.agents.checkpoint_checks import check_numbers, check_options
from rl_rms.agents.config_parts import MetaConfig
from rl_rms.optim.rmsprop import RMSprop

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def check_unrollable(policy: nn.Module, optimizer: RMSprop, config: MetaConfig) -> None:
    """Raise an error for optimizers and policies whose updates cannot be repeated differentiably.

    Raises:
        ValueError: If the optimizer clips in other ways than by norm, if the half-life to adapt is not fixed, if
            rho is 0, or if the policy has batch normalization.
    """
    others = [name for name in optimizer.guard.in_use() if name not in ("max_grad_norm", "on_nonfinite")]
    if others:
        raise ValueError(
            f"meta needs an optimizer without {others[0]}; leave {others[0]} out of optimizer_kwargs, or clip "
            "with max_grad_norm instead"
        )
    estimated = [group["half_life"] for group in optimizer.param_groups if group["half_life"] in ("match", "auto")]
    if estimated and "half_life" in config.adapt:
        raise ValueError(
            f"meta needs a fixed half-life to adapt, got half_life={estimated[0]!r}; set a number, or leave "
            "half_life out of meta.adapt"
        )
    if any(group["alpha"] == 0 for group in optimizer.param_groups):
        raise ValueError("meta needs an optimizer with rho above 0, got rho=0; give half_life instead")
    if any(isinstance(module, _BATCH_NORMS) for module in policy.modules()):
        raise ValueError(
            'meta cannot unroll norm="batch", whose running statistics change with every loss; set norm="layer"'
        )


def check_update(update: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], *, is_recurrent: bool) -> None:
    """Check an update that `rl_rms.agents.meta.MetaGradient` loads from a checkpoint.

    Args:
        update: Plain data of `rl_rms.agents.meta_window.to_plain`.
        groups: The current options of the optimizer's groups; empty for a batch that only evaluates the
            hyperparameters.
        is_recurrent: Whether the policy is recurrent.

    Raises:
        ValueError: If an option, the recurrent state or a coefficient does not fit the policy and the optimizer.
    """
    for like, loaded in zip(groups, update["groups"], strict=True):
        # Checkpoints of earlier versions have rho, which is not used.
        check_options("meta.window.groups", {name: loaded[name] for name in loaded if name != "rho"}, like)
        check_numbers("meta.window.groups", loaded)
        for name in ("momentum", "optimism"):  # the momentum buffer and the previous update depend on them
            if loaded[name] != like[name]:
                raise ValueError(f"meta.window.groups.{name} must be {like[name]!r}, got {loaded[name]!r}")
    if not isinstance(update["state"], Tensor if is_recurrent else type(None)):
        wanted = "a tensor" if is_recurrent else "None"
        raise ValueError(f"meta.window.state must be {wanted} for this policy, got {update['state']!r}")
    for name, value in update["coefficients"].items():
        if not isinstance(value, (int, float)):
            raise ValueError(f"meta.window.coefficients.{name} must be a number, got {value!r}")
