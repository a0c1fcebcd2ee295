"""The folder of a run: its name and its files."""

import json
import math
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rl_rms.agents import files
from rl_rms.agents.config_file import CONFIG
from rl_rms.agents.metrics import METRICS, STEP, read_metrics
from rl_rms.cli.config import RunConfig, parse_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.yaml_files import read_file

SUMMARY, CURVE = "summary.json", "learning_curve.png"
CHECKPOINTS = "checkpoints"
# The keys of summary.json that commands read, and their types.
_SUMMARY: dict[str, type | tuple[type, ...]] = {
    "total_timesteps": int,
    "wall_time_seconds": (int, float),
    "final_return": (int, float, type(None)),
    "final_return_episodes": int,
    "half_lives": (str, type(None)),
    "interrupted": bool,
    "versions": dict,
}


def new_folder(runs_dir: Path, name: str, seed: int) -> Path:
    """Make the folder ``<runs_dir>/<name>/<date-time>-seed<seed>``. If it exists, append a number to the name.

    Raises:
        UserError: If the folder cannot be made.
    """
    base = f"{datetime.now():%Y%m%d-%H%M%S}-seed{seed}"
    for attempt in range(1, 1000):
        folder = runs_dir / name / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"cannot make the run's folder {folder}: {error.strerror}") from error
        return folder
    raise UserError(
        f"cannot make a folder {base} under {runs_dir / name}, because 999 folders of this name exist; remove "
        "some of them"
    )


@dataclass(frozen=True)
class Log:
    """The log of a training run.

    Attributes:
        folder: Folder of the run.
        metrics: Scalars by tag, each with as many entries as ``steps``; NaN where nothing was logged.
        steps: Env steps of the entries.
    """

    folder: Path
    metrics: dict[str, list[float]]
    steps: list[float]

    def series(self, tag: str) -> tuple[list[float], list[float]]:
        """Return the env steps at which a tag was logged, and its values."""
        values = self.metrics.get(tag, [])
        known = [(step, value) for step, value in zip(self.steps, values, strict=False) if not math.isnan(value)]
        return [step for step, _ in known], [value for _, value in known]


@dataclass(frozen=True)
class Run(Log):
    """A run that was read from its folder.

    Attributes:
        config: Configuration of the run.
    """

    config: RunConfig

    @property
    def seed(self) -> int:
        """The seed of the run's configuration."""
        return self.config.seed


def read_run(folder: str | Path) -> Run:
    """Read the configuration and the metrics of a run.

    Damaged rows and cells of the metrics are skipped and reported on standard error.

    Raises:
        UserError: If the folder is not the folder of a run, or its configuration is wrong.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not the folder of a run: it has no {CONFIG}; runs are in runs/<name>/<date>-seed<seed>"
        )
    config = parse_config(read_file(folder / CONFIG))
    logged = read_metrics(folder / METRICS)
    for problem in logged.problems:
        print(problem, file=sys.stderr)
    metrics = {
        tag: [float(row[tag]) if row[tag] else math.nan for row in logged.rows]
        for tag in logged.columns
        if logged.rows
    }
    steps = metrics.pop(STEP, [])
    return Run(folder, metrics, steps, config)


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the undamaged checkpoint with the most env steps, except ``best.safetensors``.

    Returns:
        The checkpoint, ``final.safetensors`` if several have equal env steps; None if there is no checkpoint.

    Raises:
        UserError: If there are checkpoints, but all are damaged.
    """
    from rl_rms.agents import checkpoint  # torch is slow to import

    found = _checkpoints(folder)
    env_steps: dict[Path, int] = {}
    for path in found:
        try:
            env_steps[path] = checkpoint.read(path)["num_timesteps"]
        except ValueError as error:  # noqa: PERF203 - reading a file takes far longer
            print(f"{error}; it is skipped", file=sys.stderr)
    if found and not env_steps:
        raise UserError(
            f"none of the {len(found)} checkpoints in {folder / CHECKPOINTS} can be read{_mend(folder)}"
        )
    return max(env_steps, key=lambda path: (env_steps[path], path.stem == "final"), default=None)


def require_checkpoint(folder: Path) -> None:
    """Check that a run has a checkpoint to resume from.

    Raises:
        UserError: If the run has no checkpoint, or only ``best.safetensors``.
    """
    if not _checkpoints(folder):
        raise UserError(f"{folder} has no checkpoint to resume from{_mend(folder)}")


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints to resume from, including damaged checkpoints."""
    return sorted(path for path in (folder / CHECKPOINTS).glob("*.safetensors") if path != best_checkpoint(folder))


def best_checkpoint(folder: Path) -> Path:
    """Return the path of the checkpoint of a run's best evaluation."""
    return folder / CHECKPOINTS / "best.safetensors"


def _mend(folder: Path) -> str:
    """Return the end of an error message: how to go on without a usable checkpoint."""
    best = best_checkpoint(folder)
    if best.is_file():
        return f"; copy {best} to {best.with_stem('final')} to resume from the best evaluation"
    return f"; rl-rms train {folder / CONFIG} starts again in a new folder"


def find_unfinished(parent: Path, config: RunConfig) -> Path | None:
    """Find the newest unfinished run of a configuration in a folder of runs; None if there is none."""
    text = config.to_yaml()
    for folder in sorted(parent.glob("*/"), reverse=True):
        file = folder / CONFIG
        if file.is_file() and file.read_text() == text and not _has_ended(folder):
            return folder
    return None


def _has_ended(folder: Path) -> bool:
    """Whether a run's summary is valid and says that the training finished."""
    try:
        return not read_summary(folder)["interrupted"]
    except UserError:
        return False


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the content of a run's ``summary.json``.

    Raises:
        UserError: If the file is missing or damaged.
    """
    path = folder / SUMMARY
    mend = f"rl-rms resume {folder} continues the run and writes that file"
    try:
        summary = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {SUMMARY}, which a run writes at its end; {mend}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}; {mend}") from error
    for key, kind in _SUMMARY.items():
        if not isinstance(summary, dict) or not isinstance(summary.get(key), kind):
            raise UserError(f"{path} is damaged: it has no valid {key}; {mend}")
    return summary  # type: ignore[no-any-return]


def wall_time(folder: Path) -> float:
    """Return the seconds that a run has trained, from the run's summary; 0 without a valid summary."""
    try:
        return float(read_summary(folder)["wall_time_seconds"])
    except UserError:
        return 0.0


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``."""
    files.write(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
