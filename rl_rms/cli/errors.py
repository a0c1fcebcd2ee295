"""The error that ends a command with one sentence and exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong; the message names it, what was received and the mend."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the known word that is most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def require_plots(who: str) -> None:
    """See that the extra ``plots`` is there.

    Args:
        who: What needs it, in the plural.

    Raises:
        UserError: If it is not.
    """
    try:
        import rliable  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{who} need rliable for intervals; install it with pip install 'rl_rms[plots]'"
        ) from error
