"""Reinforcement learning for environments that change.

The half-life of the optimizer `RMSprop` is given in updates or env steps, or estimated. `rl_rms.envs` changes the
parameters of Gymnasium environments by schedules and curricula. `rl_rms.agents` trains agents in these
environments. ``import rl_rms`` does not import torch, so that the command line and the environments start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rl_rms.half_life import HalfLife, half_life_from_rho, rho_from_half_life

if TYPE_CHECKING:
    from rl_rms.optim.rmsprop import RMSprop

__version__ = "0.1.0"

__all__ = ["HalfLife", "RMSprop", "__version__", "half_life_from_rho", "rho_from_half_life"]
_SUBMODULES = ("agents", "envs", "laws", "optim", "sb3", "studies")


def __getattr__(name: str) -> Any:
    """Import the optimizer or a submodule at the first use."""
    if name == "RMSprop":
        from rl_rms.optim.rmsprop import RMSprop

        return RMSprop
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
