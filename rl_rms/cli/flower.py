"""Federated training with Flower, in a simulation on one machine or on several machines.

A server app sends the policy and the federation's configuration. A client app builds or loads an agent, trains
the agent, and returns metrics and the *direction*: the mean gradient, which the placement ``client`` divides by
the root of the client's second moment. Client apps store their agents in folders, because Flower creates a new
client app in every round.

The extra ``flower`` installs Flower, and Ray for the simulation.
"""

import dataclasses
import io
import math
import os
import random
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

# Flower sends usage reports unless this variable is 0.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import Tensor

from rl_rms.agents import storage
from rl_rms.agents.config import ReinforceConfig, RolloutConfig
from rl_rms.agents.federated import Client, Report, Server, norm
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.agents.logger import Logger
from rl_rms.cli.errors import UserError
from rl_rms.cli.federation import FEDERATION, Federation
from rl_rms.cli.overrides import walk
from rl_rms.cli.trust import check_code, see_working_folder
from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.schedules.recorded import TRACE_SUFFIXES

SERVER = "server.safetensors"
_PARAMS, _DIRECTION, _METRICS, _TASK = "params", "direction", "metrics", "task"
_METRIC_NAMES = ("client", "env_steps", "episodes", "mean_return")
_LARGEST_METRIC = 1e300
_LONGEST_EPISODE = 1_000_000
# The log has at most this many characters of a client's error.
_LONGEST_REASON = 1_000
# Seconds to wait in each round for the clients to connect, and then again for the clients' answers.
_TIMEOUT = 600.0

server_app = ServerApp()


def make_client_app(*, trust: bool) -> ClientApp:
    """Make a client app.

    Args:
        trust: Whether the client may import code and write to a folder that its server names. ``trust=true`` in a
            node's node-config has the same effect.
    """
    app = ClientApp()

    @app.train()
    def answer(message: Message, context: Context) -> Message:
        return train(message, context, trust=trust or context.node_config.get("trust") is True)

    @app.query()
    def name(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"client": int(context.node_config["partition-id"])})
        return Message(content=RecordDict({_METRICS: metrics}), reply_to=message)

    return app


client_app = make_client_app(trust=False)


def train(message: Message, context: Context, *, trust: bool) -> Message:
    """Train one round of a client.

    Raises:
        UserError: If the client does not trust the server, and the server names code or the node-config has no
            folder.
    """
    from rl_rms.cli.build import build, make_env

    torch.set_num_threads(1)
    task = message.content[_TASK]
    number = int(context.node_config["partition-id"])
    federation = Federation.from_text(str(task["federation"]))
    mend = "start the node with trust=true in its node-config if you trust the server"
    if not trust:
        # An error that a file causes would send a part of the file to the server.
        check_files(federation, mend)
    config = federation.run_config(number)
    if trust:
        see_working_folder()
    else:
        check_code(config, "the server", mend)
    folder = client_folder(context.node_config, str(task["folder"]) if trust else None, number)
    env = make_env(config)
    checkpoint = folder / f"agent{storage.SUFFIX}"
    client = Client(
        # A continued federation may have another local_learning_rate, which Client.train sets.
        build(config, env, checkpoint=checkpoint if checkpoint.exists() else None, may_differ=("learning_rate",)),
        FederationConfig(**federation.federation),
    )
    if checkpoint.exists():
        client.load_state(folder)
    try:
        own = dict(client.agent.policy.named_parameters())
        report = client.train(read_arrays(message.content[_PARAMS], own))
        client.save(folder)
    finally:
        env.close()
    metrics = MetricRecord({**report.metrics, "client": float(number)})
    content = RecordDict({_DIRECTION: ArrayRecord(report.direction), _METRICS: metrics})
    return Message(content=content, reply_to=message)


def check_files(federation: Federation, mend: str) -> None:
    """Raise an error for a federation that names files, such as a trace or the model of a MuJoCo environment.

    Args:
        federation: The federation.
        mend: How the user can allow the files, as text for the error.

    Raises:
        UserError: If a text in the federation, except for ids of environments, contains a path separator or
            begins with a tilde, or if the text has a suffix that `rl_rms.envs.schedules.Trace` can read.
    """
    for key, value in walk(dataclasses.asdict(federation)):
        if not isinstance(value, str) or key.endswith("env.id"):
            continue
        if value.startswith("~") or {"/", "\\"} & set(value) or Path(value).suffix in TRACE_SUFFIXES:
            raise UserError(f"the server names a file of this machine: {key} {value!r}; {mend}")


def client_folder(node_config: Mapping[str, Any], run: str | None, number: int) -> Path:
    """Return the folder of a client's agent.

    Args:
        node_config: The node's configuration, whose key ``folder`` sets the folder.
        run: Run folder of a trusted server; None if the server is not trusted.
        number: The client's number.

    Raises:
        UserError: If the node has no folder and the client does not trust the server.
    """
    if "folder" in node_config:
        folder = Path(str(node_config["folder"]))
    elif run is not None:
        folder = Path(run) / "clients" / str(number)
    else:
        raise UserError(
            f"node-config must have a folder for the client's agent, got the keys {sorted(node_config)}; start "
            "the node with --node-config 'partition-id=0 folder=\"/path\"'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Run the remaining rounds."""
    folder = Path(str(context.run_config["folder"]))
    federation = Federation.from_text((folder / FEDERATION).read_text())
    Rounds(federation, folder, grid).run()


class Rounds:
    """Runs the rounds of a federation on the server.

    Args:
        federation: The federation.
        folder: Run folder, for the server's checkpoint, TensorBoard events and ``metrics.csv``.
        grid: Flower's connection to the clients.
    """

    def __init__(self, federation: Federation, folder: Path, grid: Grid) -> None:
        self.federation, self.folder, self.grid = federation, folder, grid
        self.config = FederationConfig(**federation.federation)
        # The number of each node's client; infinity if the node did not answer with a number.
        self._clients: dict[int, float] = {}
        self.server = Server(first_params(federation), self.config, most_env_steps(federation, self.config))
        if (folder / SERVER).exists():
            self.server.load_state_dict(storage.read(folder / SERVER))

    def run(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Run all remaining rounds.

        Args:
            progress: Function of the numbers of finished and of all rounds, called after each round.
        """
        with Logger(self.folder, self.server.round) as logger:
            while self.server.round < self.config.rounds:
                self._round(logger)
                if progress is not None:
                    progress(self.server.round, self.config.rounds)

    def _round(self, logger: Logger) -> None:
        number = self.server.round + 1
        nodes = self._wait_for_nodes()
        # Each round has its own seed, so that a resumed federation samples the clients that it would have sampled
        # without the interruption.
        count = max(1, round(self.config.participation * len(nodes)))
        chosen = random.Random(f"{self.federation.seed}/{number}").sample(self._by_client(nodes), count)
        content = RecordDict(
            {
                _PARAMS: ArrayRecord(self.server.params),
                _TASK: ConfigRecord({"federation": self.federation.to_text(), "folder": str(self.folder)}),
            }
        )
        messages = [Message(content=content, message_type=MessageType.TRAIN, dst_node_id=node) for node in chosen]
        replies = list(self.grid.send_and_receive(messages, timeout=_TIMEOUT))
        answers = [reply.content for reply in replies if reply.has_content()]
        reports, reasons = self._read(answers)
        scalars = self.server.step(reports, unreadable=len(reasons))
        storage.write(self.folder / SERVER, self.server.state_dict())
        logger.write(number, _scalars(scalars, reports, dropped=count - len(answers)))
        if reasons:
            logger.text(number, "federation/rejected", "\n\n".join(reasons))
        errors = [(reply.error.reason or "")[:_LONGEST_REASON] for reply in replies if reply.has_error()]
        if errors:
            logger.text(number, "federation/dropped", "\n\n".join(errors))

    def _by_client(self, nodes: Sequence[int]) -> list[int]:
        """Sort nodes by the numbers of their clients, because Flower draws a node's id at random."""
        new = [node for node in nodes if node not in self._clients]
        if self.config.participation < 1.0 and new:
            self._clients.update(dict.fromkeys(new, math.inf))
            messages = [
                Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=node) for node in new
            ]
            for reply in self.grid.send_and_receive(messages, timeout=_TIMEOUT):
                record = reply.content.get(_METRICS) if reply.has_content() else None
                client = record.get("client") if isinstance(record, MetricRecord) else None
                if isinstance(client, int):
                    self._clients[reply.metadata.src_node_id] = client
        return sorted(nodes, key=lambda node: (self._clients.get(node, math.inf), node))

    def _read(self, answers: Sequence[RecordDict]) -> tuple[list[Report], list[str]]:
        """Read the reports in a round's answers, by client, and describe each answer that the server rejects."""
        reports: list[Report] = []
        reasons: list[str] = []
        for answer in answers:
            try:
                report = read_report(answer, self.server.params, len(self.federation.clients))
                self.server.check(report)
            except ValueError as error:  # noqa: PERF203 - once a client and round
                reasons.append(str(error))
            else:
                reports.append(report)
        # Sums in the order of the answers would differ by rounding errors between two federations.
        return sorted(reports, key=lambda report: report.metrics["client"]), reasons

    def _wait_for_nodes(self) -> list[int]:
        """Wait for one node per client, or until the timeout, and return the connected nodes."""
        deadline = time.monotonic() + _TIMEOUT
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= len(self.federation.clients):
                return nodes
            if time.monotonic() > deadline:
                if nodes:
                    return nodes
                raise TimeoutError(
                    f"no client connected within {_TIMEOUT:g} seconds; check that Flower's supernodes run"
                )
            time.sleep(0.2)


def first_params(federation: Federation) -> dict[str, Tensor]:
    """Return the initial policy parameters of the first client's agent."""
    from rl_rms.cli.build import build, make_env

    config = federation.run_config(0)
    env = make_env(config)
    try:
        policy = build(config, env).policy
        return {name: param.detach().clone() for name, param in policy.named_parameters()}
    finally:
        env.close()


def most_env_steps(federation: Federation, config: FederationConfig) -> int:
    """Return the largest number of env steps that any client can take in one round.

    An episode of an environment without a time limit, such as with ``max_episode_steps: -1``, counts as 1,000,000
    env steps.
    """
    import gymnasium as gym
    from gymnasium.error import Error

    most = 0
    for client in range(len(federation.clients)):
        run = federation.run_config(client)
        if isinstance(run.agent, RolloutConfig):
            steps = run.agent.rollout_length(run.env.num_envs)
        else:
            limit = run.env.kwargs.get("max_episode_steps")
            with suppress(Error):
                limit = limit or gym.spec(run.env.id).max_episode_steps
            limit = limit if limit and limit > 0 else _LONGEST_EPISODE
            steps = cast("ReinforceConfig", run.agent).episodes_per_env * int(limit)
        most = max(most, config.local_updates * run.env.num_envs * steps)
    return most


def read_arrays(record: Any, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the arrays of an untrusted message. Nothing is unpickled, and no array's size is read from its header.

    Args:
        record: The message's record.
        expected: Tensors by name. The record must have float32 arrays with these names and shapes.

    Raises:
        ValueError: If the record's type, a name, a header or a size is wrong.
    """
    if not isinstance(record, ArrayRecord) or record.keys() != expected.keys():
        raise ValueError(f"the answer must have {len(expected)} arrays with the names of the policy's parameters")
    return {name: _read_array(name, record[name].data, one.shape) for name, one in expected.items()}


def _read_array(name: str, data: bytes, shape: torch.Size) -> Tensor:
    """Read a float32 tensor of a known shape from bytes that ``numpy.save`` wrote."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)})
    start = header.getvalue()
    size = len(start) + 4 * shape.numel()
    if len(data) != size or not data.startswith(start):
        raise ValueError(
            f"the array {name} must be the {size:,} bytes of a float32 .npy of shape {tuple(shape)}, got "
            f"{len(data):,} bytes that begin with {data[:80]!r}"
        )
    return torch.from_numpy(np.frombuffer(data, "<f4", offset=len(start)).reshape(shape).astype(np.float32))


def read_report(content: RecordDict, params: Mapping[str, Tensor], num_clients: int) -> Report:
    """Read a client's answer. `rl_rms.agents.federated.Server.check` later checks the ranges of the values.

    Raises:
        ValueError: If the answer is not a valid report.
    """
    if content.keys() != {_DIRECTION, _METRICS}:
        raise ValueError(f"the answer must have {_DIRECTION} and {_METRICS}, got {reprlib.repr(list(content))}")
    direction = read_arrays(content[_DIRECTION], params)
    record = content[_METRICS]
    if not isinstance(record, MetricRecord) or record.keys() != set(_METRIC_NAMES):
        raise ValueError(
            f"{_METRICS} must hold the numbers {', '.join(_METRIC_NAMES)}, got {reprlib.repr(record)}"
        )
    metrics: dict[str, float] = {}
    for name, value in record.items():
        if not isinstance(value, (int, float)) or abs(value) > _LARGEST_METRIC:
            raise ValueError(
                f"{name} must be one number from -1e300 to {_LARGEST_METRIC:g}, got {reprlib.repr(value)}"
            )
        metrics[name] = float(value)
    check_int("client", metrics["client"], least=0)
    check_number("client", metrics["client"], below=num_clients)
    return Report(direction, metrics)


def _scalars(of_server: dict[str, float], reports: Sequence[Report], *, dropped: int) -> dict[str, float]:
    """Return a round's scalars of the server and of each client, by TensorBoard tag."""
    scalars = {f"federation/{name}": value for name, value in of_server.items()}
    scalars["federation/dropped"] = float(dropped)
    for report in reports:
        client = f"client{report.metrics['client']:.0f}"
        scalars[f"{client}/norm"] = norm(report.direction)
        for name in ("mean_return", "env_steps"):
            scalars[f"{client}/{name}"] = report.metrics[name]
    return {name: value for name, value in scalars.items() if not math.isnan(value)}
