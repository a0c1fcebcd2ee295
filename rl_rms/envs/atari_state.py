"""Saves and restores the emulator state of ale-py's Atari environments during a game."""

import importlib
from typing import Any


def read(env: Any) -> bytes:
    """Read the emulator's state, including its random generator for sticky actions."""
    state: bytes = env.ale.cloneState(include_rng=True).serialize()
    return state


def write(env: Any, state: bytes) -> None:
    """Restore a state that `read` returned."""
    ale_py: Any = importlib.import_module("ale_py")
    env.ale.restoreState(ale_py.ALEState(state))
