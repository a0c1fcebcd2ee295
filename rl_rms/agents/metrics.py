"""Reads the complete rows of ``metrics.csv``, even if the file is damaged."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from rl_rms.agents import files

METRICS = "metrics.csv"
STEP, RETURN = "time/total_timesteps", "rollout/ep_rew_mean"


@dataclass(frozen=True)
class Metrics:
    """The rows of a ``metrics.csv``.

    Attributes:
        columns: Tags in the file's order, with `STEP`; empty if the file is missing or has a damaged header.
        rows: Cells by tag. Every cell is the text of a number, or empty if the row has no value for the tag.
        problems: A message about each damaged header, row or cell, with its line number. `rows` omits damaged rows
            and has empty cells in place of damaged cells.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    problems: list[str]


def read_metrics(path: Path) -> Metrics:
    """Read the complete rows of a ``metrics.csv``, and report the damaged rows.

    A row without a finite env step, or with more or fewer cells than the header, is ignored. If a cell is not a
    number, only this cell is ignored.
    """
    lines = files.whole_lines(path)
    if not lines:
        return Metrics([], [], [])
    columns = _cells(lines[0])
    if STEP not in columns or len(set(columns)) < len(columns):
        return Metrics([], [], [f"{path}, line 1: the header is damaged; no row can be read"])
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        values = _cells(line)
        cells = dict(zip(columns, values, strict=False))
        step = _number(cells.get(STEP, ""))
        if len(values) != len(columns) or step is None or not math.isfinite(step):
            problems.append(f"{path}, line {number}: the row is damaged and is left out")
            continue
        bad = [tag for tag, cell in cells.items() if cell and _number(cell) is None]
        problems += [f"{path}, line {number}: {tag} is not a number and is left out" for tag in bad]
        rows.append({tag: "" if tag in bad else cell for tag, cell in cells.items()})
    return Metrics(columns, rows, problems)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # raised for a NUL character in Python 3.10
        return []


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
