"""The live view of a training in a terminal: bar, returns as a sparkline, and a line for each regime.

All of it is laid out for the width that there is, and no line is longer, so that nothing wraps.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

if TYPE_CHECKING:
    from rl_rms.agents.progress import LivedRegime, Story

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDEST = 100
_WIDEST_SPARKLINE = 60
_WIDEST_BAR = 30
# Narrower than this, the bar has a line of its own.
_NARROW = 64


def sparkline(values: Sequence[float]) -> str:
    """Values as one block each, the lowest the smallest; a space where one is not finite.

    Values that are all the same stand in the middle.

    >>> sparkline([0.0, 1.0, float("nan"), 7.0])
    '▁▂ █'
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    # Halved, since the difference of two finite numbers need not be finite.
    span = high / 2 - low / 2

    def block(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return _BLOCKS[min(int((value / 2 - low / 2) / span * 8), 7)] if span > 0 else _BLOCKS[3]

    return "".join(map(block, values))


class LiveView:
    """What a story of a training looks like in a terminal.

    Args:
        story: The story, as it stands whenever this is rendered.
    """

    def __init__(self, story: "Story") -> None:
        self._story = story

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The lines for the width that there is."""
        width = min(options.max_width, _WIDEST)
        for line in (*self._head(width), self._returns(width), *self._regimes(width)):
            if isinstance(line, Text):
                line.no_wrap, line.overflow = True, "crop"
            yield line

    def _head(self, width: int) -> Iterator[RenderableType]:
        story = self._story
        done = f"{story.step:,} / {story.total:,} steps"
        speed = f"{story.fps:,.0f} steps/s  {_duration(story.seconds_left)} left"
        completed = min(story.step, story.total)
        drawn = ProgressBar(max(story.total, 1), completed, complete_style="cyan", finished_style="cyan")
        if width < _NARROW:
            yield _Row(drawn, width)
            yield Text(done)
            yield Text(speed)
        else:
            yield _Row(drawn, max(min(_WIDEST_BAR, width - len(done) - len(speed) - 4), 8), f"  {done}  {speed}")

    def _returns(self, width: int) -> Text:
        story = self._story
        line = Text(f"return {_number(story.mean_return)}  ")
        half_life = ""
        if story.half_life is not None and width >= _NARROW:
            half_life = f"  half-life {story.half_life:,.0f} updates"
        room = min(width - len(line) - len(half_life), _WIDEST_SPARKLINE)
        return line.append(sparkline(story.returns_so_far(max(room, 0))), "green").append(half_life)

    def _regimes(self, width: int) -> Iterator[Text]:
        shown = self._story.regimes
        if not shown:
            return
        columns = [one for one in _COLUMNS if width >= one.narrowest]
        yield Text(" " + "".join(f"{one.title:>{one.width}}" for one in columns), "dim")
        for regime in shown:
            present = regime is shown[-1]
            cells = "".join(f"{one.cell(regime):>{one.width}}" for one in columns)
            yield Text(("▸" if present else " ") + cells, "bold" if present else "")


class _Row:
    """A bar, which by itself does not end its line, and words."""

    def __init__(self, bar: ProgressBar, width: int, words: str = "") -> None:
        self._bar, self._width, self._words = bar, width, words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        line = Text(no_wrap=True, overflow="crop")
        for segment in console.render(self._bar, options.update_width(self._width)):
            line.append(segment.text, segment.style)
        yield line.append(self._words)


def _number(value: float) -> str:
    """At most eight characters: ``-1,234.5``, ``12,345``, ``1.2e+09``; ``-`` where there is none."""
    if not math.isfinite(value):
        return "-"
    if abs(value) < 9_999.95:
        return f"{value:,.1f}"
    return f"{value:,.0f}" if abs(value) < 999_999.5 else f"{value:.1e}"


def _duration(seconds: float) -> str:
    """``0:46``, ``12:03:59``; ``-:--`` where it is not known."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _half_life(updates: float | None) -> str:
    return "-" if updates is None else f"{updates:,.0f}"


class _Column(NamedTuple):
    """What a line says of a regime, in terminals that are no narrower than ``narrowest``."""

    title: str
    width: int
    narrowest: int
    cell: "Callable[[LivedRegime], str]"


_COLUMNS = (
    _Column("regime", 7, 0, lambda regime: f"{regime.number:,}"),
    _Column("since step", 12, 0, lambda regime: f"{regime.start:,}"),
    _Column("return", 9, 0, lambda regime: _number(regime.mean)),
    _Column("first 10%", 11, _NARROW, lambda regime: _number(regime.first_tenth)),
    _Column("last 10%", 10, _NARROW, lambda regime: _number(regime.last_tenth)),
    _Column("half-life", 11, 40, lambda regime: _half_life(regime.half_life)),
)
