"""Progress of a training run: a live view for terminals, plain lines for logs, and JSON lines for scripts."""

import json
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rl_rms.agents.adaptation import Returns
from rl_rms.agents.callbacks import Callback
from rl_rms.agents.description import device_note
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs.checks import check_int
from rl_rms.optim.rmsprop import RMSprop

if TYPE_CHECKING:
    from rl_rms.agents.eval_callback import EvalCallback

Form = Literal["auto", "lines", "json"]
_SECONDS_BETWEEN_VIEWS = 0.25
_SECONDS_BETWEEN_LINES = 5.0
_REGIMES_SHOWN = 5
_SPARKLINE = 60
# Terminals with fewer columns do not show the returns of the first and last tenth of a regime.
_WIDE = 64
_BLOCKS = "▁▂▃▄▅▆▇█"


class _RegimeSoFar(NamedTuple):
    """A regime with its mean returns (NaN without episodes) and its half-life in updates (None if unknown)."""

    number: int
    start: int
    mean: float
    first_tenth: float
    last_tenth: float
    half_life: float | None


def sparkline(values: Sequence[float]) -> str:
    """Draw one block character for each value, higher for larger values; a space for a non-finite value.

    >>> sparkline([0.0, 1.0, float("nan"), 7.0])
    '▁▂ █'
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    # The values are halved, because the difference of two finite values may overflow.
    span = high / 2 - low / 2

    def block(value: float) -> str:
        if not math.isfinite(value):
            return " "
        return _BLOCKS[min(int((value / 2 - low / 2) / span * 8), 7)] if span > 0 else _BLOCKS[3]

    return "".join(map(block, values))


class _LiveView(Progress):
    """A bar, a sparkline of the return, and a row for each of the last regimes."""

    def __init__(self, progress: "ProgressCallback", console: Console) -> None:
        self._progress, self._width = progress, console.width
        super().__init__(
            BarColumn(min(30, console.width // 4), complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} steps  {task.fields[fps]:,.0f} steps/s"),
            TimeRemainingColumn(compact=True),
            console=console,
            # A thread that refreshes the view would slow the training.
            auto_refresh=False,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """The parts of the view."""
        values = self._progress.values()
        yield self.make_tasks_table(self.tasks)
        line = Text(f"return {_number(values['return'])}  ", no_wrap=True, overflow="crop")
        half_life = "" if values["half_life"] is None else f"  half-life {values['half_life']:,.0f} updates"
        end = half_life + (f"  {self._progress.evaluation}" if self._progress.evaluation else "")
        columns = max(min(self._width - len(line) - len(end), _SPARKLINE), 0)
        yield line.append(sparkline(self._progress.returns_so_far(columns)), "green").append(end)
        regimes = self._progress.regimes()
        if regimes:
            yield _table(regimes, self._width)


def _table(regimes: Sequence[_RegimeSoFar], width: int) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    tenths = width >= _WIDE
    titles = ("regime", "since step", "return", *(("first 10%", "last 10%") if tenths else ()), "half-life")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for regime in regimes:
        is_present = regime is regimes[-1]
        returns = (regime.mean, regime.first_tenth, regime.last_tenth)
        table.add_row(
            f"▸ {regime.number:,}" if is_present else f"{regime.number:,}",
            f"{regime.start:,}",
            *map(_number, returns if tenths else returns[:1]),
            "-" if regime.half_life is None else f"{regime.half_life:,.0f}",
            style="bold" if is_present else "",
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.1f}" if math.isfinite(value) else "-"


class ProgressCallback(Callback):
    """Shows the progress of a training run.

    By default, a terminal shows a live view of the env steps, the mean return of the last 100 episodes, a
    sparkline of the return, and the current half-life. For a changing environment, the view also
    has a table with the returns and the half-life of each of the last five regimes. A regime is the period between
    two abrupt changes. Outside a terminal, and in a terminal that cannot move its cursor, the output is a plain
    line about every five seconds.

    JSON output has one object per line. The ``event`` of an object is ``start``, ``progress`` (once in ``every``
    rollouts), ``regime`` (at the end of each regime except the last) or ``end``. All objects have ``step`` (env
    steps), ``total``, ``fps`` (env steps per second), ``return`` (mean over the last 100 episodes), ``half_life``
    (updates) and ``regime`` (index of the regime). A value is null if it is unknown or not finite. ``start`` and
    ``end`` events have the run's ``folder``, and a ``start`` event has the ``device`` and a text with all
    ``half_lives``. A ``regime`` event describes the regime that ended: ``start`` is the env steps at the regime's
    first update, ``return`` is the mean return in the regime, and ``first_tenth`` and ``last_tenth`` are the mean
    returns in these parts of the regime.

    Args:
        console: The output; the standard output by default.
        form: ``"lines"``, ``"json"``, or ``"auto"`` for a live view in a terminal and lines elsewhere.
        every: Rollouts between two JSON objects of progress, >= 1.
        evaluations: Callbacks of the same training run whose evaluations are shown. List these callbacks before
            the `ProgressCallback`.

    Attributes:
        evaluation: Text on the evaluation in progress; empty without one.

    Raises:
        ValueError: If ``every`` is not a whole number >= 1.
    """

    def __init__(
        self,
        console: Console | None = None,
        form: Form = "auto",
        every: int = 100,
        evaluations: "Iterable[EvalCallback]" = (),
    ) -> None:
        self._console = console or Console(markup=False, emoji=False)
        self._form = form
        self._every = check_int("every", every, least=1, unit="rollouts")
        self._evaluations = list(evaluations)
        self.evaluation = ""

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Show all half-lives and the device that ``"auto"`` chose, and start the view."""
        self._agent, self._began, self._first = agent, time.perf_counter(), agent.num_timesteps
        self._returns = Returns()
        self._over: deque[_RegimeSoFar] = deque(maxlen=_REGIMES_SHOWN - 1)
        self._number, self._start = agent.session.regime(), self._first
        self._half_life: float | None = None  # a half-life in env steps is unknown before the first update
        self._view: _LiveView | None = None
        for callback in self._evaluations:
            callback.progress = self._show_evaluation
        half_lives = agent.describe_half_life()
        if self._form == "json":
            self._print_json("start", half_lives=half_lives, device=str(agent.device), folder=logger.folder)
            return
        note = device_note(agent)
        first_line = "; ".join(text for text in (half_lives, note) if text is not None)
        if first_line:
            self._console.print(first_line, highlight=False, soft_wrap=True)
        self._pause = _SECONDS_BETWEEN_LINES
        if self._form == "auto" and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._pause = _SECONDS_BETWEEN_VIEWS
            self._view = _LiveView(self, self._console)
            self._task = self._view.add_task(
                "", total=agent.training.target_timesteps, completed=self._first, fps=0.0
            )
            self._view.start()
        self._next = time.perf_counter() + self._pause

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Record the rollout, and refresh the output if an output is due."""
        self._returns.add(agent.new_episodes)
        number, ended = agent.session.regime(), None
        if number != self._number:
            # The row of the old regime shows the previous update's half-life, because a change may shorten the
            # half-life.
            ended = self.regimes()[-1]
            self._over.append(ended)
            self._number, self._start = number, agent.num_timesteps
        self._half_life = agent.optimizer.half_life if isinstance(agent.optimizer, RMSprop) else None
        if self._form == "json":
            if ended is not None:
                number, start, mean, first_tenth, last_tenth, half_life = ended
                of_regime = {"return": mean, "first_tenth": first_tenth, "last_tenth": last_tenth}
                self._print_json("regime", **of_regime, start=start, half_life=half_life, regime=number)
            if agent.training.num_rollouts % self._every == 0:
                self._print_json("progress")
            return None
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self._pause
            self._show()
        return None

    def _show_evaluation(self, done: int, total: int) -> None:
        """Show the progress of an evaluation, if the next output is due.

        Args:
            done: Number of finished episodes.
            total: Number of all episodes.
        """
        self.evaluation = f"evaluation {done:,} / {total:,} episodes" if done < total else ""
        now = time.perf_counter()
        if self._form != "json" and now >= self._next:
            self._next = now + self._pause
            self._show()

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Show the final progress, and close the view."""
        for callback in self._evaluations:
            callback.progress = None
        if self._form == "json":
            self._print_json("end", folder=logger.folder)
            return
        self._show()
        if self._view is not None:
            self._view.stop()

    def values(self) -> dict[str, Any]:
        """The state of the training, with the keys of the JSON output."""
        agent, seconds = self._agent, time.perf_counter() - self._began
        returns = [episode.ret for episode in agent.episodes]
        return {
            "step": agent.num_timesteps,
            "total": agent.training.target_timesteps,
            "fps": round((agent.num_timesteps - self._first) / max(seconds, 1e-9), 1),
            "return": float(np.mean(returns)) if returns else math.nan,
            "half_life": self._half_life,
            "regime": self._number,
        }

    def regimes(self) -> list[_RegimeSoFar]:
        """The last regimes, ending with the present one; empty without a changing environment."""
        if self._number is None:
            return []
        means = self._returns.of_regime(self._start, self._agent.num_timesteps)
        return [*self._over, _RegimeSoFar(self._number, self._start, *means, self._half_life)]

    def returns_so_far(self, columns: int) -> list[float]:
        """The mean return in each of ``columns`` equally long parts of the training so far."""
        edges = np.linspace(self._first, self._agent.num_timesteps, columns + 1).tolist()
        return [self._returns.mean(after, upto) for after, upto in pairwise(edges)]

    def _show(self) -> None:
        values = self.values()
        if self._view is not None:
            self._view.update(self._task, completed=min(values["step"], values["total"]), fps=values["fps"])
            self._view.refresh()
            return
        parts = [f"{values['step']:>9,} / {values['total']:,} steps", f"{values['fps']:,.0f} fps"]
        if math.isfinite(values["return"]):
            parts.append(f"return {values['return']:.1f}")
        if self._half_life is not None:
            parts.append(f"half-life {self._half_life:.0f} updates")
        if self._number:
            parts.append(f"regime {self._number:,} since {self._start:,}")
        if self.evaluation:
            parts.append(self.evaluation)
        if values["fps"] > 0:
            parts.append(f"{max(values['total'] - values['step'], 0) / values['fps']:.0f} s left")
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def _print_json(self, event: str, **more: Any) -> None:
        self._console.out(json_line(event, **{**self.values(), **more}), highlight=False)


def json_line(event: str, **values: Any) -> str:
    """One line of JSON: values that are not finite become null, paths become strings."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps({"event": event, **plain}, default=str)
