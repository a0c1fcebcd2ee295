"""``rl-rms compare RUN...``: a table that compares the returns of groups of runs."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.errors import UserError, require
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import Log

if TYPE_CHECKING:
    from rl_rms.cli.groups import Group
    from rl_rms.studies.intervals import Estimate

_ENDINGS = (".md", ".json")
# A bootstrap interval needs at least this many seeds.
FEWEST_SEEDS = 3
_MEASURES = {"whole_run": "whole run", "end": "end of the run"}


@dataclass(frozen=True)
class Row:
    """The scores of a group of runs, compared with the first group.

    Attributes:
        group: Name of the group.
        seeds: Number of runs in the group.
        returns: Interquartile mean of the group's scores.
        difference: Interquartile mean of the differences from the first group, paired by seed; None for the first
            group, and if no seeds match.
        pairs: Number of seeds that occur in both groups.
        improvement: Probability that a run has a higher score than a run of the first group; None for the first
            group.
    """

    group: str
    seeds: int
    returns: "Estimate"
    difference: "Estimate | None"
    pairs: int
    improvement: "Estimate | None"


def main(argv: Sequence[str]) -> int:
    """Compare the runs in the arguments after ``rl-rms compare``.

    Raises:
        UserError: If a folder has no run or no returns, if the runs have different environments or no common env
            steps, if the output's suffix is not .md or .json, or if the extra ``plots`` is missing.
    """
    from rl_rms.cli.groups import WORDS, common_steps, find_groups

    parser = Parser(
        prog="rl-rms compare",
        usage="rl-rms compare RUN ... [--output FILE]",
        description=(
            "Print a table of the returns of groups of runs: interquartile means, differences from the first "
            "group, and probabilities of improvement. Differences are paired by seed. Groups of three or more "
            "seeds have 95 % bootstrap intervals."
        ),
        examples=[
            "rl-rms compare runs/drifting_cartpole",
            "rl-rms compare runs/drifting_cartpole --output comparison.md",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=WORDS)
    parser.add_argument("--output", type=str | None, default=None, help="File to write, .md or .json.")
    arguments = parser.parse_args(list(argv))
    if arguments.output and Path(arguments.output).suffix not in _ENDINGS:
        raise UserError(f"--output must end in .md or .json, got {arguments.output!r}")
    require("plots", "comparisons need rliable", "rliable")
    groups = find_groups(arguments.runs)
    begin, end = common_steps([log for group in groups for log in group.logs])
    _report_shortest(groups, end)
    tables = {measure: compare(groups, measure, begin, end) for measure in _MEASURES}
    text = to_markdown(tables, begin, end)
    print(text, end="")
    if arguments.output:
        output = Path(arguments.output)
        files.write(output, text if output.suffix == ".md" else to_json(groups, tables, begin, end))
        print(f"written to {output}", file=sys.stderr)
    return 0


def _report_shortest(groups: Sequence["Group"], end: float) -> None:
    """Name the run that ends at env step ``end``, if it ends before 90 % of the longest run's env steps."""
    ends = {log.folder: log.series(RETURN)[0][-1] for group in groups for log in group.logs}
    if end < 0.9 * max(ends.values()):
        shortest = min(ends, key=lambda folder: ends[folder])
        print(f"returns are compared up to env step {end:,.0f}, where {shortest} ends", file=sys.stderr)


def score(log: Log, measure: str, begin: float, end: float) -> float:
    """Return the mean return from env step ``begin`` to ``end``; for measure ``"end"``, the return at ``end``."""
    import numpy as np

    steps, returns = map(np.array, log.series(RETURN))
    if measure == "end" or begin == end:
        return float(np.interp(end, steps, returns))
    grid = np.concatenate([[begin], steps[(steps > begin) & (steps < end)], [end]])
    values = np.interp(grid, steps, returns)
    return float(np.sum(np.diff(grid) * (values[1:] + values[:-1]) / 2) / (end - begin))


def compare(groups: Sequence["Group"], measure: str, begin: float, end: float) -> list[Row]:
    """Compare each group's scores with the first group's scores, for measure ``"whole_run"`` or ``"end"``."""
    from rl_rms.studies.intervals import probability_of_improvement

    scores = [[score(log, measure, begin, end) for log in group.logs] for group in groups]
    reference, rows = _by_seed(groups[0], scores[0]), []
    for index, (group, of_group) in enumerate(zip(groups, scores, strict=True)):
        own = _by_seed(group, of_group) if index else {}
        differences = [value - reference[seed] for seed, value in own.items() if seed in reference]
        improvement = None
        if index:
            improvement = probability_of_improvement(of_group, scores[0])
            if min(len(of_group), len(scores[0])) < FEWEST_SEEDS:
                improvement = improvement._replace(low=math.nan, high=math.nan)
        rows.append(
            Row(
                group.name,
                len(of_group),
                interquartile(of_group),
                interquartile(differences) if differences else None,
                len(differences),
                improvement,
            )
        )
    return rows


def _by_seed(group: "Group", scores: Sequence[float]) -> dict[int, float]:
    """Return scores by seed, without runs whose seed is unknown or occurs more than once in the group."""
    seeds = [log.seed for log in group.logs]
    return {
        seed: value
        for seed, value in zip(seeds, scores, strict=True)
        if seed is not None and seeds.count(seed) == 1
    }


def interquartile(scores: Sequence[float]) -> "Estimate":
    """Compute the interquartile mean of scores, with an interval for at least `FEWEST_SEEDS` scores."""
    from rl_rms.studies.intervals import interquartile_mean

    estimate = interquartile_mean(scores)
    return estimate if len(scores) >= FEWEST_SEEDS else estimate._replace(low=math.nan, high=math.nan)


def to_markdown(tables: dict[str, list[Row]], begin: float, end: float) -> str:
    """Write the comparison as Markdown, with aligned columns."""
    first = next(iter(tables.values()))
    text = (
        f"The table compares mean returns of the last 100 episodes, from env step {begin:,.0f} to {end:,.0f}.\n"
        "Each return is an interquartile mean over seeds. "
        f"With {FEWEST_SEEDS} or more seeds, it has a 95 % interval.\n"
    )
    if len(first) > 1:
        text += f"The reference is {first[0].group}. Differences from it are paired by seed.\n"
    for measure, rows in tables.items():
        cells = [["group", "seeds", f"return, {_MEASURES[measure]}"]]
        cells += [[row.group.replace("|", r"\|"), str(row.seeds), cell(row.returns)] for row in rows]
        if len(rows) > 1:
            cells[0] += ["difference", "pairs", "probability of improvement"]
            for line, row in zip(cells[1:], rows, strict=True):
                line += [cell(row.difference), str(row.pairs or ""), cell(row.improvement)]
        text += f"\n{_aligned(cells)}"
    return text


def cell(estimate: "Estimate | None") -> str:
    """Format an estimate, without its interval if the ends are nan."""
    from rl_rms.studies.intervals import short

    if estimate is None:
        return ""
    return short(estimate.middle) if math.isnan(estimate.low) else str(estimate)


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells
    ]
    return "\n".join([lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]) + "\n"


def to_json(groups: Sequence["Group"], tables: dict[str, list[Row]], begin: float, end: float) -> str:
    """Write the comparison as JSON, with the folders and seeds of each group. Missing values are null."""
    written = []
    for index, group in enumerate(groups):
        of_group: dict[str, Any] = {
            "name": group.name,
            "folders": [str(log.folder) for log in group.logs],
            "seeds": [log.seed for log in group.logs],
        }
        for measure, rows in tables.items():
            row = rows[index]
            of_group[measure] = {
                "return": _plain(row.returns),
                "difference": _plain(row.difference),
                "pairs": row.pairs,
                "probability_of_improvement": _plain(row.improvement),
            }
        written.append(of_group)
    return json.dumps({"first_step": begin, "last_step": end, "groups": written}, indent=2) + "\n"


def _plain(estimate: "Estimate | None") -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}
