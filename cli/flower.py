"""A federation on Flower: the same two apps in its simulation on one machine and in its deployment on many.

The server's app sends the policy and the federation's text; a client's app makes its agent from that, or reads it
from its folder, trains, and sends back directions and counts. Everything that is to last lies in folders, since a
client's app is a new one in every round.

Flower is in the extra ``flower``; the simulation needs Ray beside it.
"""

import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# It would tell its makers of its use.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import Tensor

from rl_rms.agents import storage
from rl_rms.agents.federated import Client, FederationConfig, Report, Server
from rl_rms.agents.logger import Logger
from rl_rms.cli.federation import Federation

SERVER = "server.safetensors"
_PARAMS, _DIRECTION, _SQUARES, _METRICS, _TASK = "params", "direction", "squares", "metrics", "task"

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """A client's round."""
    from rl_rms.cli.train import build, make_env

    torch.set_num_threads(1)
    task = message.content[_TASK]
    number = int(context.node_config["partition-id"])
    federation = Federation.from_text(str(task["federation"]))
    folder = client_folder(context, str(task["folder"]), number)
    config = federation.run_config(number)
    env = make_env(config)
    checkpoint = folder / f"agent{storage.SUFFIX}"
    client = Client(
        build(config, env, checkpoint=checkpoint if checkpoint.exists() else None),
        FederationConfig(**federation.federation),
    )
    if checkpoint.exists():
        client.load_state(folder)
    try:
        report = client.train(_tensors(message.content[_PARAMS]))
        client.save(folder)
    finally:
        env.close()
    content: dict[str, Any] = {
        _DIRECTION: ArrayRecord(report.direction),
        _METRICS: MetricRecord({**report.metrics, "client": float(number)}),
    }
    if report.squares is not None:
        content[_SQUARES] = ArrayRecord(report.squares)
    return Message(content=RecordDict(content), reply_to=message)


def client_folder(context: Context, run: str, number: int) -> Path:
    """Where a client keeps its agent: its node's own ``folder``, or one within the run's on a shared disk."""
    folder = Path(str(context.node_config.get("folder", Path(run) / "clients" / str(number))))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """The rounds that are still to come."""
    folder = Path(str(context.run_config["folder"]))
    federation = Federation.from_text((folder / "federation.json").read_text())
    Rounds(federation, folder, grid).run()


class Rounds:
    """A federation's rounds, as the server goes through them.

    Args:
        federation: What is federated.
        folder: Of the run, where the server's checkpoint, TensorBoard's events and ``metrics.csv`` go.
        grid: Flower's way to the clients.
        timeout: Seconds after which a client that has not answered is not waited for.
    """

    def __init__(self, federation: Federation, folder: Path, grid: Grid, timeout: float = 600.0) -> None:
        self.federation, self.folder, self.grid, self.timeout = federation, folder, grid, timeout
        self.config = FederationConfig(**federation.federation)
        self.server = Server(first_params(federation), self.config)
        if (folder / SERVER).exists():
            self.server.load_state_dict(storage.read(folder / SERVER))

    def run(self) -> None:
        """All rounds up to the federation's."""
        with Logger(self.folder, self.server.round) as logger:
            while self.server.round < self.config.rounds:
                self._round(logger)

    def _round(self, logger: Logger) -> None:
        number = self.server.round + 1
        nodes = self._wait_for_nodes()
        # The same share of them whenever this round is played.
        count = max(1, round(self.config.participation * len(nodes)))
        chosen = random.Random(f"{self.federation.seed}/{number}").sample(nodes, count)
        content = RecordDict(
            {
                _PARAMS: ArrayRecord(self.server.params),
                _TASK: ConfigRecord({"federation": self.federation.to_text(), "folder": str(self.folder)}),
            }
        )
        messages = [Message(content=content, message_type=MessageType.TRAIN, dst_node_id=node) for node in chosen]
        replies = list(self.grid.send_and_receive(messages, timeout=self.timeout))
        answers = [reply.content for reply in replies if reply.has_content()]
        told = self.server.step([_report(answer) for answer in answers])
        storage.write(self.folder / SERVER, self.server.state_dict())
        logger.write(number, _scalars(told, answers, dropped=count - len(answers)))

    def _wait_for_nodes(self) -> list[int]:
        """The clients' nodes, as soon as there is one for each client, or those that are there when it is time."""
        deadline = time.monotonic() + self.timeout
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= len(self.federation.clients):
                return nodes
            if time.monotonic() > deadline:
                if nodes:
                    return nodes
                raise TimeoutError(
                    f"no client came within {self.timeout:g} seconds; see that Flower's supernodes run"
                )
            time.sleep(0.2)


def first_params(federation: Federation) -> dict[str, Tensor]:
    """The policy that the first client's agent would begin with."""
    from rl_rms.cli.train import build, make_env

    config = federation.run_config(0)
    env = make_env(config)
    try:
        policy = build(config, env).policy
        return {name: param.detach().clone() for name, param in policy.named_parameters()}
    finally:
        env.close()


def _numbers(content: RecordDict) -> dict[str, float]:
    record: dict[str, Any] = dict(content.get(_METRICS, {}))
    return {name: float(value) for name, value in record.items()}


def _tensors(record: Any) -> dict[str, Tensor]:
    return dict(record.to_torch_state_dict())


def _report(content: RecordDict) -> Report:
    """What a client's message tells; of one that lacks something, a report that is rejected."""
    metrics = _numbers(content)
    squares = _tensors(content[_SQUARES]) if _SQUARES in content else None
    return Report(_tensors(content[_DIRECTION]) if _DIRECTION in content else {}, squares, metrics)


def _scalars(told: dict[str, float], answers: Sequence[RecordDict], *, dropped: int) -> dict[str, float]:
    """A round by TensorBoard tag: what the server did, and each client's return, update size and env steps."""
    scalars = {f"federation/{name}": value for name, value in told.items()}
    scalars["federation/dropped"] = float(dropped)
    for answer in answers:
        metrics = _numbers(answer)
        client = f"client{metrics.get('client', math.nan):.0f}"
        for name in ("mean_return", "norm", "env_steps"):
            scalars[f"{client}/{name}"] = metrics.get(name, math.nan)
    return {name: value for name, value in scalars.items() if not math.isnan(value)}
