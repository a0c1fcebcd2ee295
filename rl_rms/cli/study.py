"""``rl-rms study NAME``: runs a study, prints its tables and verdict, and writes page, figure, data and events."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_rms.agents import files
from rl_rms.cli.console import Counter, make_console
from rl_rms.cli.errors import UserError, require, suggestion
from rl_rms.cli.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Run studies with the arguments after ``rl-rms study``.

    Raises:
        UserError: If a study does not exist or has no saved data for ``--redraw``, if an option is out of its
            range, or if the extra ``plots`` is not installed.
    """
    from rl_rms.studies import STUDIES

    parser = Parser(
        prog="rl-rms study",
        usage="rl-rms study NAME ... [--OPTION VALUE ...]",
        description="Test claims of RMSprop's theory. A study writes tables, a figure, a verdict and TensorBoard "
        "events.",
        examples=[
            "rl-rms study --list",
            "rl-rms study saddle --quick",
            "rl-rms study half_life clipping --seeds 20",
            "rl-rms study all",
        ],
    )
    parser.add_name(
        "names",
        [*STUDIES, "all"],
        nargs="*",
        metavar="NAME",
        help="Names of studies, or only 'all' for every study and a README.md with the verdicts.",
    )
    parser.add_argument("--list", action="store_true", help="List the studies and exit.")
    parser.add_argument(
        "--quick", action="store_true", help="Measure fewer settings and seeds, in under 20 seconds per study."
    )
    parser.add_argument(
        "--redraw",
        action="store_true",
        help="Rebuild the page, figure and verdict from saved data, without new measurements.",
    )
    parser.add_argument(
        "--seeds", type=int | None, default=None, help="Number of seeds, >= 2; by default each study's own number."
    )
    parser.add_argument("--processes", type=int, default=2, help="Processes that measure in parallel, >= 1.")
    parser.add_argument("--output", type=str, default="runs/studies", help="Folder for pages, figures and data.")
    parser.add_argument("--runs_dir", type=str, default="runs/studies", help="Folder for TensorBoard events.")
    arguments = parser.parse_args(list(argv))
    if arguments.list:
        print("\n".join(f"{name:<21} {summary}" for name, summary in STUDIES.items()))
        return 0
    for number, least in (("processes", 1), ("seeds", 2)):
        if arguments[number] is not None and arguments[number] < least:
            raise UserError(f"--{number} must be >= {least}, got {arguments[number]}")
    if not arguments.names:
        raise UserError(
            "the name of a study is missing; rl-rms study --list lists the names, and rl-rms study all runs every "
            "study"
        )
    names = list(STUDIES) if arguments.names == ["all"] else arguments.names
    for name in names:
        if name not in STUDIES:
            raise UserError(
                f"there is no study {name!r}; rl-rms study --list lists the studies{suggestion(name, STUDIES)}"
            )
        if arguments.redraw and not (Path(arguments.output) / f"{name}.json").is_file():
            raise UserError(
                f"--redraw needs the data of a study, but {arguments.output}/{name}.json does not exist; leave "
                "--redraw out to measure"
            )
    require("plots", "studies need rliable", "rliable")
    output = Path(arguments.output)
    for name in names:
        if arguments.redraw:
            options = None
        else:
            options = {"quick": arguments.quick, "seeds": arguments.seeds, "processes": arguments.processes}
        run_study(name, output, Path(arguments.runs_dir), options)
    if arguments.names == ["all"]:
        print(f"overview     {write_overview(names, output)}")
    print(f"TensorBoard  tensorboard --logdir {arguments.runs_dir}")
    return 0


def run_study(name: str, output: Path, runs_dir: Path, options: dict[str, Any] | None) -> None:
    """Run a study, write its page, figure, data and events, and print its tables and verdict.

    If ``options`` is None, the results are read from the saved data instead.
    """
    from rich.table import Table

    from rl_rms.studies import load
    from rl_rms.studies.frame import run
    from rl_rms.studies.pages import Finding, read, write

    study = load(name)
    console = make_console()
    began = time.perf_counter()
    if options is None:
        results = read(study, output)
    else:
        with Counter(console, name) as counter:
            results = run(study, **options, progress=counter.show)
    finding = Finding.of(study, results)
    page = write(finding, output, events=runs_dir)
    for number, measured in enumerate(finding.tables):
        table = Table(title=None if number else name, title_justify="left")
        for i, heading in enumerate(measured.header):
            table.add_column(heading, justify="right" if i else "left")
        for row in measured.rows:
            table.add_row(*row)
        console.print(table)
    console.print(str(finding.verdict), style="bold")
    console.print(f"{page}, {time.perf_counter() - began:.0f} s\n")


def write_overview(names: Sequence[str], folder: Path) -> Path:
    """Write README.md with the claims and verdicts of studies, and return its path."""
    from rl_rms.studies import load
    from rl_rms.studies.pages import read

    lines = ["| study | claim | verdict |", "|---|---|---|"]
    for name in names:
        study = load(name)
        lines.append(f"| [{name}]({name}.md) | {study.claim} | {study.verdict(read(study, folder)).summary} |")
    overview = "\n".join(lines)
    takes = (
        "`rl-rms study NAME` runs one study, and `rl-rms study all` runs all of them. A study takes one to ten "
        "minutes on two cores; with `--quick`, it takes under 20 seconds."
    )
    page = folder / "README.md"
    files.write(page, f"# Studies of RMSprop's theory\n\n{takes}\n\n{overview}\n")
    return page
