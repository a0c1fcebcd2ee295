"""``rl-rms federate FEDERATION``: clients with different environments train one policy, in Flower's simulation."""

import dataclasses
import json
import logging
import os
import re
import sys
import warnings
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_rms.agents import files
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.agents.metrics import METRICS, read_metrics
from rl_rms.cli.config import packaged_configs
from rl_rms.cli.console import Counter, make_console
from rl_rms.cli.errors import UserError
from rl_rms.cli.federation import FEDERATION, Federation, read_federation
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import new_folder
from rl_rms.cli.scale import require_ray
from rl_rms.cli.signals import sigterm_raises, status_of
from rl_rms.cli.trust import HELP, check_folder, see_working_folder
from rl_rms.cli.yaml_files import read_value

# The pyproject.toml of a federation's folder. `flwr run` reads the names of the two Flower apps from this file.
APP = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "rl-rms-federation"
version = "1.0.0"
dependencies = ["rl_rms[flower]"]

[tool.flwr.app]
publisher = "rl-rms"

[tool.flwr.app.components]
serverapp = "rl_rms.cli.flower:server_app"
clientapp = "rl_rms.cli.flower:client_app"

[tool.flwr.app.config]
folder = {folder}
"""


def main(argv: Sequence[str]) -> int:
    """Train a federation with the arguments after ``rl-rms federate``.

    Raises:
        UserError: If the file or an option is wrong, if Flower or Ray is not installed, or if the folder is not
            trusted.
    """
    parser = Parser(
        prog="rl-rms federate",
        usage="rl-rms federate FEDERATION [--OPTION VALUE ...]",
        description=(
            "Train one policy with Flower in the different environments of several clients. FEDERATION is a YAML "
            "file, the name of a packaged federation, or the folder of an interrupted federation to continue."
        ),
        examples=[
            "rl-rms federate cartpoles",
            "rl-rms federate cartpoles --rounds 20 --placement server --workers 4",
            "rl-rms federate cartpoles --prepare true   # for Flower's deployment",
        ],
    )
    parser.add_name(
        "federation",
        packaged_configs("federation"),
        "yaml",
        metavar="FEDERATION",
        help="YAML file, name of a packaged federation, or folder.",
    )
    parser.add_argument("--runs_dir", type=str, default="runs", help="Parent folder of the run's folder.")
    parser.add_argument("--workers", type=int, default=2, help="Clients that train at the same time, >= 1.")
    parser.add_argument(
        "--prepare",
        type=bool,
        default=False,
        help="Whether to write the folder of a Flower app for `flwr run`, and not to train.",
    )
    of_the_file = parser.add_argument_group("keys of the file, which can be overridden")
    # The first sentence about each key in the docstring of FederationConfig.
    described = dict(re.findall(r"^ +(\w+): (.+?\.)\s", FederationConfig.__doc__ or "", re.DOTALL | re.MULTILINE))
    names = [key.name for key in dataclasses.fields(FederationConfig)]
    for name in names:
        text = " ".join(described[name].replace("``", "").split())
        of_the_file.add_argument(f"--{name}", type=str, metavar="VALUE", default=SUPPRESS, help=text)
    parser.add_argument("--trust", action="store_true", help=HELP)
    arguments = parser.parse_args(list(argv))
    if arguments.workers < 1:
        raise UserError(f"--workers must be >= 1, got {arguments.workers}")
    if not arguments.prepare:
        require_ray("flower", "a federation needs Flower and Ray", "flwr", "flwr.app", "ray")
    changes = {name: read_value(arguments[name], f"--{name}") for name in names if name in arguments}
    folder = Path(arguments.federation)
    if (folder / FEDERATION).is_file():
        federation = _read_prepared(folder / FEDERATION, changes)
        for client in range(len(federation.clients)):
            check_folder(federation.run_config(client), folder, "federate", trust=arguments.trust)
    else:
        see_working_folder()
        federation = read_federation(arguments.federation, changes)
        folder = new_folder(Path(arguments.runs_dir), folder.stem, federation.seed)
    files.write(folder / FEDERATION, federation.to_text())
    files.write(
        folder / "pyproject.toml", APP.format(folder=json.dumps(str(folder.absolute()), ensure_ascii=False))
    )
    if arguments.prepare:
        print(f"flwr run {folder}")
        return 0
    print(f"federation of {len(federation.clients)} clients in {folder}", flush=True)
    simulate(federation, folder, arguments.workers)
    report(folder)
    return 0


def simulate(federation: Federation, folder: Path, workers: int) -> None:
    """Run the remaining rounds in Flower's simulation on this machine."""
    import ray
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from rl_rms.cli.flower import Rounds, make_client_app

    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        with Counter(make_console(), "rounds") as counter:
            Rounds(federation, folder.absolute(), grid).run(counter.show)

    logging.getLogger("flwr").setLevel(logging.ERROR)
    backend: Any = {"client_resources": {"num_cpus": 1}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Ray and Flower
        ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
        try:
            with sigterm_raises():  # Ray's own SIGTERM handler would abort the process
                # `main` has checked the code that a continued federation names, and trusts the user's YAML file.
                run_simulation(
                    server, make_client_app(trust=True), len(federation.clients), backend_config=backend
                )
        except KeyboardInterrupt as interrupt:
            ray.shutdown()
            print(f"interrupted; resume with rl-rms federate {folder}", flush=True)
            # Nothing else ends Flower's server thread, which waits for its clients. Finished rounds are saved.
            os._exit(status_of(interrupt))
        ray.shutdown()


def _read_prepared(path: Path, changes: Mapping[str, Any]) -> Federation:
    """Read the federation's file in a run folder, and override some of its keys.

    Raises:
        UserError: If the file is damaged, or a new value is wrong.
    """
    try:
        saved = Federation.from_text(path.read_text())
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Start the federation again from its YAML file") from error
    federation = dataclasses.replace(saved, federation={**saved.federation, **changes})
    try:
        FederationConfig(**federation.federation)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    return federation


def report(folder: Path) -> None:
    """Print a federation's number of rounds, its clients' last mean return, and its rejected and lost updates."""
    metrics = read_metrics(folder / METRICS)
    for problem in metrics.problems:
        print(problem, file=sys.stderr)
    rows = metrics.rows
    returns = [float(row["federation/mean_return"]) for row in rows if row.get("federation/mean_return")]
    rejected = sum(float(row.get("federation/rejected") or 0) for row in rows)
    dropped = sum(float(row.get("federation/dropped") or 0) for row in rows)
    last = f"{returns[-1]:.1f}" if returns else "none"
    print(
        f"{len(rows)} rounds; clients' mean return at the end {last}; {rejected:.0f} updates rejected, "
        f"{dropped:.0f} lost"
    )
    print(f"TensorBoard  tensorboard --logdir {folder}")
