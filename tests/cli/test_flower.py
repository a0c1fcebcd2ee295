"""Rounds of a federation through Flower's messages."""

import json
import math
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import storage
from rl_rms.cli.errors import UserError
from rl_rms.cli.federation import read_federation
from tests.cli.runs import FEDERATION, rows
from tests.naming import naming


class Post:
    """Carries Flower's messages to clients in this process, as Flower's grid does between processes.

    Args:
        number: Number of clients.
        spoil: Function that changes a client's answer. If it raises RuntimeError, the answer is lost.
        node_config: Keys of each client's node-config in addition to ``partition-id`` and ``folder``.
        nodes: Ids of the clients' nodes; by default from 100.

    Attributes:
        asked: Clients that were asked to train.
        errors: Exceptions of clients.
    """

    def __init__(self, number, spoil=lambda client, content: content, node_config=None, nodes=None):
        self.number, self.spoil, self.node_config = number, spoil, node_config or {}
        self.nodes = nodes or [100 + client for client in range(number)]
        self.asked, self.errors = [], []

    def get_node_ids(self):
        return self.nodes

    def send_and_receive(self, messages, timeout):
        from flwr.app import Context, Error, Message, RecordDict

        from rl_rms.cli.flower import client_app

        replies = []
        for message in messages:
            client = self.nodes.index(message.metadata.dst_node_id)
            trains = message.metadata.message_type == "train"
            self.asked += [client] if trains else []
            folder = f"{message.content['task']['folder']}/clients/{client}" if trains else ""
            node_config = {"partition-id": client, "folder": folder, **self.node_config}
            context = Context(0, client, node_config, RecordDict(), {})
            try:
                reply = client_app(message, context)
                content = self.spoil(client, reply.content)
                replies.append(Message(content=content, reply_to=message))
            except (RuntimeError, UserError) as error:
                self.errors.append(str(error))
                replies.append(Message(error=Error(code=0, reason=str(error)), reply_to=message))
        return replies


@pytest.fixture
def rounds(federation_folder, monkeypatch):
    pytest.importorskip("flwr")
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):  # Flower sets these attributes in the processes of an app
        monkeypatch.setattr(TaskIdentity, name, 1)
    from rl_rms.cli.flower import Rounds

    def build(folder="run", post=None, **changes):
        federation = read_federation("mine.yaml", changes)
        path = Path(folder).absolute()
        path.mkdir(exist_ok=True)
        return Rounds(federation, path, post or Post(3))

    return build


def test_client_folder_from_an_untrusted_server_raises_an_error(federation_folder):
    pytest.importorskip("flwr")
    from rl_rms.cli.flower import client_folder

    with pytest.raises(UserError, match=r"node-config.*folder"):
        client_folder({"partition-id": 0}, None, 0)
    assert client_folder({"partition-id": 0}, "run", 2) == Path("run/clients/2")
    assert client_folder({"folder": "mine"}, "run", 2) == Path("mine")
    assert sorted(path.name for path in Path().iterdir() if path.is_dir()) == ["mine", "run"]


@pytest.mark.parametrize("placement", ["server", "pooled", "client", "none"])
def test_federate_rounds_equal_clients_and_server_in_one_process(rounds, placement):
    from rl_rms.agents.federated import Client, Server
    from rl_rms.cli.build import build, make_env
    from rl_rms.cli.flower import first_params

    one = rounds(placement=placement)
    one.run()
    server = Server(first_params(one.federation), one.config)
    clients = []
    for client in range(3):
        config = one.federation.run_config(client)
        clients.append(Client(build(config, make_env(config)), one.config))
    for _ in range(3):
        server.step([client.train(server.params) for client in clients])
    for name, param in server.params.items():
        # The division by the root of the second moment amplifies rounding errors of small gradients.
        assert torch.allclose(param, one.server.params[name], atol=1e-7 if placement == "none" else 2e-4)
    logged = rows()
    assert [row["time/total_timesteps"] for row in logged] == ["1", "2", "3"]
    assert {row["federation/clients"] for row in logged} == {"3.0"}
    assert float(logged[0]["client2/env_steps"]) > 0
    assert float(logged[0]["client1/norm"]) > 0
    for client in range(3):
        assert (Path("run/clients") / str(client) / "agent.safetensors").is_file()


def test_messages_do_not_contain_transitions(rounds):
    seen = []

    def look(client, content):
        seen.append(
            {
                name: {key: tuple(one.shape) for key, one in part.items()}
                for name, part in content.array_records.items()
            }
        )
        seen[-1]["metrics"] = set(content["metrics"])
        return content

    one = rounds(post=Post(3, look), placement="pooled")
    one.run()
    shapes = {name: tuple(param.shape) for name, param in one.server.params.items()}
    for message in seen:
        assert message.pop("metrics") == {"client", "env_steps", "episodes", "mean_return"}
        assert message == {"direction": shapes}


def test_federate_resume_continues_an_interrupted_federation(rounds):
    rounds("whole").run()
    first = rounds("cut", rounds=2)
    first.run()
    second = rounds("cut")
    assert second.server.round == 2
    second.run()
    whole, cut = (storage.read(Path(name) / "server") for name in ("whole", "cut"))
    for name, param in whole["params"].items():
        assert torch.equal(param, cut["params"][name])
    assert [row["time/total_timesteps"] for row in rows("cut")] == ["1", "2", "3"]


def test_order_of_answers_does_not_change_the_result(rounds):
    class Reversed(Post):
        def send_and_receive(self, messages, timeout):
            return super().send_and_receive(messages, timeout)[::-1]

    one, other = rounds("one", placement="none"), rounds("other", post=Reversed(3), placement="none")
    for each in (one, other):
        each.run()
    assert all(torch.equal(param, other.server.params[name]) for name, param in one.server.params.items())


def test_federate_resume_with_another_local_learning_rate_uses_it(rounds):
    rounds(rounds=1, local_learning_rate=0.1).run()
    post = Post(3)
    one = rounds(post=post, rounds=2, local_learning_rate=0.2)
    before = dict(one.server.params)
    one.run()
    assert post.errors == []
    assert [row["federation/clients"] for row in rows()] == ["3.0", "3.0"]
    other = rounds("other", rounds=1, local_learning_rate=0.1)
    other.run()
    other = rounds("other", rounds=2, local_learning_rate=0.1)
    other.run()
    name = "actor_network.0.weight"
    assert not torch.equal(one.server.params[name], before[name])
    assert not torch.equal(one.server.params[name], other.server.params[name])


def test_round_with_missing_or_invalid_answers_counts_them(rounds):
    def spoil(client, content):
        from flwr.app import ArrayRecord

        if client == 0:
            raise RuntimeError("gone in the middle of a round")
        if client == 1:
            content["direction"] = ArrayRecord(
                {name: math.nan * one for name, one in content["direction"].to_torch_state_dict().items()}
            )
        return content

    one = rounds(post=Post(3, spoil))
    one.run()
    assert one.server.round == 3
    assert one.server.rejected == 3
    assert all(param.isfinite().all() for param in one.server.params.values())
    for row in rows():
        assert (row["federation/clients"], row["federation/rejected"], row["federation/dropped"]) == (
            "1.0",
            "1.0",
            "1.0",
        )
    events = EventAccumulator("run").Reload()
    for tag, reason in {"dropped": "gone in the middle of a round", "rejected": "must be finite"}.items():
        said = events.Tensors(f"federation/{tag}/text_summary")
        assert [reason in str(one.tensor_proto.string_val[0]) for one in said] == [True] * 3


def _npy(array):
    from io import BytesIO

    import numpy as np

    file = BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _hostile():
    """Functions that make an answer invalid, by name, with a part of the reason that the server logs."""
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

    name = "actor_network.0.weight"

    def data(make):
        def spoil(content):
            array = content["direction"][name]
            content["direction"][name] = Array(array.dtype, array.shape, array.stype, make(array))

        return spoil

    def array(make):
        return data(lambda one: _npy(make(one.numpy())))

    def metric(key, value):
        return lambda content: content["metrics"].__setitem__(key, value)

    def header(one, shape):
        return one.data.replace(str(one.numpy().shape).encode(), shape, 1)

    def only(**records):
        def spoil(content):
            content.clear()
            for key, record in records.items():
                content[key] = record

        return spoil

    return {
        "object array": (array(lambda one: one.astype(object)), name),
        "garbage bytes": (data(lambda one: b"\x93garbage"), name),
        "no bytes": (data(lambda one: b""), "got 0 bytes"),
        "terabytes": (data(lambda one: header(one, b"(99999999999999, 4)")), name),
        "another shape": (array(lambda one: one.reshape(-1)), name),
        "another dtype": (array(lambda one: one.astype("f8")), name),
        "integers": (array(lambda one: one.astype("i4")), name),
        "complex": (array(lambda one: one.astype("c8")), name),
        "column order": (array(np.asfortranarray), name),
        "more bytes": (data(lambda one: one.data + b"\0" * 1000), name),
        "fewer bytes": (data(lambda one: one.data[:-1]), name),
        "nan": (array(lambda one: one * np.float32("nan")), "must be finite"),
        "another parameter": (
            lambda content: content["direction"].__setitem__("x", content["direction"][name]),
            "",
        ),
        "no parameter": (lambda content: content["direction"].pop(name), "arrays with the names of the policy"),
        "nothing": (only(), "must have direction and metrics"),
        "a record more": (lambda content: content.__setitem__("squares", ArrayRecord({})), "squares"),
        "records of another kind": (
            only(direction=MetricRecord({}), metrics=MetricRecord({})),
            "arrays with the names of the policy",
        ),
        "metrics of another kind": (lambda content: content.__setitem__("metrics", ConfigRecord({})), "metrics"),
        "no mean_return": (lambda content: content["metrics"].pop("mean_return"), "mean_return"),
        "a list": (metric("mean_return", [1.0, 2.0]), "mean_return must be one number"),
        "one metric more": (metric("norm", 1.0), "metrics must hold the numbers client"),
        "too many env steps": (metric("env_steps", 10**18), "env_steps must be"),
        "a number beyond floats": (metric("env_steps", 10**400), "env_steps must be"),
        "no env steps": (metric("env_steps", 0), "env_steps must be"),
        "an infinite return": (metric("mean_return", math.inf), "mean_return must be"),
        "a client number without a client": (metric("client", 3.0), "client must be"),
        "no client": (metric("client", math.nan), "client must be"),
        "a string": (
            lambda content: content.__setitem__("metrics", ConfigRecord({"client": "0", "mean_return": "9"})),
            "metrics must hold the numbers client",
        ),
        "an empty record": (lambda content: content.__setitem__("metrics", RecordDict()), ""),
    }


@pytest.mark.slow
def test_round_with_a_hostile_answer_continues_with_the_others(rounds):
    import contextlib

    for number, (kind, (spoil, reason)) in enumerate(_hostile().items()):

        def answer(client, content, spoil=spoil):
            if client == 1:
                with contextlib.suppress(TypeError):
                    spoil(content)
                    return content
                raise RuntimeError("refused")
            return content

        def lose(client, content):
            if client == 1:
                raise RuntimeError("gone")
            return content

        one = rounds(f"hostile{number}", post=Post(3, answer), placement="pooled", rounds=1)
        other = rounds(f"without{number}", post=Post(3, lose), placement="pooled", rounds=1)
        one.run()
        other.run()
        (row,) = rows(f"hostile{number}")
        assert float(row["federation/clients"]) == 2, kind
        assert float(row["federation/rejected"]) + float(row["federation/dropped"]) == 1, kind
        assert not any(key.startswith("client1") for key in row), kind
        for name, param in other.server.params.items():
            assert torch.equal(param, one.server.params[name]), kind
        if one.server.rejected:
            events = EventAccumulator(f"hostile{number}").Reload()
            (said,) = events.Tensors("federation/rejected/text_summary")
            assert reason.encode() in said.tensor_proto.string_val[0], kind


def test_max_env_steps_of_each_algorithm_equals_its_updates(federation_folder):
    from rl_rms.agents.federated_config import FederationConfig
    from rl_rms.cli.flower import most_env_steps

    pytest.importorskip("flwr")
    config = FederationConfig(local_updates=2)
    assert most_env_steps(read_federation("mine.yaml", {}), config) == 2 * 2 * 4
    (federation_folder / "mine.yaml").write_text(
        FEDERATION.replace("cartpole_a2c", "cartpole_reinforce").replace(
            "agent.n_steps: 4", "agent.episodes_per_env: 3"
        )
    )
    assert most_env_steps(read_federation("mine.yaml", {}), config) == 2 * 2 * 3 * 500
    (federation_folder / "mine.yaml").write_text(
        FEDERATION.replace("cartpole_a2c", "cartpole_reinforce").replace(
            "agent.n_steps: 4", "agent.episodes_per_env: 3, env.kwargs.max_episode_steps: -1"
        )
    )
    assert most_env_steps(read_federation("mine.yaml", {}), config) == 2 * 2 * 3 * 1_000_000


def test_empty_answer_is_rejected(rounds):
    def spoil(client, content):
        from flwr.app import RecordDict

        return RecordDict() if client == 2 else content

    one = rounds(post=Post(3, spoil))
    one.run()
    assert one.server.rejected == 3


def test_round_with_a_share_of_clients_samples_all_over_time(rounds):
    post = Post(3)
    rounds(post=post, participation=0.34, rounds=12).run()
    assert len(post.asked) == 12
    assert set(post.asked) == {0, 1, 2}
    again = Post(3, nodes=[7, 9, 3])
    rounds("again", post=again, participation=0.34, rounds=5).run()
    # A resumed federation has other nodes.
    more = Post(3, nodes=[2, 1, 3])
    rounds("again", post=more, participation=0.34, rounds=12).run()
    assert again.asked + more.asked == post.asked


@pytest.mark.parametrize("trust", [None, "true", False])
def test_client_without_trust_refuses_code_of_the_server(strangers, rounds, trust):
    post = Post(3, node_config={} if trust is None else {"trust": trust})
    one = rounds(post=post, rounds=1)
    (strangers / "imported").unlink()  # the server's import of the module wrote this file
    sys.modules.pop("strangers")
    gym.registry.pop("Mine-v0")
    one.run()
    assert len(post.errors) == 3
    for named in ("env.id 'strangers:Mine-v0'", "trust=true"):
        assert named in post.errors[0]
    assert not (strangers / "imported").exists()
    assert not (strangers / "run" / "clients").exists()


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("secret.csv", lambda path: {"env.changes": {"length": {"sum": [{"trace": {"values": path}}, 0.1]}}}),
        ("secret.xml", lambda path: {"env.id": "Hopper-v5", "env.kwargs": {"xml_file": path}}),
    ],
    ids=["trace", "mujoco"],
)
def test_client_without_trust_reads_no_file_that_the_server_names(federation_folder, rounds, name, overrides):
    secret = federation_folder / name
    secret.write_text("0.5")
    client = json.dumps(overrides(str(secret)))
    (federation_folder / "mine.yaml").write_text(FEDERATION.replace("{env.changes: {length: 0.6}}", client))
    post = Post(3)
    one = rounds(post=post, rounds=1)
    secret.write_text("the password")
    one.run()
    assert len(post.errors) == 3
    for named in (str(secret), "trust=true"):
        assert named in post.errors[0]
    assert "password" not in post.errors[0]


def test_client_with_trust_imports_code_of_the_server(strangers, rounds):
    post = Post(3, node_config={"trust": True})
    rounds(post=post, rounds=1).run()
    assert post.errors == []
    assert [row["federation/clients"] for row in rows()] == ["3.0"]


def test_server_without_clients_times_out_with_a_message(rounds, monkeypatch):
    one = rounds(post=Post(0))
    monkeypatch.setattr("rl_rms.cli.flower._TIMEOUT", 0.3)
    with pytest.raises(TimeoutError, match=naming("0.3 seconds")):
        one.run()
