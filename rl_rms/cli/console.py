"""The console for sentences and tables of commands."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, quiet: bool = False) -> "Console":
    """A console that prints text as it is: names of files and runs may hold brackets and colons."""
    from rich.console import Console

    return Console(quiet=quiet, markup=False, emoji=False)
