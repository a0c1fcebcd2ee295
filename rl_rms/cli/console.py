"""The console that commands print to, and the progress of long commands."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BEFORE_LINES = 2.0
_SECONDS_BETWEEN_LINES = 5.0


def make_console(*, quiet: bool = False) -> "Console":
    """Make a console without markup, because names of files and runs may contain brackets and colons."""
    from rich.console import Console

    return Console(quiet=quiet, markup=False, emoji=False, highlight=False)


def shown_return(value: float) -> str:
    """Format a return with one decimal place, or with three significant digits if it is between -10 and 10.

    Examples:
        >>> shown_return(196.351), shown_return(0.9549)
        ('196.4', '0.955')
    """
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


class Counter:
    """The progress of a command: a bar in a terminal, otherwise lines of text.

    Args:
        console: The output.
        name: Text before the bar or the number.
    """

    def __init__(self, console: "Console", name: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._name = console, name
        self._began = time.monotonic()
        self._next = self._began + _SECONDS_BEFORE_LINES
        self._bar: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(30),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> "Counter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Show the numbers of finished parts and of all parts.

        Without a bar, no line is printed in the first two seconds. Later lines are at least five seconds apart.
        """
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN_LINES
        left = f", {(now - self._began) * (total - done) / done:.0f} s left" if done else ""
        line = f"{self._name}: {done:,} / {total:,}{left}"
        self._console.print(line, soft_wrap=True)
