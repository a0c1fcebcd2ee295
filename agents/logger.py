"""A run's scalars, written at once to TensorBoard events and to ``metrics.csv``."""

import csv
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

# What the HParams tab shows beside the hyperparameters.
_RESULTS = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps")
# The Custom Scalars tab by heading: charts by title, each of the tags that are logged of those named.
_CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "return": {"mean return of the last 100 episodes": ("rollout/ep_rew_mean",)},
    "world": {},
    "memory": {
        "half-life in force and matched, updates": ("optim/half_life_updates", "optim/match_unbounded"),
        "second moment v and squared gradients": ("optim/second_moment", "optim/squared_gradient"),
        "squared gradients / v": ("optim/tracking_ratio",),
        "effective step": ("optim/effective_step",),
    },
}
_CHANGES = "env/"
_STEP = "time/total_timesteps"


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """How TensorBoard's Custom Scalars tab arranges a run: by heading, charts by title, of the tags there are.

    Args:
        tags: What is logged.
    """
    known = set(tags)
    changing = sorted(tag for tag in known if tag.startswith(_CHANGES))
    charts: dict[str, dict[str, tuple[str, ...]]] = {**_CHARTS, "world": {tag: (tag,) for tag in changing}}
    arranged: dict[str, dict[str, list[Any]]] = {}
    for heading, wanted in charts.items():
        there = {title: [tag for tag in those if tag in known] for title, those in wanted.items()}
        shown = {title: ["Multiline", found] for title, found in there.items() if found}
        if shown:
            arranged[heading] = shown
    return arranged


class Logger:
    """Writes scalars by env step; with no folder it writes nothing.

    Args:
        folder: Where ``events.out.tfevents.*`` and ``metrics.csv`` go; created if missing. A ``metrics.csv``
            that is there already is continued.
        resumed_at: Env steps from which a training goes on. What was logged in the folder later than that, by one
            that was cut off, is dropped, unless it is 0.
    """

    def __init__(self, folder: Path | None, resumed_at: int = 0) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None
        self._columns: list[str] = []
        self._is_laid_out = False
        if folder is not None:
            from torch.utils import tensorboard  # slow to import, so only where it is used

            folder.mkdir(parents=True, exist_ok=True)
            purge = resumed_at + 1 if resumed_at else None
            self._writer = tensorboard.SummaryWriter(folder, flush_secs=10, purge_step=purge)
            self._csv = folder / "metrics.csv"
            if self._csv.exists():
                with self._csv.open(newline="") as file:
                    reader = csv.DictReader(file)
                    rows = list(reader)
                    self._columns = list(reader.fieldnames or [])
                if resumed_at and any(float(row[_STEP]) > resumed_at for row in rows):
                    self._rewrite([row for row in rows if float(row[_STEP]) <= resumed_at])

    def write(self, num_timesteps: int, scalars: dict[str, float]) -> None:
        """Write scalars at an env step.

        Args:
            num_timesteps: Env steps lived so far: the horizontal axis in TensorBoard.
            scalars: Values by tag, such as ``"rollout/ep_rew_mean"``.
        """
        if self._writer is None:
            return
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, num_timesteps)
        if not self._is_laid_out and any(tag.startswith("rollout/") for tag in scalars):
            self._is_laid_out = True
            self._writer.add_custom_scalars(layout(scalars))
        self._append({_STEP: num_timesteps, **scalars})

    def mark(self, num_timesteps: int, event: str, response: str) -> None:
        """Mark an event at an env step, such as a change of regime, in TensorBoard's Text tab.

        Args:
            num_timesteps: Env steps lived so far.
            event: What happened.
            response: What was done.
        """
        if self._writer is not None:
            self._writer.add_text("events/changes", f"{event}: {response}", num_timesteps)

    def text(self, tag: str, markdown: str) -> None:
        """Show a text in TensorBoard's Text tab."""
        if self._writer is not None:
            self._writer.add_text(tag, markdown)

    def picture(self, num_timesteps: int, tag: str, encoded: bytes) -> None:
        """Show a picture in TensorBoard's Images tab.

        Args:
            num_timesteps: Env steps lived so far.
            tag: Its name.
            encoded: A PNG, or a GIF, which moves.
        """
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        value = Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=encoded))
        file_writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        file_writer.add_summary(Summary(value=[value]), num_timesteps)

    def histogram(self, num_timesteps: int, tag: str, values: "Tensor") -> None:
        """Show how values are spread, in TensorBoard's Histograms and Distributions tabs.

        Args:
            num_timesteps: Env steps lived so far.
            tag: Their name.
            values: Any shape; nothing is shown of none.
        """
        if self._writer is not None and values.numel() > 0:
            self._writer.add_histogram(tag, values, num_timesteps)

    def hyperparameters(self, values: dict[str, Any], results: Iterable[str] = ()) -> None:
        """Fill TensorBoard's HParams tab, at the start so that an interrupted run stands in it too.

        Args:
            values: By name.
            results: Tags to be shown beside them, which are going to be logged, besides those of every run.
        """
        if self._writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in values.items()
        }
        experiment, start, _ = hparams(plain, dict.fromkeys((*_RESULTS, *results), 0.0))  # type: ignore[no-untyped-call]
        # add_hparams would open a second event file; in the run's own one, the tab and the scalars are one run.
        file_writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        file_writer.add_summary(experiment)
        file_writer.add_summary(start)

    def _append(self, row: dict[str, float]) -> None:
        """Add a row to ``metrics.csv``; a new column rewrites the file."""
        new = [column for column in row if column not in self._columns]
        if new:
            earlier: list[dict[str, str]] = []
            if self._csv.exists():
                with self._csv.open(newline="") as file:
                    earlier = list(csv.DictReader(file))
            self._columns += new
            self._rewrite(earlier)
        with self._csv.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        beside = self._csv.with_suffix(".csv.part")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(self._csv)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
