"""The dataclass behind a federation's YAML file, and the run configuration of each client.

This module does not import Flower, so errors in a file are reported before Flower starts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rl_rms.agents.federated_config import FederationConfig
from rl_rms.cli.callbacks import refuse_callbacks
from rl_rms.cli.config import RunConfig, check_dotted, parse_config, read_beside, read_file_of
from rl_rms.cli.errors import UserError
from rl_rms.cli.overrides import with_values
from rl_rms.envs.checks import check_int

FEDERATION = "federation.json"


@dataclass(frozen=True, kw_only=True)
class Federation:
    """The clients and settings of a federation.

    Args:
        config: Run configuration that all clients share, as plain data.
        clients: Values that each client overrides, by dotted key.
        seed: Seed of the initial policy; client i has the seed ``seed + i``.
        federation: Keys of `rl_rms.agents.federated_config.FederationConfig`.

    Raises:
        ValueError: If there is no client, or the seed is not a whole number >= 0.
    """

    config: Mapping[str, Any]
    clients: Sequence[Mapping[str, Any]]
    seed: int = 0
    federation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_int("seed", self.seed, least=0)
        if not self.clients:
            raise ValueError("clients must be a list of at least one client, got none")

    def run_config(self, client: int) -> RunConfig:
        """Make the run configuration of a client: the common agent, with plain SGD at the local learning rate.

        Clients do not normalize observations or rewards, because each client would have different statistics.

        Raises:
            UserError: If there is no such client, if one of its keys is invalid, or if the configuration names
                callbacks.
        """
        if not 0 <= client < len(self.clients):
            raise UserError(f"the client must be one of 0 to {len(self.clients) - 1}, got {client}")
        chosen = {**self.clients[client], **self.common_values(client)}
        try:
            config = parse_config(with_values(self.config, chosen))
            refuse_callbacks(config.callbacks, "rl-rms federate")
        except UserError as error:
            raise UserError(f"client {client}: {error}") from error
        return config

    def common_values(self, client: int) -> dict[str, Any]:
        """Return the values of a client that the federation sets, by dotted key."""
        return {
            "agent.optimizer": "torch.optim.SGD",
            "agent.optimizer_kwargs": {},
            "agent.half_life": None,
            "agent.learning_rate": self.federation.get(
                "local_learning_rate", FederationConfig.local_learning_rate
            ),
            "agent.critic_learning_rate": None,
            "agent.normalize_observation": False,
            "agent.normalize_reward": False,
            "seed": self.seed + client,
        }

    def to_text(self) -> str:
        """Convert the federation to JSON, which `from_text` reads on another machine."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Federation":
        """Read the text of `to_text`.

        Raises:
            ValueError: If the text is not JSON, or a key has the wrong type.
            TypeError: If a key is unknown or missing.
        """
        tree = json.loads(text)
        if (
            not isinstance(tree, dict)
            or not isinstance(tree.get("config"), dict)
            or not isinstance(tree.get("federation", {}), dict)
            or not isinstance(tree.get("clients"), list)
            or not all(isinstance(one, dict) for one in tree["clients"])
        ):
            raise ValueError("config and federation must be mappings, and clients must be a list of mappings")
        return cls(**tree)


def read_federation(name: str, changes: Mapping[str, Any]) -> Federation:
    """Read a federation's YAML file by path or packaged name.

    The file has the keys ``config``, ``fix`` (values for all clients, by dotted key), ``clients``, ``seed`` and
    the keys of `FederationConfig`. ``config`` is a packaged name or the path of a YAML file, relative to the
    folder of the federation's file or to the working folder.

    Args:
        name: Path of the file, or the name of a packaged federation.
        changes: Values that override keys of the file.

    Raises:
        UserError: If the file, a key, a value or a client's configuration is wrong.
    """
    of_federation = [one.name for one in fields(FederationConfig)]
    keys = ["config", "fix", "clients", "seed", *of_federation]
    path, tree = read_file_of("federation", name, keys, "config", "clients")
    tree |= changes
    clients, fix, seed = tree["clients"], tree.get("fix", {}), tree.get("seed", 0)
    if (
        not isinstance(clients, list)
        or not clients
        or not all(isinstance(one, Mapping) for one in [*clients, fix])
    ):
        raise UserError(
            f"{name}: clients must be a list with one mapping of dotted keys for each client, got {clients!r}; "
            f"the key fix must be a mapping of dotted keys for all clients, got {fix!r}"
        )
    if not isinstance(tree["config"], str):
        raise UserError(
            f"{name}: config must be a packaged name or the path of a YAML file, got {tree['config']!r}"
        )
    config = read_beside(path, tree["config"])
    try:
        federation = Federation(
            config=config,
            clients=[{**fix, **one} for one in clients],
            seed=seed,
            federation={key: tree[key] for key in of_federation if key in tree},
        )
        FederationConfig(**federation.federation)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}") from error
    check_dotted("fix", fix)
    for client, given in enumerate(federation.clients):
        check_dotted(f"client {client}", given)
        for key, value in federation.common_values(client).items():
            for own, own_value in given.items():
                if own.startswith(f"{key}.") or (own == key and own_value != value):
                    raise UserError(
                        f"{name}: client {client} must not set {own}, got {own_value!r}; a federation sets {key} "
                        f"to {value!r}, see local_learning_rate and seed"
                    )
        federation.run_config(client)
    return federation
