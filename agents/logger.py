"""A run's scalars, written at once to TensorBoard events and to ``metrics.csv``."""

import csv
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# What the HParams tab shows beside the hyperparameters.
_RESULTS = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "time/fps")
_STEP = "time/total_timesteps"


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

    def hyperparameters(self, values: dict[str, Any]) -> None:
        """Fill TensorBoard's HParams tab, at the start so that an interrupted run stands in it too."""
        if self._writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in values.items()
        }
        experiment, start, _ = hparams(plain, dict.fromkeys(_RESULTS, 0.0))  # type: ignore[no-untyped-call]
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
