"""Progress of a training for the eye: a live line in a terminal, plain lines anywhere else."""

import time
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rl_rms.agents.callbacks import Callback
from rl_rms.agents.logger import Logger
from rl_rms.optimizer import RMSprop

if TYPE_CHECKING:
    from rl_rms.agents.base import OnPolicyAgent

_SECONDS_BETWEEN_LINES = 5.0


class ProgressCallback(Callback):
    """Shows env steps, env steps a second, mean return, half-life and the time left.

    Args:
        console: Where to; the standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Progress | None = None

    def on_training_start(self, agent: "OnPolicyAgent", logger: Logger) -> None:
        """Say what the optimizer's memory is and begin the line."""
        memory = agent.memory()
        if memory is not None:
            self._console.print(memory, highlight=False)
        self._begun = time.perf_counter(), agent.num_timesteps
        self._next_line = self._begun[0] + _SECONDS_BETWEEN_LINES
        if self._console.is_terminal:
            self._next_line = self._begun[0]
            self._live = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                refresh_per_second=4,
            )
            self._task: TaskID = self._live.add_task(
                "", total=agent.target_timesteps, completed=agent.num_timesteps, status=""
            )
            self._live.start()

    def on_update(self, agent: "OnPolicyAgent", logger: Logger) -> bool | None:
        """Bring the line up to date."""
        now = time.perf_counter()
        if self._live is not None:
            if now >= self._next_line:
                self._next_line = now + 0.2
                self._show(agent)
        elif now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            self._line(agent)
        return None

    def on_training_end(self, agent: "OnPolicyAgent", logger: Logger) -> None:
        """Show the last state and leave it standing."""
        if self._live is not None:
            self._show(agent)
            self._live.stop()
            self._live = None
        else:
            self._line(agent)

    def _show(self, agent: "OnPolicyAgent") -> None:
        assert self._live is not None
        completed = min(agent.num_timesteps, agent.target_timesteps)
        self._live.update(self._task, completed=completed, status=self._status(agent))

    def _line(self, agent: "OnPolicyAgent") -> None:
        fps = self._fps(agent)
        left = (agent.target_timesteps - agent.num_timesteps) / fps if fps > 0 else float("nan")
        line = f"{agent.num_timesteps:>9,} / {agent.target_timesteps:,} steps  {self._status(agent)}"
        self._console.print(f"{line}  {max(left, 0.0):.0f} s left", highlight=False, soft_wrap=True)

    def _status(self, agent: "OnPolicyAgent") -> str:
        parts = [f"{self._fps(agent):,.0f} fps"]
        if agent.episodes:
            parts.append(f"return {np.mean([episode.ret for episode in agent.episodes]):.1f}")
        if isinstance(agent.optimizer, RMSprop):
            parts.append(f"half-life {agent.optimizer.half_life:.0f} updates")
        return "  ".join(parts)

    def _fps(self, agent: "OnPolicyAgent") -> float:
        started, timesteps = self._begun
        return (agent.num_timesteps - timesteps) / max(time.perf_counter() - started, 1e-9)
