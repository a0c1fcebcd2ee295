"""Logs a run's scalars to TensorBoard events and to ``metrics.csv``, without buffering.

Once training has begun, a full disk or a deleted folder does not end the training.
"""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.agents.config_file import CONFIG, is_of_script
from rl_rms.agents.event_file import PATTERN, EventFile
from rl_rms.agents.metrics import METRICS, RETURN, STEP, read_metrics

if TYPE_CHECKING:
    from torch import Tensor

_EVALUATIONS = r"eval/mean_reward(/at_\d+)?"
# Hyperparameters that the HParams tab shows first, and patterns of the tags that the tab shows as results.
_FIRST = ("env", "half_life", "learning_rate", "seed")
_RESULTS = (
    RETURN,
    _EVALUATIONS,
    "adaptation/worst_mean",
    "optim/half_life_updates",
    "rollout/ep_len_mean",
    "time/fps",
)
# Layout of the Custom Scalars tab: heading, chart titles, and patterns of the tags that a chart draws.
_CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "return": {
        "mean return of the last 100 episodes": (RETURN,),
        "mean return of evaluations": (_EVALUATIONS,),
    },
    "environment": {},
    "half-life": {
        "present and matched half-life, updates": ("optim/half_life_updates", "optim/half_life_matched"),
        "second moment v and squared gradients": ("optim/second_moment", "optim/squared_gradient"),
        "squared gradients / v": ("optim/tracking_ratio",),
        "half-lives of the normalizers, env steps": ("half_life/observation", "half_life/reward"),
        "jumps at which the observation normalizer forgot": ("normalizer/jumps",),
    },
    "step": {
        "effective step and learning rate": ("optim/effective_step", "train/learning_rate"),
        "learning rate / root of v, median": ("optim/median_rate",),
    },
}
# Layout of the charts with a line between two bounds: heading, chart titles, and the tags of the line and the
# bounds.
_BANDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "half-life": {
        "log10 of v: median, 10 % and 90 %": (
            "optim/log10_second_moment_median",
            "optim/log10_second_moment_low",
            "optim/log10_second_moment_high",
        )
    }
}
_ENV = "env/"


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """The layout of TensorBoard's Custom Scalars tab: for each heading, charts by title.

    A chart is included if the run has at least one of the chart's tags. An included chart lists all of the chart's
    tags, because TensorBoard draws two runs in one chart only if both layouts list equal tags.

    Args:
        tags: Tags of the run.
    """
    known = set(tags)
    changing = sorted(tag for tag in known if tag.startswith(_ENV) and tag != f"{_ENV}timescale")
    headings: dict[str, dict[str, tuple[str, ...]]] = {
        **_CHARTS,
        "environment": {tag: (re.escape(tag),) for tag in changing},
    }
    arranged: dict[str, dict[str, list[Any]]] = {}
    for heading, lines in headings.items():
        # TensorBoard matches patterns of line charts with the beginning of a tag. Charts with bounds need full
        # tags.
        charts: dict[str, list[Any]] = {
            title: ["Multiline", [f"{pattern}$" for pattern in patterns]] for title, patterns in lines.items()
        }
        charts |= {title: ["Margin", list(band)] for title, band in _BANDS.get(heading, {}).items()}
        shown = {title: chart for title, chart in charts.items() if _matching(chart[1], known)}
        if shown:
            arranged[heading] = shown
    return arranged


def _matching(patterns: Iterable[str], tags: Iterable[str]) -> list[str]:
    """The tags that match a pattern, in the order of the patterns."""
    known = list(tags)
    return [tag for pattern in patterns for tag in known if re.fullmatch(pattern, tag)]


def _set_aside(folder: Path) -> None:
    """Move a folder's log to a subfolder, with a warning, so that two training runs do not share one curve."""
    log = [file for file in (folder / METRICS, *folder.glob(PATTERN)) if file.exists()]
    if not log:
        return
    if is_of_script(folder):
        log.append(folder / CONFIG)
    number = 1
    while (folder / f"earlier{number}").exists():
        number += 1
    aside = folder / f"earlier{number}"
    aside.mkdir()
    for file in log:
        file.rename(aside / file.name)
    warnings.warn(
        f"{folder} had the log of another training run, which is now in {aside}; give each training run its own "
        "log_dir",
        stacklevel=6,
    )


def _keep_damaged(path: Path) -> str:
    """Rename a file that cannot be read, and return the text of a warning."""
    kept = path.with_name(f"{path.name}.damaged")
    path.replace(kept)
    return f"{path} could not be read and was renamed to {kept}; a new file begins"


class Logger:
    """Writes scalars by env step. Without a folder, the logger writes no files.

    Entries that cannot be written are lost. The logger warns only about the first of several consecutive lost
    entries.

    Args:
        folder: Folder for ``events.out.tfevents.*`` and ``metrics.csv``; None writes no files. The folder is
            created if missing, and locked against other processes until the logger's context ends.
        resumed_at: Env steps at which the training continues. A log in the folder is continued after
            ``resumed_at`` env steps; later rows are dropped with a warning. With 0, a log in the folder belongs to
            another training run and is moved to ``earlier1``, ``earlier2``, ... with a warning.

    Raises:
        UnwritableError: If the logger cannot create the folder or write to it.
        TakenError: If another process logs into the folder.
    """

    def __init__(self, folder: Path | None, resumed_at: int = 0) -> None:
        self.folder = folder
        self._events: EventFile | None = None
        self._columns: list[str] = []
        self._hyperparameters: dict[str, bool | int | float | str] = {}
        self._promised: list[str] = []
        self._outputs: list[Callable[[int, dict[str, float]], object]] = []
        self._is_laid_out = self._is_failing = False
        self._hold = ExitStack()
        if folder is not None:
            self._csv = folder / METRICS
            self._hold.enter_context(files.owned(folder))
            try:
                if not resumed_at:
                    _set_aside(folder)
                self._open(folder, resumed_at)
            except BaseException:
                self._hold.close()
                raise

    def _open(self, folder: Path, resumed_at: int = 0) -> EventFile:
        """Begin an event file, and continue ``metrics.csv`` after its last complete line."""
        earlier = any(folder.glob(PATTERN))
        # An earlier event file of the same training run already contains the layout.
        self._is_laid_out = earlier and (bool(resumed_at) or self._is_laid_out)
        events = self._events = EventFile(folder, resumed_at + 1 if resumed_at else None)
        if self._hyperparameters and not earlier:
            events.hyperparameters(self._hyperparameters)
        content = self._csv.read_bytes() if self._csv.exists() else b""
        metrics = read_metrics(self._csv)
        self._columns = metrics.columns
        kept = [row for row in metrics.rows if not resumed_at or float(row[STEP]) <= resumed_at]
        is_torn = bool(content) and not content.endswith(b"\n")
        if not metrics.columns and content:
            metrics.problems.append(_keep_damaged(self._csv))
        elif len(kept) < len(metrics.rows) or metrics.problems or is_torn:
            self._rewrite(kept)
        if len(kept) < len(metrics.rows):
            metrics.problems.append(
                f"{self._csv}: {len(metrics.rows) - len(kept)} rows after env step {resumed_at:,} are dropped, "
                "because the training continues from there"
            )
        for problem in metrics.problems:
            warnings.warn(problem, stacklevel=6)
        return events

    def _add(self, entry: Callable[[EventFile], object]) -> None:
        """Write an entry; skip an entry that cannot be written, with a warning for the first one."""
        if self.folder is None:
            return
        try:
            entry(self._usable_file(self.folder))
        except OSError as error:
            if self._events is not None and self._is_deleted():
                return  # the next entry warns and begins a new log
            self._events = None
            if not self._is_failing:
                self._is_failing = True
                reason = (
                    error if isinstance(error, files.UnwritableError) else files.UnwritableError(self._csv, error)
                )
                warnings.warn(
                    f"{reason}. Training continues, and the log continues when it can be written", stacklevel=4
                )

    def _usable_file(self, folder: Path) -> EventFile:
        """The event file, or a new event file if a write failed or the log was deleted."""
        if self._events is not None and not self._is_deleted():
            return self._events
        was_deleted, self._events = self._events is not None, None
        files.check_writable(folder)
        if was_deleted:
            warnings.warn(f"the log in {folder} has been deleted; a new log begins", stacklevel=5)
        events = self._open(folder)
        self._is_failing = False
        return events

    def _is_deleted(self) -> bool:
        assert self._events is not None
        return not self._events.path.exists() or bool(self._columns and not self._csv.exists())

    def write(self, num_timesteps: int, scalars: dict[str, float]) -> None:
        """Write scalars at an env step.

        Args:
            num_timesteps: Env steps so far, the horizontal axis in TensorBoard.
            scalars: Values by tag, such as ``"rollout/ep_rew_mean"``.
        """

        def entry(events: EventFile) -> None:
            events.scalars(num_timesteps, scalars)
            if not self._is_laid_out and any(tag.startswith(("rollout/", "train/")) for tag in scalars):
                self._is_laid_out = True
                events.layout(layout([RETURN, *self._promised, *scalars]))
            self._append({STEP: num_timesteps, **scalars})

        self._add(entry)
        for output in self._outputs:
            output(num_timesteps, scalars)

    def add_output(self, output: Callable[[int, dict[str, float]], object]) -> None:
        """Also pass the scalars of each later `write` to a function.

        Args:
            output: Function of the env steps and the values by tag. The function may call an experiment tracker.
        """
        self._outputs.append(output)

    def mark(self, num_timesteps: int, event: str, response: str) -> None:
        """Show an event, such as a change of regime, in TensorBoard's Text tab.

        Args:
            num_timesteps: Env steps so far.
            event: The event, such as ``"regime 2"``.
            response: The agent's response, such as ``"forget"``.
        """
        self.text(num_timesteps, "events/changes", f"{event}: {response}")

    def text(self, num_timesteps: int, tag: str, markdown: str) -> None:
        """Show a text in TensorBoard's Text tab.

        Args:
            num_timesteps: Env steps so far.
            tag: Tag of the text.
            markdown: The text.
        """
        self._add(lambda events: events.text(num_timesteps, tag, markdown))

    def picture(self, num_timesteps: int, tag: str, encoded: bytes) -> None:
        """Show an image in TensorBoard's Images tab.

        Args:
            num_timesteps: Env steps so far.
            tag: Tag of the image.
            encoded: A PNG, or a GIF with or without animation.
        """
        self._add(lambda events: events.picture(num_timesteps, tag, encoded))

    def histogram(self, num_timesteps: int, tag: str, values: "Tensor") -> None:
        """Show a distribution in TensorBoard's Histograms and Distributions tabs.

        Args:
            num_timesteps: Env steps so far.
            tag: Tag of the histogram.
            values: Values of any shape; values that are not finite are ignored.
        """
        self._add(lambda events: events.histogram(num_timesteps, tag, values))

    def hyperparameters(self, values: dict[str, Any], results: Iterable[str] = ()) -> None:
        """Show hyperparameters in TensorBoard's HParams tab, also for interrupted runs.

        Args:
            values: Hyperparameters by name.
            results: Tags that the run's callbacks will log, for the layout of the Custom Scalars tab.
        """
        self._promised = list(results)
        self._hyperparameters = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in values.items()
        }
        self._add(lambda events: events.hyperparameters(self._hyperparameters))

    def _append(self, row: dict[str, float]) -> None:
        """Add a row to ``metrics.csv``; a new column rewrites the file."""
        new = [column for column in row if column not in self._columns]
        if new:
            self._columns += new
            self._rewrite(read_metrics(self._csv).rows)
        files.append(self._csv, self._lines([row]))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        files.write(self._csv, self._lines([{column: column for column in self._columns}, *rows]))

    def _lines(self, rows: Iterable[Mapping[str, object]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerows(rows)
        return text.getvalue()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._hold:
            if kind is None and self._hyperparameters:
                tags = _matching(_RESULTS, self._columns)
                self._add(lambda events: events.results(self._hyperparameters, tags, _FIRST))
