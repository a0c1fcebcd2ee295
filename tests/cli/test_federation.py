import json

import pytest

from rl_rms.cli.errors import UserError
from rl_rms.cli.federation import Federation, read_federation
from tests.cli.runs import FEDERATION
from tests.naming import naming


def test_client_configs_are_the_common_config_with_their_own_environment(federation_folder):
    federation = read_federation("mine.yaml", {"seed": 4})
    assert federation.federation == {"rounds": 3, "local_updates": 2, "placement": "client"}
    runs = [federation.run_config(client) for client in range(3)]
    assert [one.env.changes["length"] for one in runs] == [0.3, 0.6, 0.9]
    assert runs[2].env.changes["reward.noise"] == 0.5
    assert [one.seed for one in runs] == [4, 5, 6]
    assert {one.agent.optimizer for one in runs} == {"torch.optim.SGD"}
    assert {one.env.num_envs for one in runs} == {2}
    assert Federation.from_text(federation.to_text()).run_config(2) == runs[2]


def test_clients_learn_at_the_local_learning_rate_instead_of_the_schedule_of_the_common_config(federation_folder):
    file = federation_folder / "mine.yaml"
    file.write_text(file.read_text().replace("cartpole_a2c", "annealed_cartpole") + "local_learning_rate: 0.3\n")
    agent = read_federation("mine.yaml", {}).run_config(0).agent
    assert (agent.learning_rate, agent.critic_learning_rate) == (0.3, None)


def test_packaged_federation_has_valid_clients():
    federation = read_federation("cartpoles", {})
    assert len({json.dumps(client) for client in federation.clients}) == 6
    assert len({federation.run_config(client).env.num_envs for client in range(6)}) == 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("rounds: 3", "round: 3", ["'round'"]),
        ("config: cartpole_a2c", "", ["config"]),
        ("config: cartpole_a2c", "config: nothing", ["'nothing'"]),
        ("local_updates: 2", "local_updates: 0", ["local_updates"]),
        ("rounds: 3", "seed: x", ["seed", "'x'"]),
        ("config: cartpole_a2c", "config: [1]", ["config", "[1]"]),
        ("placement: client", "placement: moon", ["placement"]),
        ("- {env.changes: {length: 0.3}}", "- {env.changes: {lenght: 0.3}, agent.gama: 1}", ["client 0", "gama"]),
        ("- {env.changes: {length: 0.3}}", "- 3", ["clients", "list"]),
        ("- {env.changes: {length: 0.3}}", "- {env: {num_envs: 3}}", ["client 0", "env.num_envs"]),
        ("- {env.changes: {length: 0.3}}", "- {env.changes.length: 1, env.changes: {}}", ["env.changes.length"]),
        ("- {env.changes: {length: 0.3}}", "- {7: 3}", ["client 0", "dotted", "7"]),
        (
            "- {env.changes: {length: 0.3}}",
            "- {agent.learning_rate: 0.7}",
            ["client 0", "0.7", "local_learning_rate"],
        ),
        (
            "- {env.changes: {length: 0.3}}",
            "- {agent.optimizer_kwargs.momentum: 0.9}",
            ["client 0", "agent.optimizer_kwargs.momentum", "0.9"],
        ),
        ("- {env.changes: {length: 0.3}}", "- {seed: 9}", ["client 0", "seed", "9"]),
    ],
)
def test_federation_file_with_a_wrong_key_names_it(federation_folder, old, new, sentence):
    (federation_folder / "mine.yaml").write_text(FEDERATION.replace(old, new))
    with pytest.raises(UserError, match=naming(*sentence)):
        read_federation("mine.yaml", {})


def test_client_number_out_of_range_names_it(federation_folder):
    federation = read_federation("cartpoles", {})
    last = len(federation.clients) - 1
    with pytest.raises(UserError, match=naming(f"{last}", f"{last + 1}")):
        federation.run_config(last + 1)
