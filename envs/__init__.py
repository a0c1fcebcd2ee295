"""Worlds that change: what changes and when, on a lifelong clock that the library knows.

`NonStationary` wraps an environment, `NonStationaryVector` a vector of them, and `make_vec` makes one.
`schedules` say what a parameter's value is at which clock, `curricula` what an episode's task is. Gymnasium is
imported only when a wrapper is first asked for, so that the command line starts quickly without it.
"""

from typing import TYPE_CHECKING, Any

from rl_rms.envs import curricula, schedules

if TYPE_CHECKING:
    from rl_rms.envs.nonstationary import NonStationary
    from rl_rms.envs.parameters import register_parameter
    from rl_rms.envs.vector import NonStationaryVector, make_vec

__all__ = ["NonStationary", "NonStationaryVector", "curricula", "make_vec", "register_parameter", "schedules"]


def __getattr__(name: str) -> Any:
    """Import the wrappers, and Gymnasium with them, at first use."""
    if name == "NonStationary":
        from rl_rms.envs.nonstationary import NonStationary

        return NonStationary
    if name in ("NonStationaryVector", "make_vec"):
        from rl_rms.envs import vector

        return getattr(vector, name)
    if name == "register_parameter":
        from rl_rms.envs.parameters import register_parameter

        return register_parameter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
