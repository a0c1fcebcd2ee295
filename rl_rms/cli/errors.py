"""`UserError`, which ends a command with a message and exit status 2, and parts of its messages."""

import difflib
from collections.abc import Iterable
from importlib import import_module


class UserError(Exception):
    """Wrong input, or a failure that the user can fix. The message says what is wrong and, if known, the fix."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known word closest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def require(extra: str, need: str, *modules: str) -> None:
    """Check that an extra of this package is installed.

    Args:
        extra: Name of the extra, such as ``"sweep"``.
        need: The feature and the packages that it needs, such as ``"sweeps need Optuna"``.
        *modules: Import names of the packages.

    Raises:
        UserError: If a module cannot be imported.
    """
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        raise UserError(
            f"{need}, but {module} is not installed; install it with pip install 'rl_rms[{extra}]'"
        ) from error
