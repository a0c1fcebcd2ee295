"""``rl-rms plot RUN...``: learning curves over the changes of the environment."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_rms.cli.errors import UserError, require
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import CURVE

if TYPE_CHECKING:
    from rl_rms.cli.groups import Group

_ENDINGS = (".png", ".svg")


def main(argv: Sequence[str]) -> int:
    """Plot with the arguments after ``rl-rms plot``.

    Raises:
        UserError: If a folder is not a run's or has no returns, environments are mixed, the output's suffix is not
            .png or .svg, or several seeds are drawn without the extra ``plots``.
    """
    from rl_rms.cli.groups import WORDS, find_groups, print_comparison

    parser = Parser(
        prog="rl-rms plot",
        usage="rl-rms plot RUN ... [--output FILE]",
        description=(
            "Draw mean episode return against env steps, with the environment's changes below; for several seeds "
            "the interquartile mean and its 95 % bootstrap band."
        ),
        examples=[
            "rl-rms plot runs/drifting_cartpole/*-seed0",
            "rl-rms plot runs/drifting_cartpole --output compared.svg",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=WORDS)
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help=f"File to write, .png or .svg; by default {CURVE} in the run's folder, or comparison.png here.",
    )
    arguments = parser.parse_args(list(argv))
    if arguments.output and Path(arguments.output).suffix not in _ENDINGS:
        raise UserError(f"--output must end in .png or .svg, got {arguments.output!r}")
    groups = find_groups(arguments.runs)
    if any(len(group.logs) > 1 for group in groups):
        require("plots", "plots of several seeds need rliable", "rliable")
    output = Path(arguments.output) if arguments.output else _default(groups)

    from rl_rms.cli.plots import learning_curve, save

    _report_truncated(groups)
    save(learning_curve(groups), output)
    print_comparison(groups, output)
    print(output)
    return 0


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
