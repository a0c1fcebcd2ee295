"""The loss of advantage actor-critic, which REINFORCE with a baseline shares."""

import numpy as np
import torch
from torch import Tensor, nn

from rl_rms.agents.config import AgentConfig
from rl_rms.agents.returns import bootstrap_values, explained_variance, generalized_advantages
from rl_rms.agents.rollout import Rollout


def actor_critic_loss(
    policy: nn.Module,
    rollout: Rollout,
    used: np.ndarray,
    config: AgentConfig,
    gae_lambda: float,
    *,
    baseline: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """``-mean(A log pi) - ent_coef * mean(entropy) + vf_coef * mean((R - V)**2)`` over the transitions used.

    The policy that is trained is the one that played the rollout, so one forward pass gives both the values that
    the advantages are made of and the graph of the loss.

    Args:
        policy: Module with `MlpPolicy`'s interface.
        rollout: What happened.
        used: Which transitions count, shape ``(num_steps, num_envs)``.
        config: Discount and weights.
        gae_lambda: See `generalized_advantages`.
        baseline: Whether the critic is used and trained; without it advantages are plain returns.

    Returns:
        The scalar loss, and its parts by TensorBoard tag.
    """
    device = next(policy.parameters()).device
    num_steps, num_envs = used.shape
    observations = torch.as_tensor(rollout.observations, device=device)
    if baseline:
        everything = torch.cat(
            (observations.flatten(0, 1), torch.as_tensor(rollout.final_observations, device=device))
        )
        predicted: Tensor = policy.critic(everything)  # type: ignore[operator]
        known = predicted.detach().cpu().numpy()
        values = known[: (num_steps + 1) * num_envs].reshape(num_steps + 1, num_envs)
        next_values = bootstrap_values(values[:-1], values[-1], rollout.terminated)
        next_values[tuple(rollout.final_index.T)] = known[(num_steps + 1) * num_envs :]
        values = values[:-1]
    else:
        values = next_values = np.zeros_like(rollout.rewards)
    advantages = generalized_advantages(
        rollout.rewards, values, next_values, rollout.done, config.gamma, gae_lambda
    )
    returns = advantages + values

    mask = torch.as_tensor(used, device=device)
    advantage = torch.as_tensor(advantages, device=device)[mask]
    if config.normalize_advantage and len(advantage) > 1:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    distribution = policy.actor(observations[:-1][mask])  # type: ignore[operator]
    log_prob = distribution.log_prob(torch.as_tensor(rollout.actions, device=device)[mask])
    policy_loss = -(advantage * log_prob).mean()
    entropy_loss = -distribution.entropy().mean()
    loss = policy_loss + config.ent_coef * entropy_loss
    metrics = {"train/policy_loss": policy_loss.item(), "train/entropy_loss": entropy_loss.item()}
    log_std = getattr(distribution, "log_std", None)
    if log_std is not None:
        metrics["train/std"] = log_std.detach().exp().mean().item()
    if baseline:
        target = torch.as_tensor(returns, device=device)[mask]
        predicted = predicted[: num_steps * num_envs].view(num_steps, num_envs)[mask]
        value_loss = nn.functional.mse_loss(predicted, target)
        loss = loss + config.vf_coef * value_loss
        metrics["train/value_loss"] = value_loss.item()
        metrics["train/explained_variance"] = explained_variance(values[used], returns[used])
    return loss, metrics
