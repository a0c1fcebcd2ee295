"""The clipped surrogate loss of PPO on a minibatch.

    r_t  = pi(a_t | o_t) / pi_old(a_t | o_t)
    loss = -mean(min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t)) - ent_coef mean(H_t) + vf_coef mean((R_t - V(o_t))^2)

``c`` is ``clip_range``, and ``H_t`` is the entropy of ``pi(. | o_t)``. If ``clip_range_vf`` is d, the last term
contains ``V_old + clip(V - V_old, -d, d)`` instead of V.

Sources: Schulman et al., "Proximal policy optimization algorithms", 2017, equations 7 and 9; Stable-Baselines3's
PPO for the clipped values.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.losses import (
    Batch,
    all_features,
    all_values,
    check_rows,
    device_of,
    distribution_of,
    encode,
    plain_targets,
    remember,
    standardized,
)
from rl_rms.agents.transfers import DeviceRollout, Scalars, to_device
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.agents.workers import Workers

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Played:
    """Values, log-probabilities and targets of a rollout, computed with the policy that collected the rollout.

    All arrays have the shape ``(num_steps * num_envs,)``.

    Attributes:
        values: ``V_old(o_t)``.
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

    All arrays have the shape ``(size,)``.

    Attributes:
        batch: The full batch.
        rows: Indices of the transitions in the batch, ``step * num_envs + env_index``.
        values: See `Played`.
        log_probs: See `Played`.
        advantages: Advantages, standardized over the minibatch of all workers if ``normalize_advantage`` is set.
        returns: See `Played`.
        clip_range: Maximum distance of the clipped ratio from 1.
        clip_range_vf: Maximum distance of the clipped values from the old values; None for no clipping.
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
        """Select rows as a minibatch. ``normalize_advantage`` standardizes advantages over all workers' rows."""
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
    """Compute values, log-probabilities, advantages and returns with the policy that collected the batch."""
    inputs, num = batch.on(device_of(policy)), batch.loss_mask.size
    features, after = all_features(policy, batch, inputs)
    _, values, final_values = all_values(policy, batch, features, after)
    advantages, returns = plain_targets(batch, values, final_values)
    distribution = distribution_of(policy, features, inputs.action_masks)
    log_probs = distribution.log_prob(inputs.actions)
    check_rows("the log-probabilities of the actor's distribution", log_probs, num)
    return Played(values[:-1].reshape(-1), log_probs.cpu().numpy(), advantages.reshape(-1), returns.reshape(-1))


def clipped_loss(policy: nn.Module, minibatch: Minibatch, *, with_metrics: bool = True) -> tuple[Tensor, Scalars]:
    """The clipped surrogate loss of a minibatch; the module's docstring has the equation.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        minibatch: The transitions.
        with_metrics: Whether the metrics are needed.

    Returns:
        The scalar loss, and its metrics by TensorBoard tag; no metrics without ``with_metrics``.
    """
    device = device_of(policy)
    inputs, rows = minibatch.batch.on(device), to_device(minibatch.rows, device)
    coefficients = minibatch.batch.coefficients
    clip_range, clip_range_vf = minibatch.clip_range, minibatch.clip_range_vf
    old_values, old_log_probs, advantages, returns = to_device(
        np.array((minibatch.values, minibatch.log_probs, minibatch.advantages, minibatch.returns)), device
    )
    features = _features(policy, minibatch, inputs, rows)
    masks = None if inputs.action_masks is None else inputs.action_masks.index_select(0, rows)
    distribution = distribution_of(policy, features, masks)
    values: Tensor = policy.critic(features)  # type: ignore[operator]

    log_ratio = distribution.log_prob(inputs.actions.index_select(0, rows)) - old_log_probs
    ratio = log_ratio.exp()
    clipped_ratio = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    policy_loss = -torch.minimum(ratio * advantages, clipped_ratio * advantages).mean()
    if clip_range_vf is not None:
        values = old_values + (values - old_values).clamp(-clip_range_vf, clip_range_vf)
    value_loss = nn.functional.mse_loss(values, returns)
    entropy_loss = -distribution.entropy().mean()
    loss = policy_loss + coefficients.ent_coef * entropy_loss + coefficients.vf_coef * value_loss
    if not with_metrics:
        return loss, {}
    with torch.no_grad():
        metrics = {
            "train/policy_gradient_loss": policy_loss.detach(),
            "train/value_loss": value_loss.detach(),
            "train/entropy_loss": entropy_loss.detach(),
            "train/loss": loss.detach(),
            # An unbiased estimate of KL(old, new) with low variance: http://joschu.net/blog/kl-approx.html
            "train/approx_kl": (ratio - 1.0 - log_ratio).mean(),
            "train/clip_fraction": ((ratio - 1.0).abs() > clip_range).to(ratio.dtype).mean(),
        }
        log_std = getattr(distribution, "log_std", None)
        if log_std is not None:
            metrics["train/std"] = log_std.exp().mean()
    return loss, metrics


def _features(policy: nn.Module, minibatch: Minibatch, inputs: DeviceRollout, rows: Tensor) -> Tree:
    """The inputs of actor and critic for a minibatch's rows.

    A recurrent policy runs through the full rollouts of the rows' sub-environments.
    """
    batch, observations = minibatch.batch, inputs.observations
    if batch.state is None or inputs.starts is None:
        return encode(policy, tree_map(lambda leaf: leaf.index_select(0, rows), observations))
    steps, envs = np.divmod(minibatch.rows, batch.loss_mask.shape[1])
    envs, columns = np.unique(envs, return_inverse=True)
    chosen, own = (to_device(each, rows.device) for each in (envs, steps * len(envs) + columns))

    def of_envs(leaf: Tensor) -> Tensor:
        return leaf.index_select(1, chosen)

    shape = batch.rollout.starts.shape
    features = encode(
        policy, tree_map(lambda leaf: of_envs(leaf.unflatten(0, shape)[:-1]).flatten(0, 1), observations)
    )
    outputs, _ = remember(policy, features, of_envs(inputs.starts[:-1]), batch.state.index_select(0, chosen))
    return outputs.index_select(0, own)
