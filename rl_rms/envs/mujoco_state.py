"""Saves and restores the state of Gymnasium's MuJoCo environments within an episode, from MuJoCo's data."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def is_mujoco(env: Any) -> bool:
    """Whether an unwrapped environment is a MuJoCo environment of Gymnasium.

    The state of such an environment is MuJoCo's data and ``np_random``.
    """
    return type(env).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(env, "data")


def read(env: Any) -> dict[str, Any]:
    """Read MuJoCo's integration state, from which the next step starts, and the writeable arrays of its data."""
    mujoco: Any = importlib.import_module("mujoco")

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, integration, kind)
    return {"integration": integration, "arrays": {name: one.copy() for name, one in _arrays(env)}}


def write(env: Any, state: Mapping[str, Any]) -> None:
    """Restore a state that `read` returned."""
    mujoco: Any = importlib.import_module("mujoco")
    mujoco.mj_setState(env.model, env.data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name, one in _arrays(env):
        saved = state["arrays"].get(name)
        # Arrays of constraints and islands vary in length, and each step computes them again.
        if saved is not None and saved.shape == one.shape:
            one[...] = saved


def _arrays(env: Any) -> list[tuple[str, npt.NDArray[Any]]]:
    """Return the non-empty, writeable arrays of MuJoCo's data and their names."""
    arrays = [(name, getattr(env.data, name)) for name in dir(env.data) if not name.startswith("_")]
    return [
        (name, one) for name, one in arrays if isinstance(one, np.ndarray) and one.size and one.flags.writeable
    ]
