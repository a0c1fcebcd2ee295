"""``rl-rms train CONFIG --seeds 0-4``: trains each seed in its own process, with one progress view."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents.interruption import signals_deferred
from rl_rms.cli.config import RunConfig
from rl_rms.cli.console import make_console
from rl_rms.cli.errors import UserError
from rl_rms.cli.signals import status_of

if TYPE_CHECKING:
    from rich.console import Console

_LOOK_EVERY = 0.25
_SECONDS_BETWEEN_LINES = 5.0
_OPTIONS = ("--seeds", "--jobs")
_MOST_SEEDS = 1_000


def take_options(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split the words after ``rl-rms train CONFIG`` into ``--seeds``, ``--jobs`` and the other words.

    Returns:
        The other words, and the values of the given options.

    Raises:
        UserError: If an option has no value.
    """
    rest: list[str] = []
    options: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, separator, value = word.partition("=")
        if name not in _OPTIONS:
            rest.append(word)
            continue
        options[name] = value if separator else next(remaining, "")
        if not options[name]:
            raise UserError(f"{name} needs a value, such as {name} {'0-4' if name == '--seeds' else '2'}")
    return rest, options


def parse_seeds(text: str) -> list[int]:
    """Read the seeds in ``0-4`` or ``0,3,7``.

    Raises:
        UserError: If the text has another form, or names a seed twice or too many seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,100})(?:-(\d{1,100}))?", part.strip())
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise UserError(f"--seeds must be a range such as 0-4 or a list such as 0,3,7, got {text!r}")
        if int(found[2] or found[1]) >= 2**62:
            raise UserError(f"--seeds must name seeds below 2**62, got {text!r}")
        named = range(int(found[1]), int(found[2] or found[1]) + 1)
        if len(seeds) + len(named) > _MOST_SEEDS:
            raise UserError(f"--seeds must name at most {_MOST_SEEDS:,} seeds, got {text!r}")
        repeated = set(seeds).intersection(named)
        if repeated:
            raise UserError(f"--seeds names seed {min(repeated)} twice, got {text!r}")
        seeds += named
    return seeds


def parse_jobs(text: str | None) -> int:
    """Read the number of processes, which is the number of CPUs by default.

    Raises:
        UserError: If the number is not a whole number >= 1.
    """
    if text is None:
        return os.cpu_count() or 1
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:
        raise UserError(f"--jobs must be a whole number >= 1, got {text!r}")
    return int(text)


def check_one_process(config: RunConfig, words: Sequence[str]) -> None:
    """Check that each seed trains in one process.

    Raises:
        UserError: If ``--seed`` is given too, or Ray or several processes of torchrun would train one agent.
    """
    if any(word.partition("=")[0] == "--seed" for word in words):
        raise UserError("--seed and --seeds cannot be combined; leave --seed out")
    if config.scale.engine == "ray" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "--seeds trains each seed in one process, so it does not work with Ray or torchrun; give one --seed "
            "instead"
        )


class Training:
    """The process that trains with one seed, and its progress."""

    def __init__(self, seed: int, command: Sequence[str]) -> None:
        self.seed = seed
        self.last: dict[str, Any] = {}
        self.folder: Path | None = None
        self.messages: list[str] = []
        self.events: list[dict[str, Any]] = []
        # The process has its own session, so that Ctrl-C in a terminal reaches it only through `interrupt`.
        self.process = subprocess.Popen(
            [*command, "--seed", str(seed), "--progress", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                    if event["event"] != "regime":  # the return of a regime is not the return of the last episodes
                        self.last = {"step": event["step"], "total": event["total"], "return": event["return"]}
                except (ValueError, TypeError, KeyError):
                    self.messages.append(line.rstrip("\n"))
                    continue
                self.folder = Path(event["folder"]) if event.get("folder") else self.folder
                self.events.append({"seed": self.seed, **event})

    def has_ended(self) -> bool:
        """Whether the process has ended and all its output was read."""
        if self.process.poll() is None:
            return False
        self._reader.join()
        return True

    def interrupt(self) -> None:
        """Ask the training to save and end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def __str__(self) -> str:
        """A line of progress, such as ``seed 3: 12,000 / 20,000 steps, return 31.4``."""
        if not self.last:
            return f"seed {self.seed}: starting"
        ret = "" if self.last["return"] is None else f", return {self.last['return']:.1f}"
        return f"seed {self.seed}: {self.last['step']:,} / {self.last['total']:,} steps{ret}"


def train_seeds(config: RunConfig, command: Sequence[str], seeds: Sequence[int], jobs: int) -> int:
    """Train each seed in its own process.

    Args:
        config: The configuration of all seeds.
        command: Words that start a training run. The seed and the progress option are appended.
        seeds: The seeds.
        jobs: Maximum number of simultaneous processes.

    Returns:
        Exit status: 0, 1 if a seed failed, or 130 after Ctrl-C (143 after SIGTERM).
    """
    view = _View(config, seeds)
    trainings: list[Training] = []
    status = 0
    try:
        with view:
            try:
                _supervise(trainings, command, list(seeds), jobs, view)
            except KeyboardInterrupt as interrupt:
                status = status_of(interrupt)
                view.print("stopping after each seed has saved; a second Ctrl-C stops at once")
                with signals_deferred():
                    for training in trainings:
                        training.interrupt()
                _supervise(trainings, command, [], jobs, view)
    except KeyboardInterrupt as interrupt:
        status = status_of(interrupt)
    finally:
        for training in trainings:
            training.close()
    return _report(config, trainings, status)


def _supervise(
    trainings: list[Training], command: Sequence[str], waiting: list[int], jobs: int, view: "_View"
) -> None:
    """Train the waiting seeds, at most ``jobs`` at a time, until all training runs have ended."""
    while True:
        running = [one for one in trainings if not one.has_ended()]
        for seed in waiting[: max(jobs - len(running), 0)]:
            with signals_deferred():
                trainings.append(Training(seed, command))
            waiting.remove(seed)
            running.append(trainings[-1])
        view.show(trainings, running)
        if not running:
            return
        time.sleep(_LOOK_EVERY)


class _View:
    """One progress view of all seeds: bars, lines or JSON, or nothing with the progress ``none``."""

    def __init__(self, config: RunConfig, seeds: Sequence[int]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._form, self._next = config.progress, time.monotonic() + _SECONDS_BETWEEN_LINES
        self._seeds, self._printed = len(seeds), dict.fromkeys(seeds, 0)
        self._console = _console(config)
        self._bars: Progress | None = None
        if self._form == "auto" and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars = Progress(
                TextColumn("seed {task.fields[seed]}"),
                BarColumn(20),
                TextColumn("{task.completed:,.0f} / {task.total:,.0f} steps  return {task.fields[ret]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )
            total = config.total_timesteps
            self._tasks = {seed: self._bars.add_task("", total=total, seed=seed, ret="-") for seed in seeds}

    def __enter__(self) -> "_View":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bars is not None:
            self._bars.stop()

    def print(self, text: str) -> None:
        """Print a line above the bars, or on standard error if there are no bars."""
        if self._bars is not None:
            self._bars.console.print(text)
        else:
            print(text, file=sys.stderr)

    def show(self, trainings: Sequence[Training], running: Sequence[Training]) -> None:
        """Update the bars, print new JSON events, or print a line of text at most every five seconds."""
        if self._form == "json":
            for one in trainings:
                new = one.events[self._printed[one.seed] :]
                self._printed[one.seed] += len(new)
                for event in new:
                    print(json.dumps(event), flush=True)
        elif self._bars is not None:
            for one in trainings:
                if one.last:
                    ret = "-" if one.last["return"] is None else f"{one.last['return']:.1f}"
                    step = min(one.last["step"], one.last["total"])
                    self._bars.update(self._tasks[one.seed], completed=step, ret=ret)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
            ended = len(trainings) - len(running)
            text = "; ".join([f"{ended} of {self._seeds} seeds ended", *map(str, running)])
            self._console.print(text, soft_wrap=True)


def _console(config: RunConfig) -> "Console":
    return make_console(quiet=config.progress in ("json", "none"))


def _report(config: RunConfig, trainings: Sequence[Training], status: int) -> int:
    """Print the run folders of the seeds and, on standard error, messages of seeds that were not interrupted.

    Returns:
        Exit status: ``status`` if it is not 0, else 1 if a seed failed.
    """
    console = _console(config)
    failed = []
    for one in trainings:
        code = one.process.returncode
        # SIGINT ends a process that has not begun to train.
        stopped = status != 0 and code in (128 + signal.SIGINT, -signal.SIGINT, -signal.SIGKILL)
        if not stopped:
            for line in one.messages:
                print(f"seed {one.seed}: {line}", file=sys.stderr)
        if code != 0 and not stopped:
            failed.append(one)
        if config.progress == "none" and one.folder is not None:
            print(one.folder)
        result = f"{one}  {one.folder}" if one.folder is not None else str(one)
        console.print(f"{result}  (interrupted)" if stopped else result, soft_wrap=True)
    if status:
        console.print("interrupted; rl-rms resume RUN continues a seed", soft_wrap=True)
    for one in failed:
        mend = "" if one.folder is None else f"; rl-rms resume {one.folder} continues it"
        code = one.process.returncode
        print(f"rl-rms: error: seed {one.seed} failed with exit status {code}{mend}", file=sys.stderr)
    return status or int(bool(failed))
