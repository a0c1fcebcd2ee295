"""The loss of advantage actor-critic, which REINFORCE with a baseline shares."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.config import AgentConfig
from rl_rms.agents.distributions import Distribution
from rl_rms.agents.returns import bootstrap_values, explained_variance, generalized_advantages
from rl_rms.agents.rollout import Rollout
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.agents.workers import ALONE, Workers

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Rounding errors of a sum of a few terms, in units of the last place of its largest.
_ROUNDING = 16


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """What makes a loss of a rollout.

    Attributes:
        gamma: Discount per env step.
        gae_lambda: See `rl_rms.agents.returns.generalized_advantages`.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        normalize_advantage: Whether advantages are brought to mean 0 and standard deviation 1.
        baseline: Whether the critic is used and trained; without it advantages are plain returns.
    """

    gamma: float
    gae_lambda: float
    ent_coef: float
    vf_coef: float
    normalize_advantage: bool
    baseline: bool = True

    @classmethod
    def of(cls, config: AgentConfig, *, gae_lambda: float, ent_coef: float, baseline: bool = True) -> "LossTerms":
        """Those of a configuration, with what it does not know itself."""
        return cls(
            gamma=config.gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=config.vf_coef,
            normalize_advantage=config.normalize_advantage,
            baseline=baseline,
        )


def targets(
    rollout: Rollout,
    used: Bools,
    values: Floats | None,
    final_values: Floats | None,
    terms: LossTerms,
    workers: Workers = ALONE,
) -> tuple[Floats, Floats]:
    """What the policy and the critic are to learn from.

    Args:
        rollout: What happened.
        used: Which transitions count, shape ``(num_steps, num_envs)``.
        values: ``V`` of the rollout's observations, shape ``(num_steps + 1, num_envs)``; None for no baseline.
        final_values: ``V`` of its final observations, shape ``(num_finals,)``.
        terms: Discounts and whether to normalize.
        workers: Over whose transitions advantages are normalized.

    Returns:
        Advantages, normalized over the transitions used if they are to be, and the critic's targets, both of shape
        ``(num_steps, num_envs)``.
    """
    if values is None:
        known = next_values = np.zeros_like(rollout.rewards)
    else:
        known = values[:-1]
        next_values = bootstrap_values(known, values[-1], rollout.terminated)
        if len(rollout.final_index):
            next_values[tuple(rollout.final_index.T)] = final_values
    advantages = generalized_advantages(
        rollout.rewards, known, next_values, rollout.cut, terms.gamma, terms.gae_lambda
    )
    returns = advantages + known
    if terms.normalize_advantage:
        advantages = _standardized(advantages, used, np.hypot(returns, known), workers)
    return advantages, returns


def _standardized(advantages: Floats, used: Bools, sizes: Floats, workers: Workers) -> Floats:
    """``(A - mean) / deviation`` over all workers, computed in float64.

    Equal advantages become 0. They are equal if their deviation is below the rounding error of the returns and
    values that they are differences of.

    Args:
        advantages: Shape ``(num_steps, num_envs)``.
        used: The transitions that count, in the same shape.
        sizes: Magnitudes of these numbers, in the same shape.
        workers: The processes over whose transitions the mean goes.

    Returns:
        In the same shape; as given where less than two transitions count.
    """
    values, magnitudes = advantages[used].astype(np.float64), sizes[used].astype(np.float64)
    count, total, squared_size = workers.sum(np.array([len(values), values.sum(), np.square(magnitudes).sum()]))
    if count < 2:
        return advantages
    mean = total / count
    squares = workers.sum(np.array([np.square(values - mean).sum()]))[0]
    deviation = math.sqrt(squares / (count - 1))
    if deviation <= _ROUNDING * np.finfo(advantages.dtype).eps * math.sqrt(squared_size / count):
        return np.zeros_like(advantages)
    standardized: Floats = ((advantages - mean) / (deviation + 1e-8)).astype(advantages.dtype)
    return standardized


def actor_critic_loss(
    policy: nn.Module,
    rollout: Rollout,
    used: Bools,
    terms: LossTerms,
    state: Tensor | None = None,
    workers: Workers = ALONE,
) -> tuple[Tensor, dict[str, float]]:
    """``-mean(A log pi) - ent_coef * mean(entropy) + vf_coef * mean((R - V)**2)`` over the transitions used.

    The policy that is trained is the one that played the rollout, so one forward pass gives both the values that
    the advantages are made of and the graph of the loss.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        rollout: What happened, as the policy saw it.
        used: Which transitions count, shape ``(num_steps, num_envs)``.
        terms: Discounts and weights.
        state: What a recurrent policy remembered at the rollout's beginning, ``(num_envs, state_size)``.
        workers: As in `targets`.

    Returns:
        The scalar loss, and its parts by TensorBoard tag.
    """
    device = next(policy.parameters()).device
    num = used.size
    features, after = _features(policy, rollout, state, device)
    predicted: Tensor | None = None
    values = final_values = None
    if terms.baseline:
        everything = tree_map(lambda *parts: torch.cat(parts), features, after)
        predicted = policy.critic(everything)  # type: ignore[operator]
        known = predicted.detach().cpu().numpy()
        num_known = num + used.shape[1]
        values, final_values = known[:num_known].reshape(len(used) + 1, -1), known[num_known:]
    advantages, returns = targets(rollout, used, values, final_values, terms, workers)

    distribution: Distribution = policy.actor(features)  # type: ignore[operator]
    if rollout.action_masks is not None:
        distribution = distribution.masked(torch.as_tensor(rollout.action_masks, device=device).flatten(0, 1))
    mask = torch.as_tensor(used.reshape(-1), device=device)
    advantage = torch.as_tensor(advantages.reshape(-1), device=device)[mask]
    log_prob = distribution.log_prob(torch.as_tensor(rollout.actions, device=device).flatten(0, 1))[mask]
    policy_loss = -(advantage * log_prob).mean()
    entropy_loss = -distribution.entropy()[mask].mean()
    loss = policy_loss + terms.ent_coef * entropy_loss
    metrics = {"train/policy_loss": policy_loss.item(), "train/entropy_loss": entropy_loss.item()}
    log_std = getattr(distribution, "log_std", None)
    if log_std is not None:
        metrics["train/std"] = log_std.detach().exp().mean().item()
    if predicted is not None and values is not None:
        target = torch.as_tensor(returns.reshape(-1), device=device)[mask]
        value_loss = nn.functional.mse_loss(predicted[:num][mask], target)
        loss = loss + terms.vf_coef * value_loss
        metrics["train/value_loss"] = value_loss.item()
        metrics["train/explained_variance"] = explained_variance(values[:-1][used], returns[used])
    return loss, metrics


@torch.no_grad()
def first_nonfinite(
    policy: nn.Module, rollout: Rollout, used: Bools, terms: LossTerms, state: Tensor | None = None
) -> str:
    """What of the loss is not finite first, as a phrase; empty where all is.

    Args:
        policy: As in `actor_critic_loss`, as what follows.
        rollout: What happened, as the policy saw it.
        used: Which transitions count.
        terms: Discounts and weights.
        state: What a recurrent policy remembered.
    """
    for name, param in policy.named_parameters():
        if not param.isfinite().all():
            return f"the parameter {name} is nan or infinite already"
    features, after = _features(policy, rollout, state, next(policy.parameters()).device)
    distribution: Distribution = policy.actor(features)  # type: ignore[operator]
    actions = torch.as_tensor(rollout.actions, device=distribution.entropy().device).flatten(0, 1)
    everything = tree_map(lambda *parts: torch.cat(parts), features, after)
    known = policy.critic(everything).cpu().numpy()  # type: ignore[operator]
    values, final_values = (
        known[: used.size + used.shape[1]].reshape(len(used) + 1, -1),
        known[used.size + used.shape[1] :],
    )
    plain = dataclasses.replace(terms, normalize_advantage=False)
    advantages, _ = targets(rollout, used, values, final_values, plain)
    parts = {
        "log-probability of the action": distribution.log_prob(actions).cpu().numpy().reshape(used.shape),
        "value": values[:-1],
        "advantage": advantages,
    }
    for name, numbers in parts.items():
        wrong = ~np.isfinite(numbers) & used
        if wrong.any():
            t, i = np.argwhere(wrong)[0]
            return f"the {name} of sub-environment {i} in step {t} of the rollout is {numbers[t, i]:g}"
    return ""


def _features(
    policy: nn.Module, rollout: Rollout, state: Tensor | None, device: torch.device
) -> tuple[Tree, Tree]:
    """What actor and critic see of the observations that were acted on, in rows, and of those that were not.

    The latter, the last ones and the final ones, are only bootstrapped from, so they have no graph.
    """

    def encode(observations: Any) -> Any:
        return policy.encode(observations) if hasattr(policy, "encode") else observations  # type: ignore[operator]

    def tensor(leaf: npt.NDArray[Any]) -> Tensor:
        return torch.as_tensor(leaf, device=device)

    def not_acted_on(leaf: npt.NDArray[Any], finals: npt.NDArray[Any]) -> Tensor:
        return torch.cat((tensor(leaf[-1]), tensor(finals)))

    features = encode(tree_map(lambda leaf: tensor(leaf[:-1]).flatten(0, 1), rollout.observations))
    with torch.no_grad():
        after = encode(tree_map(not_acted_on, rollout.observations, rollout.final_observations))
    if state is None:
        return features, after
    starts = tensor(rollout.starts)
    seen, states = [], []
    for features_t, start in zip(features.view(*rollout.valid.shape, -1), starts[:-1], strict=True):
        latent, state = policy.remember(features_t, state, start)  # type: ignore[operator]
        seen.append(latent)
        states.append(state)
    with torch.no_grad():
        remembered = torch.cat([states[-1], *(states[t][i : i + 1] for t, i in rollout.final_index.tolist())])
        going_on = torch.zeros(len(rollout.final_index), dtype=torch.bool, device=device)
        after, _ = policy.remember(after, remembered, torch.cat((starts[-1], going_on)))  # type: ignore[operator]
    return torch.cat(seen), after
