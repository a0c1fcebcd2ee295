"""The settings of a federation. This module does not import torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from rl_rms.envs.checks import check_flag, check_int, check_number, check_one_of

Placement = Literal["server", "pooled", "client", "none"]
"""Owner of RMSprop's second moment."""


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """Settings of a federation of clients and a server.

    Args:
        rounds: Rounds of local training and aggregation, >= 1.
        local_updates: Updates of each client in a round, >= 1. PPO also completes the updates on its last rollout.
        local_learning_rate: Learning rate of the clients' plain gradient descent, > 0.
        placement: Owner of RMSprop's second moment: ``server``, ``pooled``, ``client`` or ``none``. With
            ``server``, the second moment averages the square of the clients' mean direction; with ``pooled``, the
            mean of the clients' squared directions.
        learning_rate: Learning rate of the server's step, > 0.
        half_life: Half-life of the second moment, in rounds, > 0.
        eps: Constant added to the root of the second moment, >= 0.
        weighted: Whether clients are weighted by their env steps in the round; otherwise equally.
        participation: Share of the clients that take part in a round, in (0, 1].
        max_norm_ratio: The server rejects a direction whose norm is larger than this ratio times the median norm
            of the round's valid reports, > 1. The limit does not apply in a round with fewer than three valid
            reports. null means no limit.
    """

    rounds: int = 50
    local_updates: int = 5
    local_learning_rate: float = 0.05
    placement: Placement = "client"
    learning_rate: float = 0.01
    half_life: float = 20.0
    eps: float = 1e-5
    weighted: bool = True
    participation: float = 1.0
    max_norm_ratio: float | None = 10.0

    def __post_init__(self) -> None:
        check_int("rounds", self.rounds, least=1)
        check_int("local_updates", self.local_updates, least=1)
        for name in ("local_learning_rate", "learning_rate", "half_life"):
            check_number(name, getattr(self, name), above=0.0)
        check_number("eps", self.eps, least=0.0)
        check_one_of("placement", self.placement, get_args(Placement))
        check_number("participation", self.participation, above=0.0, most=1.0)
        check_flag("weighted", self.weighted)
        if self.max_norm_ratio is not None:
            check_number("max_norm_ratio", self.max_norm_ratio, above=1.0)
