"""``rl-rms plot RUN...``: learning curves, with the changes of the environment below."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rl_rms.cli.errors import UserError, require
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import CURVE

if TYPE_CHECKING:
    from rl_rms.cli.groups import Group

_ENDINGS = (".png", ".svg", ".pdf")


def main(argv: Sequence[str]) -> int:
    """Plot runs with the arguments after ``rl-rms plot``.

    Raises:
        UserError: If a folder is not a run folder or has no returns, environments differ, the output's suffix is
            not .png, .svg or .pdf, the size is not two lengths, the numbers of labels and groups differ, or
            several seeds are drawn without the extra ``plots``.
    """
    from rl_rms.cli.groups import WORDS, find_groups, print_comparison

    parser = Parser(
        prog="rl-rms plot",
        usage="rl-rms plot RUN ... [--OPTION VALUE ...]",
        description=(
            "Draw the mean episode return against env steps, with the environment's changes below. For several "
            "seeds, draw the interquartile mean, and for three or more seeds also its 95 % bootstrap band."
        ),
        examples=[
            "rl-rms plot runs/drifting_cartpole/*-seed0",
            "rl-rms plot runs/drifting_cartpole --output figure.pdf --size [5,4] --title 'Two half-lives'",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=WORDS)
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help=f"File to write, .png, .svg or .pdf; by default {CURVE} in the run's folder, or comparison.png in "
        "the current folder for several runs.",
    )
    parser.add_argument(
        "--title", type=str | None, default=None, help="Title; by default the names of agent and environment."
    )
    parser.add_argument(
        "--labels",
        type=list[str] | None,
        default=None,
        help="Labels of the groups, in order; by default their names.",
    )
    parser.add_argument(
        "--size", type=list[float] | None, default=None, help="Width and height in inches, such as [8,4.5]."
    )
    arguments = parser.parse_args(list(argv))
    if arguments.output and Path(arguments.output).suffix not in _ENDINGS:
        raise UserError(f"--output must end in .png, .svg or .pdf, got {arguments.output!r}")
    size = None if arguments.size is None else _size(arguments.size)
    groups = find_groups(arguments.runs)
    if arguments.labels is not None:
        if len(arguments.labels) != len(groups):
            raise UserError(
                f"--labels must name the {len(groups)} groups ({', '.join(group.name for group in groups)}), got "
                f"{len(arguments.labels)} labels: {', '.join(arguments.labels)}"
            )
        groups = [replace(group, name=label) for group, label in zip(groups, arguments.labels, strict=True)]
    if any(len(group.logs) > 1 for group in groups):
        require("plots", "plots of several seeds need rliable", "rliable")
    output = Path(arguments.output) if arguments.output else _default(groups)

    from rl_rms.cli.plots import learning_curve, save

    _report_truncated(groups)
    save(learning_curve(groups, arguments.title, size), output)
    print_comparison(groups, output)
    print(output)
    return 0


def _size(given: list[float]) -> tuple[float, float]:
    if len(given) != 2 or not all(1 <= length <= 100 for length in given):
        raise UserError(f"--size must be a width and a height of 1 to 100 inches, such as [8,4.5], got {given}")
    return given[0], given[1]


def _default(groups: "Sequence[Group]") -> Path:
    single = sum(len(group.logs) for group in groups) == 1
    return groups[0].logs[0].folder / CURVE if single else Path("comparison.png")


def _report_truncated(groups: "Sequence[Group]") -> None:
    for group in groups:
        ends = [log.steps[-1] for log in group.logs]
        if min(ends) < 0.9 * max(ends):
            shortest = min(group.logs, key=lambda log: log.steps[-1])
            print(
                f"{group.name} is drawn up to env step {min(ends):,.0f}, where {shortest.folder} ends",
                file=sys.stderr,
            )
