"""The error that ends a command with one sentence and exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A wrong input; the message names it, the value received and the fix."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the known word that is most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def require_plots(who: str) -> None:
    """Check that the extra ``plots`` is installed.

    Raises:
        UserError: If it is not.
    """
    try:
        import rliable  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{who} need rliable for intervals; install it with pip install 'rl_rms[plots]'"
        ) from error
