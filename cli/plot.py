"""``rl-rms plot RUN...``: the learning curves of runs over the changes of their worlds."""

from collections.abc import Sequence
from pathlib import Path

from rl_rms.cli.config import Parser
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import CURVE, read_run


def main(argv: Sequence[str]) -> int:
    """Plot as the words after ``rl-rms plot`` say.

    Returns:
        Exit status.

    Raises:
        UserError: If a folder is no run's, or nothing was logged in it.
    """
    parser = Parser(
        prog="rl-rms plot",
        usage="rl-rms plot RUN ... [--output FILE]",
        description="Draw mean episode return against env steps, with the world's changes under it.",
        examples=[
            "rl-rms plot runs/drifting_cartpole/*-seed0",
            "rl-rms plot runs/drifting_cartpole/* --output compared.svg",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="Folders of runs.")
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help=f"File to write, .png or .svg; by default {CURVE} in the run's folder, or here for several runs.",
    )
    arguments = parser.parse_args(list(argv))

    from rl_rms.cli.plots import learning_curve

    runs = [read_run(folder) for folder in arguments.runs]
    for run in runs:
        if not run.series("rollout/ep_rew_mean")[0]:
            raise UserError(f"{run.folder} has no episode returns yet: it ended before its first logged episode")
    default = runs[0].folder / CURVE if len(runs) == 1 else Path(CURVE)
    output = Path(arguments.output) if arguments.output else default
    if output.suffix not in {".png", ".svg"}:
        raise UserError(f"--output must end in .png or .svg, got {str(output)!r}")
    learning_curve(runs, output)
    print(output)
    return 0
