"""The state of an Atari environment of ale-py within a game, which is in the emulator."""

import importlib
from typing import Any


def read(env: Any) -> bytes:
    """Read the emulator's state with its random generator, which decides on sticky actions."""
    state: bytes = env.ale.cloneState(include_rng=True).serialize()
    return state


def write(env: Any, state: bytes) -> None:
    """Restore a state of `read`."""
    ale_py: Any = importlib.import_module("ale_py")
    env.ale.restoreState(ale_py.ALEState(state))
