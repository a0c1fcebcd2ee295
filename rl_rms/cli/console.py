"""The console that commands print to."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, quiet: bool = False) -> "Console":
    """Make a console without markup, since names of files and runs may contain brackets and colons."""
    from rich.console import Console

    return Console(quiet=quiet, markup=False, emoji=False)
