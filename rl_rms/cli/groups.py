"""Finds runs, and groups the seeds of one configuration."""

import glob
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rl_rms.agents.config_file import CONFIG, is_of_script
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.errors import UserError
from rl_rms.cli.events import EventLog, has_events, read_events, without_seed
from rl_rms.cli.runs import Log, Run, read_run

# Runs that differ only in these keys are seeds of one configuration. Of these keys, only seed and env.drift_seed
# affect the training.
OWN = (
    "seed",
    "env.drift_seed",
    "runs_dir",
    "progress",
    "checkpoint_every",
    "keep_checkpoints",
    "histogram_every",
    "video_every",
)
# The name of a group in a legend has room for this many settings.
_MOST_SETTINGS = 3
WORDS = (
    "Folders of runs, or folders that contain runs. Runs of Stable-Baselines3 and CleanRL are read from their "
    "TensorBoard events. Runs of one configuration with different seeds form a group. Of several runs of rl-rms "
    "train with one configuration and seed, only the newest is used. 'NAME=GLOB', in quotes, names a group."
)
NEWEST = "Folder of a run, or folders that contain runs; the newest run is used."


@dataclass(frozen=True)
class Group:
    """Runs that are shown together: the seeds of one configuration, or the runs that ``NAME=GLOB`` matches.

    Attributes:
        name: Name of the group.
        logs: The log of each run.
    """

    name: str
    logs: Sequence[Run | EventLog]

    @property
    def runs(self) -> list[Run]:
        """The runs of this library."""
        return [log for log in self.logs if isinstance(log, Run)]


def find_groups(words: Sequence[str]) -> list[Group]:
    """Read runs, and group them by their configuration, or by the name in ``NAME=GLOB``.

    A run can be in several named groups. A word without a name leaves out the runs of earlier words.

    Raises:
        UserError: If a folder does not exist or contains no run, if a run has no returns, or if environments
            differ.
    """
    found: dict[tuple[str | None, str], list[Run | EventLog]] = {}
    seen: dict[Path, set[str | None]] = {}
    for word in words:
        name, folders = _folders(word)
        for folder in folders:
            names_so_far = seen.setdefault(folder.resolve(), set())
            if name in names_so_far or (name is None and names_so_far):
                continue
            names_so_far.add(name)
            log = _read(folder)
            found.setdefault((name, _identity(log) if name is None else ""), []).append(log)
    seeds = {key: _without_repeated(logs) for key, logs in found.items()}
    made = _names([logs for (name, _), logs in seeds.items() if name is None])
    names = iter(made)
    groups = [Group(next(names) if name is None else name, logs) for (name, _), logs in seeds.items()]
    if any(f"{name} (2)" in made for name in made):
        for group in groups:
            print(f"group {group.name}: {', '.join(str(log.folder) for log in group.logs)}", file=sys.stderr)
        print("to name a group, give 'NAME=GLOB' instead of its folder", file=sys.stderr)
    _check_environment(groups)
    return groups


def common_steps(logs: Sequence[Log]) -> tuple[float, float]:
    """Return the first and the last env step of the interval in which all logs have returns.

    Raises:
        UserError: If the logs have no common env steps.
    """
    curves = {log.folder: log.series(RETURN)[0] for log in logs}
    latest = max(curves, key=lambda folder: curves[folder][0])
    shortest = min(curves, key=lambda folder: curves[folder][-1])
    begin, end = curves[latest][0], curves[shortest][-1]
    if begin > end:
        raise UserError(
            f"the runs have no common env steps: {shortest} ends at env step {end:,.0f}, and the first returns of "
            f"{latest} are at {begin:,.0f}; leave one of them out"
        )
    return begin, end


def _without_repeated(logs: Sequence[Run | EventLog]) -> list[Run | EventLog]:
    """Return the logs; of several runs with the same configuration and seed, only the newest.

    All logs of scripts and of other libraries are kept.
    """
    runs = [log for log in logs if isinstance(log, Run) and not is_of_script(log.folder)]
    newest = {
        f"{run.config.seed} {run.config.env.drift_seed} {_identity(run)}": run.folder
        for run in sorted(runs, key=lambda run: _started(run.folder))
    }
    repeated = {run.folder for run in runs} - set(newest.values())
    for folder in sorted(repeated):
        print(f"{folder} is left out: a newer run has the same configuration and seed", file=sys.stderr)
    return [log for log in logs if log.folder not in repeated]


def newest_run(words: Sequence[str]) -> Path:
    """Find the run that was started or resumed last in the folders that command-line words name.

    Raises:
        UserError: If a word matches no folder, or none of the folders is a run of ``rl-rms train``.
    """
    folders = [folder for word in words for folder in _folders(word)[1]]
    ours = [folder for folder in folders if (folder / CONFIG).is_file()]
    runs = {folder.resolve(): folder for folder in ours if not is_of_script(folder)}
    if not runs and ours:
        raise UserError(
            f"{ours[0]} is the log of a script, and only the script can make its environment. Load the agent in "
            "the script, with A2C.load, PPO.load or Reinforce.load"
        )
    if not runs:
        raise UserError(f"{folders[0]} is not the folder of a run: it has no {CONFIG}")
    newest = max(runs.values(), key=_started)
    if len(runs) > 1:
        print(f"{len(runs)} runs match; the newest is used: {newest}", file=sys.stderr)
    return newest


def _started(folder: Path) -> float:
    """Time at which a run was started or resumed."""
    return (folder / CONFIG).stat().st_mtime


def print_comparison(groups: Sequence[Group], output: Path) -> None:
    """Print on standard error which runs the output file compares. Print nothing for a single run."""
    count = sum(len(group.logs) for group in groups)
    if count > 1:
        listed = ", ".join(f"{group.name} ({len(group.logs)})" for group in groups)
        print(f"{output.resolve()} compares {count} runs: {listed}", file=sys.stderr)


def _folders(word: str) -> tuple[str | None, list[Path]]:
    """Return the group name in a command-line word, or None, and the run folders that the word matches."""
    if Path(word).exists():
        return None, _runs_in(Path(word))
    name, separator, pattern = word.partition("=")
    if not separator:
        name, pattern = "", word
    found = sorted(glob.glob(pattern))
    if not found:
        raise UserError(f"{pattern} is not the folder of a run: it does not exist")
    return name or None, [folder for path in found for folder in _runs_in(Path(path))]


def _runs_in(folder: Path) -> list[Path]:
    if _is_run(folder):
        return [folder]
    below = sorted(path for path in folder.rglob("*") if path.is_dir() and _is_run(path))
    outermost = [path for path in below if not any(parent in below for parent in path.parents)]
    if not outermost:
        raise UserError(
            f"{folder} is not the folder of a run: neither it nor a folder in it has a {CONFIG} or "
            "TensorBoard events"
        )
    return outermost


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or has_events(folder)


def _read(folder: Path) -> Run | EventLog:
    if not (folder / CONFIG).is_file():
        return read_events(folder)
    run = read_run(folder)
    if not run.series(RETURN)[0]:
        raise UserError(
            f"{folder} has no episode returns, because no episode ended before its last log entry; train it longer"
        )
    return run


def _identity(log: Run | EventLog) -> str:
    """Return a text that is equal for all seeds of one configuration."""
    if isinstance(log, EventLog):
        return f"{log.library} {log.name} {log.env_id} {_seedless(log.folder.parent)}"
    settings = {key: value for key, value in _flat(asdict(log.config)).items() if key not in OWN}
    # A script's config.yaml is incomplete, so the folders must also be equal except for the seed.
    place = f"{_seedless(log.folder.parent)} {without_seed(log.folder.name)}" if is_of_script(log.folder) else ""
    return f"{json.dumps(settings, sort_keys=True, default=str)} {place}"


def _seedless(folder: Path) -> str:
    """Return a folder's path without the seed at its end, such as ``runs/a`` for ``runs/a-seed3``."""
    return re.sub(r"[-_]?seed[-_=]?\d+$", "", str(folder.resolve()))


def _names(groups: Sequence[Sequence[Run | EventLog]]) -> list[str]:
    """Name each group by the settings in which the groups differ; if none or too many differ, by folder.

    The names of other libraries' groups consist of library and folder.
    """
    settings = {log.folder: _flat(asdict(log.config)) for log, *_ in groups if isinstance(log, Run)}
    keys = dict.fromkeys(key for of_run in settings.values() for key in of_run if key not in OWN)
    differing = [key for key in keys if len({str(of_run.get(key)) for of_run in settings.values()}) > 1]
    names: list[str] = []
    for group in groups:
        log = group[0]
        if isinstance(log, EventLog):
            name = f"{log.library} {log.name}"
        elif len(groups) == 1 and len(group) == 1:
            name = log.folder.name
        elif 0 < len(differing) <= _MOST_SETTINGS:
            name = ", ".join(_setting(key, settings[log.folder].get(key)) for key in differing)
        else:
            name = log.folder.resolve().parent.name
        count = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({count + 1})" if count else name)
    return names


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _setting(key: str, value: Any) -> str:
    """Format a key and its value, such as ``half-life 20,000 steps``."""
    words = key.rpartition(".")[2].replace("_", " ").replace("half life", "half-life")
    if isinstance(value, float):
        value = f"{value:g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    text = re.sub(r"(?<=\d)_(?=\d)", ",", "null" if value is None else str(value))
    is_in_updates = words == "half-life" and re.fullmatch(r"[\d.,]+", text)
    return f"{words} {text} updates" if is_in_updates else f"{words} {text}"


def _check_environment(groups: Sequence[Group]) -> None:
    """Raise an error for runs of several environments, because their returns have no common scale."""
    found: dict[str, Path] = {}
    for group in groups:
        for log in group.logs:
            env_id = log.config.env.id if isinstance(log, Run) else log.env_id
            if env_id is not None:
                found.setdefault(env_id, log.folder)
    if len(found) > 1:
        listed = " and ".join(f"{env_id} ({folder})" for env_id, folder in found.items())
        raise UserError(
            f"all runs must have the same environment, got {listed}; leave out the runs of other environments"
        )
