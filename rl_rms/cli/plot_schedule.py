"""``rl-rms plot-schedule SCHEDULE``: a plot of a schedule, or of all changes of a configuration's environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.cli.config import read_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.parser import Parser
from rl_rms.cli.yaml_files import read_value
from rl_rms.envs.schedules import Key, Schedule, stream_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE = 100


def main(argv: Sequence[str]) -> int:
    """Plot schedules with the arguments after ``rl-rms plot-schedule``.

    Raises:
        UserError: If the schedule, the configuration or an option is wrong.
    """
    parser = Parser(
        prog="rl-rms plot-schedule",
        usage="rl-rms plot-schedule SCHEDULE [--OPTION VALUE ...]",
        description="Draw a schedule, or all changes of a configuration's environment, over env steps.",
        examples=[
            "rl-rms plot-schedule drifting_cartpole",
            "rl-rms plot-schedule '{sinusoid: {mean: 9.8, amplitude: 4, period: 20000}}'",
            "rl-rms plot-schedule '{random_walk: {start: 1, std: 0.01}}' --seeds 5 --output walk.svg",
        ],
    )
    parser.add_argument(
        "spec",
        type=str,
        metavar="SCHEDULE",
        help="A schedule such as '{sinusoid: {mean: 9.8, amplitude: 4, period: 20000}}', or a configuration: a "
        "YAML file or a packaged name.",
    )
    parser.add_argument(
        "--until",
        type=float | None,
        default=None,
        help="Last value of the environment's clock, in env steps; by default a few timescales of the schedule, "
        "or the value at the end of the configuration's training.",
    )
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds to draw for random schedules.")
    parser.add_argument("--output", type=str, default="schedule.png", help="File to write, .png or .svg.")
    arguments = parser.parse_args(list(argv))
    if arguments.until is not None and not 1 <= arguments.until < 2**62:
        raise UserError(f"--until must be >= 1 env steps and below 2**62, got {arguments.until!r}")
    if arguments.seeds < 1:
        raise UserError(f"--seeds must be >= 1, got {arguments.seeds!r}")
    output = Path(arguments.output)
    if output.suffix not in {".png", ".svg"}:
        raise UserError(f"--output must end in .png or .svg, got {arguments.output!r}")

    inline = _read_inline(arguments.spec)
    if inline is not None:
        title, changes, first_seed, until = arguments.spec, {"value": inline}, 0, arguments.until
    else:
        config = read_config(arguments.spec)
        changes = config.env.schedules()
        if not changes:
            raise UserError(
                f"{arguments.spec} has no env.changes, so there is no schedule to draw; name another "
                "configuration, such as drifting_cartpole, or give a schedule"
            )
        title = f"{arguments.spec}: {config.env.id}"
        first_seed = config.drift_seed
        until = config.total_timesteps / config.pace if arguments.until is None else arguments.until
    figure = drawn(title, changes, until, range(first_seed, first_seed + arguments.seeds))
    from rl_rms.cli.plots import save

    save(figure, output)
    print(output)
    return 0


def _read_inline(spec: str) -> Schedule | None:
    """Read a schedule from YAML; None if the text is a name instead.

    Raises:
        UserError: If the YAML is not a schedule.
    """
    tree = read_value(spec, "the schedule")
    if isinstance(tree, str) or tree is None:
        return None
    try:
        return Schedule.from_config(tree)
    except ValueError as error:
        raise UserError(str(error)) from error


def drawn(title: str, changes: Mapping[str, Schedule], until: float | None, seeds: Sequence[int]) -> "Figure":
    """Draw each schedule in its own row. Random values depend on the seed and the target, as in an environment.

    Args:
        title: Title of the figure.
        changes: Schedules by target, at least one.
        until: Last value of the clock, in env steps; None draws a few timescales of the slowest schedule.
        seeds: Seeds of the environment.
    """
    from matplotlib.figure import Figure

    from rl_rms.envs.schedules.plotting import draw, telling_span

    end = max(telling_span(schedule) for schedule in changes.values()) if until is None else until
    figure = Figure(figsize=(8, 1.0 + 1.9 * len(changes)), layout="constrained")
    axes: Any = figure.subplots(len(changes), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (target, schedule) in zip(axes, changes.items(), strict=True):
        draw(schedule, axis, end, [Key(seed, stream_of(target)) for seed in seeds])
        axis.set_ylabel(target)
    for axis in axes[:-1]:
        axis.set_xlabel("")
    axes[0].set_title(title if len(title) <= _TITLE else title[: _TITLE - 1] + "…", loc="left", fontsize=9)
    return figure
