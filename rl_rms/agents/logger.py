"""A run's scalars, written at once to TensorBoard events and to ``metrics.csv``.

A log that cannot be written any more, on a full disk or in a folder that is gone, does not end a training.
"""

import csv
import io
import re
import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.agents.metrics import STEP, read_metrics

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

_RETURN, _EVALUATIONS = "rollout/ep_rew_mean", r"eval/mean_reward(/at_\d+)?"
# What the HParams tab shows first, of five that it shows at once: hyperparameters, and results by their patterns.
_FIRST = ("env", "half_life", "learning_rate", "seed")
_RESULTS = (
    _RETURN,
    _EVALUATIONS,
    "adaptation/worst_mean",
    "optim/half_life_updates",
    "rollout/ep_len_mean",
    "time/fps",
)
# The Custom Scalars tab by heading: charts by title, each with a line for every tag of the patterns.
_CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "return": {
        "mean return of the last 100 episodes": (_RETURN,),
        "mean return of evaluations": (_EVALUATIONS,),
    },
    "world": {},
    "memory": {
        "half-life in force and matched, updates": ("optim/half_life_updates", "optim/half_life_matched"),
        "second moment v and squared gradients": ("optim/second_moment", "optim/squared_gradient"),
        "squared gradients / v": ("optim/tracking_ratio",),
    },
    "step": {
        "effective step and learning rate": ("optim/effective_step", "train/learning_rate"),
        "learning rate / root of v, median": ("optim/median_rate",),
    },
}
# The same with a line between two bounds.
_BANDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "memory": {
        "log10 of v: median, 10 % and 90 %": (
            "optim/log10_second_moment_median",
            "optim/log10_second_moment_low",
            "optim/log10_second_moment_high",
        )
    }
}
_WORLD = "env/"
_EVENT_FILE = re.compile(r"events\.out\.tfevents\.\d+\.")


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """How TensorBoard's Custom Scalars tab arranges a run: by heading, charts by title.

    A chart is there if one of its tags is, and names all of them: TensorBoard shows the charts of all runs, and
    those twice that differ.

    Args:
        tags: What is logged.
    """
    known = set(tags)
    changing = sorted(tag for tag in known if tag.startswith(_WORLD) and tag != f"{_WORLD}timescale")
    headings: dict[str, dict[str, tuple[str, ...]]] = {
        **_CHARTS,
        "world": {tag: (re.escape(tag),) for tag in changing},
    }
    arranged: dict[str, dict[str, list[Any]]] = {}
    for heading, lines in headings.items():
        # What TensorBoard takes for the beginning of a tag ends here; in bands it takes tags as they are.
        charts: dict[str, list[Any]] = {
            title: ["Multiline", [f"{one}$" for one in those]] for title, those in lines.items()
        }
        charts |= {title: ["Margin", list(those)] for title, those in _BANDS.get(heading, {}).items()}
        shown = {title: chart for title, chart in charts.items() if _matching(chart[1], known)}
        if shown:
            arranged[heading] = shown
    return arranged


def _matching(patterns: Iterable[str], tags: Iterable[str]) -> list[str]:
    """The tags that match, in the order of the patterns."""
    known = list(tags)
    return [tag for pattern in patterns for tag in known if re.fullmatch(pattern, tag)]


class _EventFile:
    """The file of a summary writer, whose thread would end with a traceback where it cannot be written.

    Args:
        path: Path of the file.

    Attributes:
        error: The first error. After it nothing more is written, since it would stand behind half a record.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.error: OSError | None = None

    def write(self, record: bytes) -> None:
        """Write one record."""
        if self.error is None:
            try:
                files.append(self._path, record)
            except OSError as error:
                self.error = error

    def flush(self) -> None:
        """Do nothing: each record is written at once."""

    def close(self) -> None:
        """Do nothing: the file is open only while a record is written."""


def _summary_writer(folder: Path, purge: int | None, earlier: list[str]) -> "SummaryWriter":
    """A summary writer whose event file TensorBoard reads after the earlier ones.

    TensorBoard reads a folder's files in the order of their names, which begin with a time in seconds. The new
    file's second is later than that of each earlier file, whatever the clock shows.
    """
    from torch.utils import tensorboard  # slow to import, so only where it is used

    # A random end, so that no link can wait where the file is made.
    suffix = f".{secrets.token_hex(8)}"
    writer = tensorboard.SummaryWriter(folder, flush_secs=10, purge_step=purge, filename_suffix=suffix)
    writer.flush()
    records = _records_of(writer)
    records._writer.close()
    file = Path(_events_of(writer)._file_name)
    *_, second, rest = file.name.split(".", 4)
    latest = max((int(name.split(".")[3]) for name in earlier if _EVENT_FILE.match(name)), default=0)
    if int(second) <= latest:
        file = file.rename(file.with_name(f"events.out.tfevents.{latest + 1:010d}.{rest}"))
    records._writer = _EventFile(file)
    return writer


def _events_of(writer: "SummaryWriter") -> Any:
    return writer._get_file_writer().event_writer  # type: ignore[no-untyped-call]


def _records_of(writer: "SummaryWriter") -> Any:
    return _events_of(writer)._async_writer._writer


def _set_aside(folder: Path) -> None:
    """Move a folder's log to a subfolder, with a warning, so that two trainings do not make one curve."""
    log = [file for file in (folder / "metrics.csv", *folder.glob("events.out.tfevents.*")) if file.exists()]
    if not log:
        return
    number = 1
    while (folder / f"earlier{number}").exists():
        number += 1
    aside = folder / f"earlier{number}"
    aside.mkdir()
    for file in log:
        file.rename(aside / file.name)
    warnings.warn(
        f"{folder} held the log of another training, which is now in {aside}; give each training its own log_dir",
        stacklevel=6,
    )


def _keep_damaged(path: Path) -> str:
    """Rename a file that cannot be read, and say where it is."""
    kept = path.with_name(f"{path.name}.damaged")
    path.replace(kept)
    return f"{path} could not be read and is now {kept}; a new one begins"


class Logger:
    """Writes scalars by env step; with no folder it writes nothing.

    An entry that cannot be written is left out, with a warning at the first of several; the next is tried anew.

    Args:
        folder: Folder for ``events.out.tfevents.*`` and ``metrics.csv``. It is created if missing, and locked
            against other processes until the end.
        resumed_at: Env steps at which the training continues. A log in the folder is continued after these env
            steps; later rows are dropped with a warning. At 0 a log in the folder is another training's: it moves
            to ``earlier1``, ``earlier2``, ... with a warning.

    Raises:
        UnwritableError: If the folder cannot be written to now, at the beginning.
        TakenError: If another process logs into it.
    """

    def __init__(self, folder: Path | None, resumed_at: int = 0) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None
        self._columns: list[str] = []
        self._hyperparameters: dict[str, bool | int | float | str] = {}
        self._promised: list[str] = []
        self._is_laid_out = self._is_failing = False
        self._hold = ExitStack()
        if folder is not None:
            self._csv = folder / "metrics.csv"
            self._hold.enter_context(files.owned(folder))
            try:
                if not resumed_at:
                    _set_aside(folder)
                self._open(folder, resumed_at)
            except BaseException:
                self._hold.close()
                raise

    def _open(self, folder: Path, resumed_at: int = 0) -> None:
        """Begin an event file, and go on with ``metrics.csv`` behind its last whole line."""
        earlier = [file.name for file in folder.glob("events.out.tfevents.*")]
        # What the folder holds already is laid out as it was.
        self._is_laid_out = bool(earlier) and (bool(resumed_at) or self._is_laid_out)
        purge = resumed_at + 1 if resumed_at else None
        self._writer = _summary_writer(folder, purge, earlier)
        self._events = _records_of(self._writer)._writer
        if self._hyperparameters and not earlier:
            self._show_hyperparameters()
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

    @contextmanager
    def _entry(self) -> "Iterator[SummaryWriter | None]":
        """What an entry is written with; None where it is to be left out."""
        writer = None
        try:
            writer = self._usable_writer()
        except OSError as error:
            self._give_up(error)
        try:
            yield writer
        except OSError as error:
            self._give_up(error)

    def _usable_writer(self) -> "SummaryWriter | None":
        """The summary writer, a new one where the last has failed or its folder is gone."""
        if self.folder is None:
            return None
        if self._writer is not None:
            if not self._is_gone():
                if self._events.error is not None:
                    raise self._events.error
                return self._writer
            self._close()
            files.check_writable(self.folder)
            warnings.warn(f"the log in {self.folder} has been deleted; it is begun anew", stacklevel=5)
        else:
            files.check_writable(self.folder)
        self._open(self.folder)
        self._is_failing = False
        return self._writer

    def _is_gone(self) -> bool:
        """Whether what has been written was deleted."""
        assert self.folder is not None
        return not self.folder.exists() or bool(self._columns and not self._csv.exists())

    def _give_up(self, error: OSError) -> None:
        """Leave an entry out, and say so once."""
        if self._writer is not None and self._is_gone():
            return  # deleted in the midst of an entry: the next begins the log anew, and says that
        self._close()
        if not self._is_failing:
            self._is_failing = True
            said = error if isinstance(error, files.UnwritableError) else files.UnwritableError(self._csv, error)
            warnings.warn(
                f"{said}; the training goes on, its log is left out until there is a way to write it", stacklevel=5
            )

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write(self, num_timesteps: int, scalars: dict[str, float]) -> None:
        """Write scalars at an env step.

        Args:
            num_timesteps: Env steps lived so far: the horizontal axis in TensorBoard.
            scalars: Values by tag, such as ``"rollout/ep_rew_mean"``.
        """
        with self._entry() as writer:
            if writer is None:
                return
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, num_timesteps)
            if not self._is_laid_out and any(tag.startswith(("rollout/", "train/")) for tag in scalars):
                self._is_laid_out = True
                writer.add_custom_scalars(layout([_RETURN, *self._promised, *scalars]))
            self._append({STEP: num_timesteps, **scalars})

    def mark(self, num_timesteps: int, event: str, response: str) -> None:
        """Mark an event at an env step, such as a change of regime, in TensorBoard's Text tab.

        Args:
            num_timesteps: Env steps lived so far.
            event: What happened.
            response: What was done.
        """
        with self._entry() as writer:
            if writer is not None:
                writer.add_text("events/changes", f"{event}: {response}", num_timesteps)

    def text(self, num_timesteps: int, tag: str, markdown: str) -> None:
        """Show a text in TensorBoard's Text tab.

        Args:
            num_timesteps: Env steps lived so far.
            tag: Its name.
            markdown: The text.
        """
        with self._entry() as writer:
            if writer is not None:
                writer.add_text(tag, markdown, num_timesteps)

    def picture(self, num_timesteps: int, tag: str, encoded: bytes) -> None:
        """Show a picture in TensorBoard's Images tab.

        Args:
            num_timesteps: Env steps lived so far.
            tag: Its name.
            encoded: A PNG, or a GIF, which moves.
        """
        with self._entry() as writer:
            if writer is None:
                return
            from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

            value = Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=encoded))
            self._add_summary(Summary(value=[value]), num_timesteps)

    def histogram(self, num_timesteps: int, tag: str, values: "Tensor") -> None:
        """Show how values are spread, in TensorBoard's Histograms and Distributions tabs.

        Args:
            num_timesteps: Env steps lived so far.
            tag: Their name.
            values: Any shape; nothing is shown of none.
        """
        with self._entry() as writer:
            if writer is not None and values.numel() > 0:
                writer.add_histogram(tag, values, num_timesteps)

    def hyperparameters(self, values: dict[str, Any], results: Iterable[str] = ()) -> None:
        """Show hyperparameters in TensorBoard's HParams tab, at the start so that an interrupted run is there too.

        Args:
            values: By name.
            results: Tags that are going to be logged beside those of every run, for the Custom Scalars tab.
        """
        self._promised = list(results)
        self._hyperparameters = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in values.items()
        }
        with self._entry() as writer:
            if writer is not None:
                self._show_hyperparameters()

    def _show_hyperparameters(self) -> None:
        from torch.utils.tensorboard.summary import hparams

        _, start, _ = hparams(self._hyperparameters, {})  # type: ignore[no-untyped-call]
        self._add_summary(start)

    def _show_results(self) -> None:
        """Have the HParams tab show what has been logged of the results beside the hyperparameters.

        It can be said once, so it is at the end. Until then TensorBoard shows all that is logged.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import (
            HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from torch.utils.tensorboard.summary import hparams

        results = dict.fromkeys(_matching(_RESULTS, self._columns), 0.0)
        summary, _, _ = hparams(self._hyperparameters, results)  # type: ignore[no-untyped-call]
        plugin = summary.value[0].metadata.plugin_data
        data = HParamsPluginData.FromString(plugin.content)
        for one in data.experiment.hparam_infos:
            one.differs = one.name in _FIRST  # those that are said to differ come first
        plugin.content = data.SerializeToString()
        self._add_summary(summary)

    def _add_summary(self, summary: Any, num_timesteps: int | None = None) -> None:
        """Write what a summary writer has no method for, or would open a second event file for."""
        assert self._writer is not None
        self._writer._get_file_writer().add_summary(summary, num_timesteps)  # type: ignore[no-untyped-call]

    def _append(self, row: dict[str, float]) -> None:
        """Add a row to ``metrics.csv``; a new column rewrites the file."""
        new = [column for column in row if column not in self._columns]
        if new:
            self._columns += new
            self._rewrite(read_metrics(self._csv).rows)
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="").writerow(row)
        files.append(self._csv, text.getvalue())

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        files.write(self._csv, text.getvalue())

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._hold:
            if kind is None and self._hyperparameters:
                with self._entry() as writer:
                    if writer is not None:
                        self._show_results()
            self._close()
