"""The clipped surrogate loss of PPO on a minibatch.

    r_t  = pi(a_t | o_t) / pi_old(a_t | o_t)
    loss = -mean(min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t)) - ent_coef mean(H_t) + vf_coef mean((R_t - V(o_t))^2)

If ``clip_range_vf`` is d, the last term contains ``V_old + clip(V - V_old, -d, d)`` instead of V.

Sources: Schulman et al., "Proximal policy optimization algorithms", 2017, equations 7 and 9; Stable-Baselines3's
PPO for the clipped values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.distributions import Distribution
from rl_rms.agents.losses import (
    Batch,
    all_features,
    all_values,
    check_rows,
    distribution_of,
    encode,
    plain_targets,
    remember,
    standardized,
)
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.agents.workers import Workers

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Played:
    """Values, log-probabilities and targets of a rollout, computed with the policy that collected it.

    Attributes:
        values: ``V_old(o_t)``. This and all other arrays have the shape ``(num_steps * num_envs,)``.
        log_probs: ``log pi_old(a_t | o_t)``.
        advantages: ``A_t``, not standardized.
        returns: ``R_t``, the critic's targets.
    """

    values: Floats
    log_probs: Floats
    advantages: Floats
    returns: Floats


@dataclass(frozen=True)
class Minibatch:
    """Some transitions of a batch, with all inputs of PPO's loss except the policy.

    Attributes:
        batch: The full batch.
        rows: The transitions as ``step * num_envs + env_index``. This and all other arrays have the shape
            ``(size,)``.
        values: See `Played`.
        log_probs: See `Played`.
        advantages: Advantages, standardized over the minibatch if ``normalize_advantage`` is set.
        returns: See `Played`.
        clip_range: Distance of the ratio from 1 at which it is clipped.
        clip_range_vf: Distance of the values from the old values at which they are clipped; None for no clipping.
    """

    batch: Batch
    rows: Rows
    values: Floats
    log_probs: Floats
    advantages: Floats
    returns: Floats
    clip_range: float
    clip_range_vf: float | None

    @classmethod
    def of(
        cls,
        batch: Batch,
        played: Played,
        rows: Rows,
        clip_range: float,
        clip_range_vf: float | None,
        workers: Workers,
    ) -> "Minibatch":
        """Select rows of the batch as a minibatch. Advantages are standardized over the rows of all workers."""
        advantages = played.advantages[rows]
        if batch.coefficients.normalize_advantage:
            advantages = standardized(advantages, played.returns[rows], workers)
        if not len(rows):
            # This worker has no rows and weight 0, but the optimizer still needs gradients.
            rows, advantages = np.zeros(1, np.int64), played.advantages[:1]
        return cls(
            batch=batch,
            rows=rows,
            values=played.values[rows],
            log_probs=played.log_probs[rows],
            advantages=advantages,
            returns=played.returns[rows],
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
        )


@torch.no_grad()
def evaluate(policy: nn.Module, batch: Batch) -> Played:
    """Compute a batch's values, log-probabilities, advantages and returns with the policy that collected it."""
    device = next(policy.parameters()).device
    features, after = all_features(policy, batch, device)
    _, values, final_values = all_values(policy, batch, features, after)
    advantages, returns = plain_targets(batch, values, final_values)
    rows = np.arange(batch.loss_mask.size)
    distribution = _distribution(policy, batch, features, rows, device)
    log_probs = distribution.log_prob(_of_rows(batch.rollout.actions, rows, device))
    check_rows("the log-probabilities of the actor's distribution", log_probs, len(rows))
    return Played(values[:-1].reshape(-1), log_probs.cpu().numpy(), advantages.reshape(-1), returns.reshape(-1))


def clipped_loss(policy: nn.Module, minibatch: Minibatch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The clipped surrogate loss of a minibatch; the module's docstring has the equation.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        minibatch: The transitions.

    Returns:
        The scalar loss, and its parts by TensorBoard tag.
    """
    device = next(policy.parameters()).device
    coefficients = minibatch.batch.coefficients
    clip_range, clip_range_vf = minibatch.clip_range, minibatch.clip_range_vf
    old_values, old_log_probs, advantages, returns = (
        torch.as_tensor(array, device=device)
        for array in (minibatch.values, minibatch.log_probs, minibatch.advantages, minibatch.returns)
    )
    features = _features(policy, minibatch, device)
    distribution = _distribution(policy, minibatch.batch, features, minibatch.rows, device)
    values: Tensor = policy.critic(features)  # type: ignore[operator]

    actions = _of_rows(minibatch.batch.rollout.actions, minibatch.rows, device)
    log_ratio = distribution.log_prob(actions) - old_log_probs
    ratio = log_ratio.exp()
    clipped_ratio = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    policy_loss = -torch.minimum(ratio * advantages, clipped_ratio * advantages).mean()
    if clip_range_vf is not None:
        values = old_values + (values - old_values).clamp(-clip_range_vf, clip_range_vf)
    value_loss = nn.functional.mse_loss(values, returns)
    entropy_loss = -distribution.entropy().mean()
    loss = policy_loss + coefficients.ent_coef * entropy_loss + coefficients.vf_coef * value_loss
    with torch.no_grad():
        metrics = {
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": entropy_loss,
            "train/loss": loss,
            # An unbiased estimate of KL(old, new) with low variance: http://joschu.net/blog/kl-approx.html
            "train/approx_kl": (ratio - 1.0 - log_ratio).mean(),
            "train/clip_fraction": ((ratio - 1.0).abs() > clip_range).to(ratio.dtype).mean(),
        }
        log_std = getattr(distribution, "log_std", None)
        if log_std is not None:
            metrics["train/std"] = log_std.exp().mean()
    return loss, metrics


def _distribution(
    policy: nn.Module, batch: Batch, features: Tree, rows: Rows, device: torch.device
) -> Distribution:
    """The distributions over the valid actions of the given rows, from their features."""
    distribution = distribution_of(policy, features)
    if batch.rollout.action_masks is not None:
        distribution = distribution.masked(_of_rows(batch.rollout.action_masks, rows, device))
    return distribution


def _features(policy: nn.Module, minibatch: Minibatch, device: torch.device) -> Tree:
    """The inputs of actor and critic for a minibatch's rows.

    A recurrent policy runs through the full rollouts of the rows' sub-environments.
    """
    batch, rows = minibatch.batch, minibatch.rows
    observations = batch.rollout.observations
    if batch.state is None:
        return encode(policy, tree_map(lambda leaf: _of_rows(leaf[:-1], rows, device), observations))
    steps, envs = np.divmod(rows, batch.loss_mask.shape[1])
    envs, columns = np.unique(envs, return_inverse=True)
    features = encode(
        policy, tree_map(lambda leaf: torch.as_tensor(_flat(leaf[:-1, envs]), device=device), observations)
    )
    starts = torch.as_tensor(batch.rollout.starts[:-1, envs], device=device)
    outputs, _ = remember(policy, features, starts, batch.state[torch.as_tensor(envs, device=device)])
    return outputs[torch.as_tensor(steps * len(envs) + columns, device=device)]


def _of_rows(leaf: npt.NDArray[Any], rows: Rows, device: torch.device) -> Tensor:
    return torch.as_tensor(_flat(leaf)[rows], device=device)


def _flat(leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reshape ``(num_steps, num_envs, *shape)`` to ``(num_steps * num_envs, *shape)``."""
    return leaf.reshape(-1, *leaf.shape[2:])
