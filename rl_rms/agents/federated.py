"""Federated reinforcement learning: clients with different environments train one policy and share no transitions.

In every round the server sends the policy's parameters p to the participating clients. Client i takes some updates
by plain gradient descent in its own environment and reports the direction ``g_i``, the mean of the clipped
gradients of these updates. The setting ``placement`` says who normalizes with RMSprop's second moment v, a
decaying average of squares:

    server   p <- p - lr d / sqrt(v),  d = mean g_i,              v averages d*d         as in FedAdam
    pooled   p <- p - lr d / sqrt(v),  d = mean g_i,              v averages mean g_i*g_i
    client   p <- p - lr d,            d = mean g_i / sqrt(v_i),  v_i averages g_i*g_i   client i keeps v_i
    none     p <- p - lr d,            d = mean g_i                                      federated averaging

The constant ``eps`` is added to each root. The mean over clients is weighted by their env steps if ``weighted`` is
set.

``none`` equals federated averaging if lr is ``local_learning_rate`` times the number of each client's updates: p
is then the mean of the clients' parameters.

Sources: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", 2017, for
federated averaging; Reddi et al., "Adaptive federated optimization", 2021, for adaptive servers such as FedAdam.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rl_rms.agents import storage
from rl_rms.agents.agent import Agent
from rl_rms.agents.federated_checks import check_direction, check_names, checked_state
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.agents.optimizers import group_rates
from rl_rms.envs.checks import check_int, check_number, shown
from rl_rms.half_life import is_number
from rl_rms.optim.rule import State, denominator, rmsprop_init, rmsprop_update, second_moment

Params = dict[str, Tensor]
# Sums of larger returns can overflow float64.
_LARGEST_RETURN = 1e300


@dataclass(frozen=True)
class Report:
    """A client's result of one round.

    Attributes:
        direction: Mean of the clipped gradients of the round's updates, by parameter name. With the placement
            ``client``, this mean is divided by ``sqrt(v_i) + eps``.
        metrics: ``env_steps``, ``episodes`` and ``mean_return`` (nan without episodes).
    """

    direction: Params
    metrics: dict[str, float]


class Client:
    """A client that trains in its own environment.

    Args:
        agent: The client's agent, built with ``torch.optim.SGD`` without momentum or weight decay, a constant
            learning rate and ``normalize_observation=False``. `train` sets the learning rate.
        config: The federation's settings.

    Attributes:
        state: The client's second moment if the placement is ``client``; otherwise empty.

    Raises:
        ValueError: If the agent's optimizer is not plain ``torch.optim.SGD``, if its learning rate has a schedule,
            or if the agent normalizes observations.
    """

    def __init__(self, agent: Agent, config: FederationConfig) -> None:
        if not isinstance(agent.optimizer, torch.optim.SGD):
            raise ValueError(
                "a client's own updates must be plain gradient descent with optimizer=torch.optim.SGD, got "
                f"{type(agent.optimizer).__name__}; use RMSprop through the federation's placement"
            )
        for group in agent.optimizer.param_groups:
            for name in ("momentum", "weight_decay"):
                if group[name]:
                    raise ValueError(
                        f"a client's own updates must be plain gradient descent with {name}=0, got {group[name]!r}"
                    )
        for rate in group_rates(agent.config):
            if isinstance(rate, dict):
                raise ValueError(
                    "a client needs a constant learning rate, because every round uses local_learning_rate, got "
                    f"{rate!r}"
                )
        if agent.observation_normalizer is not None:
            raise ValueError(
                "a client needs normalize_observation=False, because the clients share a policy but not the "
                f"statistics of their observations, got {agent.config.normalize_observation!r}"
            )
        self.agent, self.config = agent, config
        self.state: dict[str, State] = {}

    def train(self, params: Mapping[str, Tensor]) -> Report:
        """Train for a round, beginning with the server's parameters.

        Args:
            params: The server's parameters by name.
        """
        agent, config = self.agent, self.config
        own = dict(agent.policy.named_parameters())
        check_names(params, own)
        with torch.no_grad():
            for name, param in own.items():
                param.copy_(params[name])
        before, episodes = agent.num_updates, []

        def count(trained: Agent) -> bool:
            episodes.extend(trained.new_episodes)
            return trained.num_updates - before < config.local_updates

        steps = agent.num_timesteps
        for group in agent.optimizer.param_groups:
            group["lr"] = config.local_learning_rate
        agent.learn(10**12, count, log_interval=10**9)
        # PPO can take more than local_updates, because it completes the updates on its last rollout.
        total_rate = config.local_learning_rate * (agent.num_updates - before)
        direction = {name: (params[name] - param.detach()) / total_rate for name, param in own.items()}
        if config.placement == "client":
            direction, self.state = normalize(direction, self.state, config)
        returns = [episode.ret for episode in episodes]
        metrics = {
            "env_steps": float(agent.num_timesteps - steps),
            "episodes": float(len(returns)),
            "mean_return": statistics.fmean(returns) if returns else math.nan,
        }
        return Report(direction, metrics)

    def save(self, folder: Path) -> None:
        """Write the agent, the state of its environment, and the client's second moment to a folder."""
        # The agent is written last, so that a folder with an agent also has a second moment.
        storage.write(folder / "normalizer", self.state)
        self.agent.save(folder / f"agent{storage.SUFFIX}")

    def load_state(self, folder: Path) -> None:
        """Read the second moment that `save` wrote.

        Raises:
            ValueError: If the file does not contain a second moment for this agent's policy.
        """
        own = dict(self.agent.policy.named_parameters())
        self.state = checked_state(storage.read(folder / "normalizer"), own)


def normalize(
    direction: Params, state: dict[str, State], config: FederationConfig
) -> tuple[Params, dict[str, State]]:
    """A client's normalized direction, ``g_i / (sqrt(v_i) + eps)``, and its new second moment.

    Args:
        direction: The client's direction by parameter name.
        state: The client's second moment; empty before its first round.
        config: The federation's settings, with half-life and eps.
    """
    moved, state = rmsprop_update(
        {name: torch.zeros_like(g) for name, g in direction.items()},
        direction,
        state or rmsprop_init(direction),
        lr=1.0,
        half_life=config.half_life,
        eps=config.eps,
        bias_correction=True,
    )
    return {name: -step for name, step in moved.items()}, state


@dataclass
class Server:
    """Holds the policy and updates it from the clients' reports.

    Attributes:
        params: The policy's parameters by name.
        config: The federation's settings.
        most_env_steps: Maximum env steps of a client in one round. `check` rejects a report with more env steps.
        state: Second moments by parameter name if the placement is ``server`` or ``pooled``; otherwise empty.
        round: Rounds so far.
        rejected: Rejected reports so far, including unreadable reports.
    """

    params: Params
    config: FederationConfig
    most_env_steps: int = 2**31
    state: dict[str, State] = field(default_factory=dict)
    round: int = 0
    rejected: int = 0

    def check(self, report: Report) -> None:
        """Check a report's names, shapes, dtypes and ranges.

        Raises:
            ValueError: If the report is invalid. The message names the invalid part.
        """
        check_direction(report.direction, self.params)
        if not isinstance(report.metrics, Mapping):
            raise ValueError(f"the metrics must be numbers by name, got {shown(report.metrics)}")
        missing = [name for name in ("env_steps", "episodes", "mean_return") if name not in report.metrics]
        if missing:
            raise ValueError(f"the metrics lack {', '.join(missing)}; report env_steps, episodes and mean_return")
        env_steps, episodes = report.metrics["env_steps"], report.metrics["episodes"]
        check_int("env_steps", env_steps, least=1)
        check_number("env_steps", env_steps, most=self.most_env_steps)
        check_int("episodes", episodes, least=0)
        check_number("episodes", episodes, most=env_steps)
        mean_return = report.metrics["mean_return"]
        if episodes or not is_number(mean_return) or not math.isnan(mean_return):
            check_number("mean_return", mean_return, least=-_LARGEST_RETURN, most=_LARGEST_RETURN)

    def step(self, reports: Sequence[Report], *, unreadable: int = 0) -> dict[str, float]:
        """Take one step from a round's reports.

        The server rejects a report that fails `check`, and a direction that is too large according to the setting
        ``max_norm_ratio``. If all reports are rejected, the parameters stay unchanged.

        Args:
            reports: Reports of the clients that answered.
            unreadable: Number of answers without a readable report. These answers count as rejected.

        Returns:
            The numbers of accepted reports (``clients``) and of ``rejected`` reports, the norm of the parameters'
            change (``update_norm``), and the unweighted mean of the accepted clients' ``mean_return`` (NaN without
            episodes).
        """
        self.round += 1
        accepted = self._accepted(reports)
        rejected = unreadable + len(reports) - len(accepted)
        self.rejected += rejected
        counts = {"clients": float(len(accepted)), "rejected": float(rejected)}
        if not accepted:
            return {**counts, "update_norm": 0.0, "mean_return": math.nan}
        weights = [report.metrics["env_steps"] if self.config.weighted else 1.0 for report in accepted]
        total = sum(weights)
        shares = [weight / total for weight in weights]
        direction = _mean([report.direction for report in accepted], shares)
        if self.config.placement == "server":
            direction = self._normalized(direction, direction)
        elif self.config.placement == "pooled":
            squares = _mean([{name: g * g for name, g in report.direction.items()} for report in accepted], shares)
            direction = self._normalized(direction, {name: square.sqrt() for name, square in squares.items()})
        for name, step in direction.items():
            self.params[name] = self.params[name] - self.config.learning_rate * step
        returns = [report.metrics["mean_return"] for report in accepted]
        known = [mean_return for mean_return in returns if not math.isnan(mean_return)]
        return {
            **counts,
            "update_norm": self.config.learning_rate * norm(direction),
            "mean_return": statistics.fmean(known) if known else math.nan,
        }

    def _accepted(self, reports: Sequence[Report]) -> list[Report]:
        usable = [report for report in reports if self._is_usable(report)]
        ratio = self.config.max_norm_ratio
        if ratio is None or len(usable) < 3:  # two norms are too few to detect an outlier
            return usable
        median = statistics.median(norm(report.direction) for report in usable)
        return [report for report in usable if norm(report.direction) <= ratio * median]

    def _is_usable(self, report: Report) -> bool:
        try:
            self.check(report)
        except ValueError:
            return False
        return True

    def _normalized(self, direction: Params, grads: Params) -> Params:
        """Update v with the squares of ``grads``, and return the direction divided by ``sqrt(v) + eps``."""
        config = self.config
        self.state = self.state or rmsprop_init(direction)
        # Only the new second moment is needed, so lr is 0.
        _, self.state = rmsprop_update(grads, grads, self.state, lr=0.0, half_life=config.half_life)
        return {
            name: g
            / denominator(
                second_moment(self.state[name], centered=False, bias_correction=True),
                config.eps,
                eps_in_sqrt=False,
            )
            for name, g in direction.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The server's state for a resumed federation."""
        return {"params": self.params, "state": self.state, "round": self.round, "rejected": self.rejected}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`.

        Raises:
            ValueError: If a part is missing or belongs to another policy, if a value is not finite, or if a count
                or a second moment is below 0.
        """
        missing = [name for name in ("params", "state", "round", "rejected") if name not in state]
        if missing:
            raise ValueError(
                f"the server's state lacks {', '.join(missing)}; give a state that state_dict returned"
            )
        check_names(state["params"], self.params)
        moments = checked_state(state["state"], self.params)
        counts = [check_int(name, state[name], least=0) for name in ("round", "rejected")]
        self.params, self.state = dict(state["params"]), moments
        self.round, self.rejected = counts


def norm(params: Mapping[str, Tensor]) -> float:
    """The Euclidean norm of all parameters together."""
    return math.sqrt(sum(float(param.double().square().sum()) for param in params.values()))


def _mean(all_params: Sequence[Params], shares: Sequence[float]) -> Params:
    return {
        name: torch.stack([share * params[name] for params, share in zip(all_params, shares, strict=True)]).sum(0)
        for name in all_params[0]
    }
