"""Environments that change over time, on a clock that continues across episodes.

`NonStationary` wraps an environment, and `NonStationaryVector` wraps a vector environment. `make_vec` makes a
`NonStationaryVector`. `schedules` give a parameter's value at each reading of the clock. `curricula` choose the
task of each episode. Names that need Gymnasium import it at their first use, so that the command line starts
quickly.
"""

if __name__ != "rl_rms.envs":
    raise ImportError(f"cannot import {__name__} from the repository root; import rl_rms.envs")


from importlib import import_module
from typing import TYPE_CHECKING, Any

from rl_rms.envs import curricula, schedules

if TYPE_CHECKING:
    from rl_rms.envs.faults import EnvError
    from rl_rms.envs.make import make_vec
    from rl_rms.envs.nonstationary import NonStationary
    from rl_rms.envs.parameters import register_parameter
    from rl_rms.envs.resilient_async import ResilientAsyncVectorEnv
    from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv
    from rl_rms.envs.snapshots import register_state
    from rl_rms.envs.switching import TaskSwitch
    from rl_rms.envs.vector import NonStationaryVector

__all__ = [
    "EnvError",
    "NonStationary",
    "NonStationaryVector",
    "ResilientAsyncVectorEnv",
    "ResilientSyncVectorEnv",
    "TaskSwitch",
    "curricula",
    "make_vec",
    "register_parameter",
    "register_state",
    "schedules",
]
# The module of each name. Most of these modules import Gymnasium, so each module is imported at its first use.
_FOUND_IN = {
    "EnvError": "faults",
    "NonStationary": "nonstationary",
    "NonStationaryVector": "vector",
    "ResilientAsyncVectorEnv": "resilient_async",
    "ResilientSyncVectorEnv": "resilient_sync",
    "TaskSwitch": "switching",
    "make_vec": "make",
    "register_parameter": "parameters",
    "register_state": "snapshots",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name in `_FOUND_IN`, and return the object with this name."""
    if name in _FOUND_IN:
        return getattr(import_module(f"rl_rms.envs.{_FOUND_IN[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
