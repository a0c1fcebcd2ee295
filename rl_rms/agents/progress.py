"""Progress of a training: a live view in a terminal, plain lines anywhere else, JSON lines for scripts."""

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.live import Live

from rl_rms.agents.adaptation import Returns
from rl_rms.agents.callbacks import Callback
from rl_rms.agents.env_state import find_changing
from rl_rms.agents.live import LiveView
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs.checks import check_whole
from rl_rms.optim.rmsprop import RMSprop

Form = Literal["auto", "lines", "json"]
_SECONDS_BETWEEN_VIEWS = 0.25
_SECONDS_BETWEEN_LINES = 5.0
_REGIMES_SHOWN = 5


@dataclass(frozen=True)
class LivedRegime:
    """A regime as far as it has been lived; returns are NaN where no episode ended.

    Attributes:
        number: Changes of regime before it.
        start: Env steps that the agent had lived when it began.
        end: The same at its end, or now.
        mean: Mean return of the episodes that ended in it.
        first_tenth: The same of those in the first tenth of its env steps.
        last_tenth: The same of those in the last tenth.
        half_life: In force at its end, or now, in updates; None for an optimizer that states none.
    """

    number: int
    start: int
    end: int
    mean: float
    first_tenth: float
    last_tenth: float
    half_life: float | None


class Story:
    """How a training has gone so far.

    Args:
        agent: The agent, before its first rollout.

    Attributes:
        total: Env steps at which it ends.
        step: Env steps lived.
        half_life: In force, in updates; None before the first update and for an optimizer that states none.
    """

    def __init__(self, agent: TrainedAgent) -> None:
        self._agent = agent
        self._world = None if agent.env is None else find_changing(agent.env)
        self._began, self._first = time.perf_counter(), agent.num_timesteps
        self._returns = Returns()
        self._over: deque[LivedRegime] = deque(maxlen=_REGIMES_SHOWN - 1)
        self._start = self._first
        self._number = self._regime()
        self.total, self.step = agent.target_timesteps, self._first
        self.half_life: float | None = None  # stated in env steps it is not known before the first update

    def go_on(self) -> LivedRegime | None:
        """Take the agent's last update in.

        Returns:
            The regime that it has ended, if any.
        """
        self.step = self._agent.num_timesteps
        self._returns.add(self._agent.new_episodes)
        number, ended = self._regime(), None
        if number is not None and self._number is not None and number != self._number:
            # With the half-life of the update before: at a change the agent may be told to forget.
            ended = self._lived(self._number, self.half_life)
            self._over.append(ended)
            self._number, self._start = number, self.step
        self.half_life = self._half_life()
        return ended

    @property
    def regimes(self) -> list[LivedRegime]:
        """The last ones and, as the last, the present one; none in a world that has none."""
        if self._number is None:
            return []
        return [*self._over, self._lived(self._number, self.half_life)]

    @property
    def regime(self) -> int | None:
        """The number of the present one."""
        return self._number

    @property
    def mean_return(self) -> float:
        """Mean return of the last 100 episodes; NaN before the first."""
        returns = [episode.ret for episode in self._agent.episodes]
        return float(np.mean(returns)) if returns else math.nan

    @property
    def fps(self) -> float:
        """Env steps a second since the beginning of the training."""
        return (self.step - self._first) / max(time.perf_counter() - self._began, 1e-9)

    @property
    def seconds_left(self) -> float:
        """Seconds until its end at that pace; NaN before the first update."""
        return max(self.total - self.step, 0) / self.fps if self.step > self._first else math.nan

    def returns_so_far(self, columns: int) -> list[float]:
        """Mean returns of as many stretches of the training so far, all of the same length."""
        edges = np.linspace(self._first, self.step, columns + 1).tolist()
        return [self._returns.mean(after, upto) for after, upto in pairwise(edges)]

    def _lived(self, number: int, half_life: float | None) -> LivedRegime:
        start, end, tenth = self._start, self.step, 0.1 * (self.step - self._start)
        mean = self._returns.mean
        return LivedRegime(
            number, start, end, mean(start, end), mean(start, start + tenth), mean(end - tenth, end), half_life
        )

    def _regime(self) -> int | None:
        return None if self._world is None else int(np.max(self._world.regime))

    def _half_life(self) -> float | None:
        return self._agent.optimizer.half_life if isinstance(self._agent.optimizer, RMSprop) else None


class ProgressCallback(Callback):
    """Shows how a training goes.

    In a terminal it is a live view: env steps, env steps a second and the time left, the mean return of the last
    100 episodes with a sparkline of the return over the training so far, the half-life in force, and a line for
    each of the last regimes with its returns and its half-life, the present one moving. Anywhere else, and in a
    terminal that cannot move its cursor, it is a plain line every five seconds.

    As JSON lines it is one object a line: ``start``, ``progress`` every so many updates, ``regime`` for each that
    is over, and ``end``, under ``event``. All have ``step`` (env steps), ``total``, ``fps`` (env steps a second),
    ``return``, ``half_life`` (updates) and ``regime`` (its number), each null where there is none or it is not
    finite. ``start`` and ``end`` have the run's ``folder``; ``regime``, whose ``return`` is of its own episodes,
    has ``start``, ``first_tenth`` and ``last_tenth``.

    Args:
        console: Where to; the standard output by default.
        form: ``"auto"`` for a live view where it can be drawn, else lines; ``"lines"`` or ``"json"`` always.
        every: Updates between two JSON objects of progress, >= 1.

    Raises:
        ValueError: If ``every`` is not a whole number >= 1.
    """

    def __init__(self, console: Console | None = None, form: Form = "auto", every: int = 100) -> None:
        self._console = console or Console(markup=False, emoji=False)
        self._form = form
        self._every = check_whole("every", every, least=1, unit="updates")

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Say what the optimizer's memory is and begin."""
        self._story, memory = Story(agent), agent.describe_half_life()
        self._live: Live | None = None
        if self._form == "json":
            self._print_json("start", memory=memory, folder=logger.folder)
            return
        if memory is not None:
            self._console.print(memory, highlight=False, soft_wrap=True)
        moves = self._console.is_terminal and not self._console.is_dumb_terminal
        self._pause = _SECONDS_BETWEEN_LINES
        if moves and self._form == "auto":
            self._pause = _SECONDS_BETWEEN_VIEWS
            # Without a thread of its own, which would wait for the interpreter while it trains.
            self._live = Live(LiveView(self._story), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
        self._next = time.perf_counter() + self._pause

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Bring it up to date."""
        ended = self._story.go_on()
        if self._form == "json":
            if ended is not None:
                self._print_regime(ended)
            if agent.num_updates % self._every == 0:
                self._print_json("progress")
            return None
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self._pause
            self._show()
        return None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Show the last state and leave it standing."""
        if self._form == "json":
            self._print_json("end", folder=logger.folder)
            return
        self._show()
        if self._live is not None:
            self._live.stop()

    def _show(self) -> None:
        if self._live is not None:
            self._live.refresh()
        else:
            self._console.print("  ".join(self._parts()), highlight=False, soft_wrap=True)

    def _parts(self) -> Iterator[str]:
        story = self._story
        yield f"{story.step:>9,} / {story.total:,} steps"
        yield f"{story.fps:,.0f} fps"
        if math.isfinite(story.mean_return):
            yield f"return {story.mean_return:.1f}"
        if story.half_life is not None:
            yield f"half-life {story.half_life:.0f} updates"
        if story.regime:
            yield f"regime {story.regime:,} since {story.regimes[-1].start:,}"
        if math.isfinite(story.seconds_left):
            yield f"{story.seconds_left:.0f} s left"

    def _print_regime(self, ended: LivedRegime) -> None:
        tenths = {"first_tenth": ended.first_tenth, "last_tenth": ended.last_tenth}
        own: dict[str, Any] = {"return": ended.mean, "half_life": ended.half_life, "regime": ended.number}
        self._print_json("regime", **own, start=ended.start, **tenths)

    def _print_json(self, event: str, **more: Any) -> None:
        story = self._story
        values = {
            "step": story.step,
            "total": story.total,
            "fps": round(story.fps, 1),
            "return": story.mean_return,
            "half_life": story.half_life,
            "regime": story.regime,
        }
        self._console.out(json_line(event, **{**values, **more}), highlight=False)


def json_line(event: str, **values: Any) -> str:
    """One object of JSON lines: numbers that are not finite are null, paths are text."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps({"event": event, **plain}, default=str)
