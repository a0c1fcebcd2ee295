"""Federated reinforcement learning: clients that own different worlds train one policy and never send transitions.

In every round the server sends the policy's parameters p. Client i takes some updates by plain gradient descent in
its own world and tells in which direction they went, ``g_i``, the mean of the gradients on its way. Where
RMSprop's normalizer lives is a `Placement`:

    server   p <- p - lr d / sqrt(v),  d = mean g_i,  v from d*d           where FedAdam has its Adam
    pooled   p <- p - lr d / sqrt(v),  d = mean g_i,  v from mean g_i*g_i
    client   p <- p - lr d,            d = mean g_i / sqrt(v_i),           v_i the client's own, kept over rounds
    none     p <- p - lr d,            d = mean g_i                        federated averaging

Federated averaging it is exactly where lr is ``local_learning_rate * local_updates``: p is then the mean of where
the clients' ways have led. Who carries the messages does not matter here.

Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", 2017, for
federated averaging; Reddi et al., "Adaptive federated optimization", 2021, for adaptive servers: FedAdam's
normalizer is the server's.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rl_rms.agents import storage
from rl_rms.agents.base import OnPolicyAgent
from rl_rms.envs.checks import check_number, check_whole
from rl_rms.update import State, denominator, rmsprop_init, rmsprop_update, second_moment

Placement = Literal["server", "pooled", "client", "none"]
"""Where RMSprop's normalizer lives."""
Params = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """How clients and server share the work.

    Args:
        rounds: Rounds of local training and aggregation, >= 1.
        local_updates: Updates that a client takes in its own world in a round, >= 1.
        local_learning_rate: Of these, which are plain gradient descent, > 0.
        placement: Where RMSprop's normalizer lives: ``server``, ``pooled`` (the server's, with the mean of the
            clients' squared directions), ``client`` or ``none``.
        learning_rate: Of the server's step, > 0.
        half_life: Of the second moment, in rounds, > 0.
        eps: Added to the root of the second moment, >= 0.
        weighted: Whether clients weigh by the env steps of their round, or all alike.
        participation: Share of the clients that take part in a round, in (0, 1].
        max_norm_ratio: A direction whose norm is more than this many times the median of the round's is rejected,
            > 1; null rejects only what is not finite.
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
        check_whole("rounds", self.rounds, least=1)
        check_whole("local_updates", self.local_updates, least=1)
        for name in ("local_learning_rate", "learning_rate", "half_life"):
            check_number(name, getattr(self, name), above=0.0)
        check_number("eps", self.eps, least=0.0)
        if self.placement not in get_args(Placement):
            raise ValueError(f"placement must be one of {', '.join(get_args(Placement))}, got {self.placement!r}")
        check_number("participation", self.participation, above=0.0, most=1.0)
        if self.max_norm_ratio is not None:
            check_number("max_norm_ratio", self.max_norm_ratio, above=1.0)


@dataclass(frozen=True)
class Report:
    """What a client tells of a round.

    Attributes:
        direction: By parameter: the mean gradient on its way, or that normalized with ``client``.
        squares: Its squares, with ``pooled``; else None.
        metrics: ``env_steps``, ``episodes``, ``mean_return`` (nan without episodes) and the direction's ``norm``.
    """

    direction: Params
    squares: Params | None
    metrics: dict[str, float]


class Client:
    """One who trains in a world of its own.

    Args:
        agent: Lives in that world; built with ``torch.optim.SGD`` at the local learning rate.
        config: How.

    Attributes:
        state: Its second moment, with ``client``.
    """

    def __init__(self, agent: OnPolicyAgent, config: FederationConfig) -> None:
        if not isinstance(agent.optimizer, torch.optim.SGD):
            raise ValueError(
                "a client's own updates are plain gradient descent, which needs optimizer=torch.optim.SGD, got "
                f"{type(agent.optimizer).__name__}; RMSprop's place is the federation's placement"
            )
        self.agent, self.config = agent, config
        self.state: dict[str, State] = {}

    def train(self, params: Mapping[str, Tensor]) -> Report:
        """Train for a round, beginning with the server's parameters.

        Args:
            params: By the names of the agent's policy.
        """
        agent, config = self.agent, self.config
        own = dict(agent.policy.named_parameters())
        _check_names(params, own)
        with torch.no_grad():
            for name, param in own.items():
                param.copy_(params[name])
        before, episodes = agent.num_updates, []

        def count(trained: OnPolicyAgent) -> bool:
            episodes.extend(trained.new_episodes)
            return trained.num_updates - before < config.local_updates

        steps = agent.num_timesteps
        for group in agent.optimizer.param_groups:
            group["lr"] = config.local_learning_rate
        agent.learn(10**12, count, log_interval=10**9)
        way = config.local_learning_rate * config.local_updates
        direction = {name: (params[name] - param.detach()) / way for name, param in own.items()}
        squares = None
        if config.placement == "pooled":
            squares = {name: g * g for name, g in direction.items()}
        elif config.placement == "client":
            direction, self.state = normalize(direction, self.state, config)
        returns = [episode.ret for episode in episodes]
        metrics = {
            "env_steps": float(agent.num_timesteps - steps),
            "episodes": float(len(returns)),
            "mean_return": statistics.fmean(returns) if returns else math.nan,
            "norm": norm(direction),
        }
        return Report(direction, squares, metrics)

    def save(self, folder: Path) -> None:
        """Write the agent, in its world and episodes, and the second moment."""
        self.agent.save(folder / f"agent{storage.SUFFIX}")
        storage.write(folder / "normalizer", self.state)

    def load_state(self, folder: Path) -> None:
        """Read the second moment that `save` wrote."""
        self.state = storage.read(folder / "normalizer")


def normalize(
    direction: Params, state: dict[str, State], config: FederationConfig
) -> tuple[Params, dict[str, State]]:
    """A client's direction by the root of its own second moment, ``g_i / (sqrt(v_i) + eps)``, and the new state.

    Args:
        direction: By parameter.
        state: The client's, empty before its first round.
        config: With half-life and eps.
    """
    moved, state = rmsprop_update(
        {name: torch.zeros_like(g) for name, g in direction.items()},
        direction,
        state or rmsprop_init(direction),
        lr=1.0,
        half_life=config.half_life,
        eps=config.eps,
        debias=True,
    )
    return {name: -step for name, step in moved.items()}, state


@dataclass
class Server:
    """Who owns the policy.

    Attributes:
        params: Its parameters.
        config: How it takes steps.
        state: The second moment, with ``server`` and ``pooled``.
        round: Rounds so far.
        rejected: Reports that were not used so far.
    """

    params: Params
    config: FederationConfig
    state: dict[str, State] = field(default_factory=dict)
    round: int = 0
    rejected: int = 0

    def step(self, reports: Sequence[Report]) -> dict[str, float]:
        """One step from a round's reports; those that cannot be right are rejected and counted.

        Args:
            reports: Of those who took part and answered.

        Returns:
            ``clients`` and ``rejected`` of this round, ``update_norm`` of the step, the clients' ``mean_return``.
        """
        self.round += 1
        good = self._accepted(reports)
        rejected = len(reports) - len(good)
        self.rejected += rejected
        told = {"clients": float(len(good)), "rejected": float(rejected)}
        if not good:
            return {**told, "update_norm": 0.0, "mean_return": math.nan}
        weights = [report.metrics["env_steps"] if self.config.weighted else 1.0 for report in good]
        total = sum(weights)
        shares = [weight / total for weight in weights]
        direction = _mean([report.direction for report in good], shares)
        if self.config.placement in ("server", "pooled"):
            squares = None
            if self.config.placement == "pooled":
                squares = _mean([report.squares or {} for report in good], shares)
            direction = self._normalized(direction, squares)
        for name, step in direction.items():
            self.params[name] = self.params[name] - self.config.learning_rate * step
        returns = [report.metrics["mean_return"] for report in good]
        known = [one for one in returns if not math.isnan(one)]
        return {
            **told,
            "update_norm": self.config.learning_rate * norm(direction),
            "mean_return": statistics.fmean(known) if known else math.nan,
        }

    def _accepted(self, reports: Sequence[Report]) -> list[Report]:
        finite = [report for report in reports if _is_finite(report) and self._fits(report)]
        ratio = self.config.max_norm_ratio
        if ratio is None or len(finite) < 3:  # of two, which is the odd one?
            return finite
        median = statistics.median(norm(report.direction) for report in finite)
        return [report for report in finite if norm(report.direction) <= ratio * median]

    def _fits(self, report: Report) -> bool:
        """Whether it has the policy's parameters in their shapes."""
        parts = [report.direction] + ([report.squares or {}] if self.config.placement == "pooled" else [])
        return all(
            part.keys() == self.params.keys()
            and all(part[name].shape == one.shape for name, one in self.params.items())
            for part in parts
        )

    def _normalized(self, direction: Params, squares: Params | None) -> Params:
        """The direction by the root of the second moment, of its own squares or of those given."""
        config = self.config
        self.state = self.state or rmsprop_init(direction)
        seen = direction if squares is None else {name: one.sqrt() for name, one in squares.items()}
        # The rule itself keeps v; of its step only what v is there for is taken.
        _, self.state = rmsprop_update(seen, seen, self.state, lr=0.0, half_life=config.half_life)
        return {
            name: g
            / denominator(
                second_moment(self.state[name], centered=False, debias=True), config.eps, eps_inside_sqrt=False
            )
            for name, g in direction.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed federation needs."""
        return {"params": self.params, "state": self.state, "round": self.round, "rejected": self.rejected}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        _check_names(state["params"], self.params)
        self.params, self.state = dict(state["params"]), dict(state["state"])
        self.round, self.rejected = int(state["round"]), int(state["rejected"])


def norm(params: Mapping[str, Tensor]) -> float:
    """The Euclidean norm of all parameters together."""
    return math.sqrt(sum(float(one.double().square().sum()) for one in params.values()))


def _is_finite(report: Report) -> bool:
    tensors = [*report.direction.values(), *(report.squares or {}).values()]
    env_steps = report.metrics.get("env_steps", math.nan)
    return all(bool(one.isfinite().all()) for one in tensors) and math.isfinite(env_steps) and env_steps > 0


def _mean(all_params: Sequence[Params], shares: Sequence[float]) -> Params:
    return {
        name: torch.stack([share * params[name] for params, share in zip(all_params, shares, strict=True)]).sum(0)
        for name in all_params[0]
    }


def _check_names(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    if given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
        raise ValueError("the parameters are of another policy than this one's; give both the same configuration")
