"""``rl-rms resume RUN``: continues an interrupted run from its newest checkpoint."""

from collections.abc import Sequence
from itertools import takewhile

from rl_rms.agents.config_file import CONFIG
from rl_rms.cli.config import parse_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.groups import NEWEST, newest_run
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import read_run, require_checkpoint
from rl_rms.cli.trust import HELP, check_folder
from rl_rms.cli.yaml_files import read_file


def main(argv: Sequence[str]) -> int:
    """Continue a run with the arguments after ``rl-rms resume``.

    Raises:
        UserError: If an argument is wrong, if the folder is not trusted, or if the run cannot be continued.
    """
    words = list(argv)
    parser = Parser(
        prog="rl-rms resume",
        usage="rl-rms resume RUN ... [--total_timesteps N] [--progress HOW] [--scale.KEY VALUE] [--trust]",
        description="Continue an interrupted run from its newest checkpoint, or a finished run with a larger "
        "--total_timesteps.",
        examples=[
            "rl-rms resume runs/drifting_cartpole",
            "rl-rms resume runs/drifting_cartpole/*-seed0 --total_timesteps 2_000_000",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=NEWEST)
    parser.add_argument("--trust", action="store_true", help=HELP)
    if "-h" in words or "--help" in words:
        parser.print_help()
        return 0
    trust = "--trust" in words
    words = [word for word in words if word != "--trust"]
    named = list(takewhile(lambda word: not word.startswith("-"), words))
    if not named:
        raise UserError("rl-rms resume needs the folder of a run; see rl-rms resume --help")
    words = words[len(named) :]
    for word in words:
        if word.startswith("--") and not word.startswith(("--total_timesteps", "--progress", "--scale.")):
            raise UserError(
                "a resumed run keeps its configuration: only --total_timesteps, --progress, --scale.KEY and "
                f"--trust can be given, got {word}"
            )
    folder = newest_run(named)
    read_run(folder)
    config = parse_config(read_file(folder / CONFIG), words)
    check_folder(config, folder, "resume", trust=trust)

    from rl_rms.cli.train import continue_run, train_with_ray

    if config.scale.engine == "ray":
        require_checkpoint(folder)
        return train_with_ray(config, folder)
    return continue_run(config, folder)
