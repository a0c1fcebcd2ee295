"""The loss of advantage actor-critic, ``-mean(A log pi) - ent_coef * mean(H) + vf_coef * mean((R - V)**2)``.

A is the advantage, H the entropy of the action distribution, R the critic's target and V the critic's value.
"""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.config import AgentConfig
from rl_rms.agents.distributions import Distribution, as_distribution
from rl_rms.agents.returns import bootstrap_values, explained_variance, generalized_advantages
from rl_rms.agents.rollout import Rollout
from rl_rms.agents.transfers import DeviceRollout, Scalars, to_device
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.agents.workers import ALONE, Workers

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Bound of a subtraction's rounding error, in multiples of the operands' magnitude times the machine epsilon.
_ROUNDING = 16


@dataclass(frozen=True, kw_only=True)
class LossCoefficients:
    """Discounts and weights of the loss.

    Attributes:
        gamma: Discount per env step.
        gae_lambda: See `rl_rms.agents.returns.generalized_advantages`.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        normalize_advantage: Whether advantages are standardized to mean 0 and standard deviation 1.
        baseline: Whether the critic is used and trained; without a baseline, the advantages are the returns.
    """

    gamma: float
    gae_lambda: float
    ent_coef: float
    vf_coef: float
    normalize_advantage: bool
    baseline: bool = True

    @classmethod
    def of(
        cls, config: AgentConfig, *, gae_lambda: float, ent_coef: float, baseline: bool = True
    ) -> "LossCoefficients":
        """The coefficients of a configuration."""
        return cls(
            gamma=config.gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=config.vf_coef,
            normalize_advantage=config.normalize_advantage,
            baseline=baseline,
        )


@dataclass(frozen=True)
class Batch:
    """A rollout with all inputs of its loss except the policy.

    Attributes:
        rollout: The transitions, with normalized observations and rewards.
        loss_mask: Transitions that the loss averages over, shape ``(num_steps, num_envs)``.
        coefficients: The loss's discounts and weights.
        state: Recurrent state before the first step, ``(num_envs, state_size)``; None unless the policy is
            recurrent.
    """

    rollout: Rollout
    loss_mask: Bools
    coefficients: LossCoefficients
    state: Tensor | None = None
    _on_devices: dict[torch.device, DeviceRollout] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def on(self, device: torch.device) -> DeviceRollout:
        """The rollout on a device. Only the first call for a device copies the rollout."""
        if device not in self._on_devices:
            self._on_devices[device] = DeviceRollout.of(self.rollout, device, is_recurrent=self.state is not None)
        return self._on_devices[device]

    def copied(self) -> "Batch":
        """Copy the batch without its episodes. The collector does not overwrite the copy's arrays."""
        others = ("episodes", "action_masks", "masked")
        copies = {
            field.name: tree_map(np.array, getattr(self.rollout, field.name))
            for field in dataclasses.fields(self.rollout)
            if field.name not in others
        }
        masks = None if self.rollout.action_masks is None else self.rollout.action_masks.copy()
        rollout = Rollout(**copies, action_masks=masks, episodes=[], masked=self.rollout.masked)
        return dataclasses.replace(self, rollout=rollout, loss_mask=self.loss_mask.copy())


def targets(
    batch: Batch, values: Floats | None, final_values: Floats | None, workers: Workers = ALONE
) -> tuple[Floats, Floats]:
    """The advantages and the critic's targets.

    Args:
        batch: The rollout with its loss mask and coefficients.
        values: ``V`` of the rollout's observations, shape ``(num_steps + 1, num_envs)``; None for no baseline.
        final_values: ``V`` of the rollout's final observations, shape ``(num_finals,)``; may be None if
            there are no final observations or no baseline.
        workers: The processes whose advantages are standardized together.

    Returns:
        Advantages, standardized over the loss mask if ``normalize_advantage`` is set, and the critic's
        targets, both of shape ``(num_steps, num_envs)``.
    """
    advantages, returns = plain_targets(batch, values, final_values)
    if batch.coefficients.normalize_advantage:
        mask = batch.loss_mask
        advantages = advantages.copy()
        advantages[mask] = standardized(advantages[mask], returns[mask], workers)
    return advantages, returns


def plain_targets(batch: Batch, values: Floats | None, final_values: Floats | None) -> tuple[Floats, Floats]:
    """Compute advantages, not standardized, and the critic's targets; the arguments are as in `targets`."""
    rollout, coefficients = batch.rollout, batch.coefficients
    if values is None:
        own_values = next_values = np.zeros_like(rollout.rewards)
    else:
        own_values = values[:-1]
        next_values = bootstrap_values(own_values, values[-1], rollout.terminated)
        if len(rollout.final_index):
            next_values[tuple(rollout.final_index.T)] = final_values
    advantages = generalized_advantages(
        rollout.rewards, own_values, next_values, rollout.cut, coefficients.gamma, coefficients.gae_lambda
    )
    return advantages, advantages + own_values


def standardized(advantages: Floats, returns: Floats, workers: Workers = ALONE) -> Floats:
    """``(A - mean) / (deviation + 1e-8)`` over all workers, computed in float64.

    Equal advantages become 0. Advantages count as equal if their deviation does not exceed the rounding error of
    the subtraction ``returns - values``.

    Args:
        advantages: Shape ``(num_transitions,)``.
        returns: The critic's targets of these transitions, same shape.
        workers: The processes whose transitions are standardized together.

    Returns:
        Standardized advantages, same shape; unchanged if all workers together have fewer than two transitions.
    """
    values, sizes = advantages.astype(np.float64), np.hypot(returns, returns - advantages, dtype=np.float64)
    count, total, squared_size = workers.sum(np.array([len(values), values.sum(), np.square(sizes).sum()]))
    if count < 2:
        return advantages
    mean = total / count
    squares = workers.sum(np.array([np.square(values - mean).sum()]))[0]
    deviation = math.sqrt(squares / (count - 1))
    if deviation <= _ROUNDING * np.finfo(advantages.dtype).eps * math.sqrt(squared_size / count):
        return np.zeros_like(advantages)
    scaled: Floats = ((advantages - mean) / (deviation + 1e-8)).astype(advantages.dtype)
    return scaled


def actor_critic_loss(
    policy: nn.Module, batch: Batch, workers: Workers = ALONE, *, with_metrics: bool = True
) -> tuple[Tensor, Scalars]:
    """``-mean(A log pi) - ent_coef * mean(entropy) + vf_coef * mean((R - V)**2)`` over the loss mask.

    The same policy collected the rollout, so one forward pass gives both the values for the advantages and the
    loss's graph.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        batch: The rollout with its loss mask, coefficients and recurrent state.
        workers: The processes whose advantages are standardized together.
        with_metrics: Whether to compute metrics.

    Returns:
        The scalar loss, and its metrics by TensorBoard tag; no metrics without ``with_metrics``.
    """
    coefficients, device = batch.coefficients, device_of(policy)
    inputs = batch.on(device)
    features, after = all_features(policy, batch, inputs)
    predicted: Tensor | None = None
    values = final_values = None
    if coefficients.baseline:
        predicted, values, final_values = all_values(policy, batch, features, after)
    advantages, returns = targets(batch, values, final_values, workers)

    distribution = distribution_of(policy, features, inputs.action_masks)
    log_prob = distribution.log_prob(inputs.actions)
    check_rows("the log-probabilities of the actor's distribution", log_prob, batch.loss_mask.size)
    # A boolean mask on a GPU would make the CPU wait for the number of selected rows.
    chosen = np.flatnonzero(batch.loss_mask)
    rows = to_device(chosen, device)
    advantage, target = to_device(np.array((advantages.reshape(-1)[chosen], returns.reshape(-1)[chosen])), device)
    policy_loss = -(advantage * log_prob.index_select(0, rows)).mean()
    entropy_loss = -distribution.entropy().index_select(0, rows).mean()
    loss = policy_loss + coefficients.ent_coef * entropy_loss
    parts = {"train/policy_gradient_loss": policy_loss, "train/entropy_loss": entropy_loss}
    if predicted is not None:
        value_loss = nn.functional.mse_loss(predicted.index_select(0, rows), target)
        loss = loss + coefficients.vf_coef * value_loss
        parts["train/value_loss"] = value_loss
    if not with_metrics:
        return loss, {}
    metrics: dict[str, Tensor | float] = {name: part.detach() for name, part in parts.items()}
    log_std = getattr(distribution, "log_std", None)
    if log_std is not None:
        metrics["train/std"] = log_std.detach().exp().mean()
    if values is not None:
        metrics["train/explained_variance"] = explained_variance(
            values[:-1][batch.loss_mask], returns[batch.loss_mask]
        )
    return loss, metrics


@torch.no_grad()
def first_nonfinite(policy: nn.Module, batch: Batch, first_index: int = 0) -> str:
    """Name the first non-finite parameter, log-probability, value or advantage; empty text if all are finite.

    Args:
        policy: See `actor_critic_loss`.
        batch: See `actor_critic_loss`.
        first_index: Index that the text gives to the first sub-environment.
    """
    for name, param in policy.named_parameters():
        if not param.isfinite().all():
            return f"the parameter {name} is already nan or infinite"
    shape, inputs = batch.loss_mask.shape, batch.on(device_of(policy))
    features, after = all_features(policy, batch, inputs)
    distribution = distribution_of(policy, features)
    _, values, final_values = all_values(policy, batch, features, after)
    advantages, _ = plain_targets(batch, values, final_values)
    parts = {
        "log-probability of the action": distribution.log_prob(inputs.actions).cpu().numpy().reshape(shape),
        "value": values[:-1],
        "advantage": advantages,
    }
    for name, array in parts.items():
        nonfinite = ~np.isfinite(array) & batch.loss_mask
        if nonfinite.any():
            t, i = np.argwhere(nonfinite)[0]
            return f"the {name} of sub-environment {first_index + i} in step {t} of the rollout is {array[t, i]:g}"
    return ""


def all_values(policy: nn.Module, batch: Batch, features: Tree, after: Tree) -> tuple[Tensor, Floats, Floats]:
    """The critic's values of all observations: a tensor with its autograd graph, and the arrays for `targets`."""
    num_steps, num_envs = batch.loss_mask.shape
    all_inputs = tree_map(_joined, features, after)
    predicted: Tensor = policy.critic(all_inputs)  # type: ignore[operator]
    num_values = (num_steps + 1) * num_envs
    check_rows("the critic's values", predicted, num_values + len(batch.rollout.final_index))
    values = predicted.detach().cpu().numpy()
    return predicted, values[:num_values].reshape(num_steps + 1, -1), values[num_values:]


def check_rows(name: str, rows: Tensor, num: int) -> None:
    """Check the shape of a result of a user's policy, because torch would broadcast a wrong shape.

    Raises:
        ValueError: If the shape is not ``(num,)``.
    """
    if rows.shape != (num,):
        raise ValueError(
            f"{name} must have shape ({num},), one value per row, got {tuple(rows.shape)}; apply .squeeze(-1) "
            "to the last layer's outputs, or .sum(-1) over the components of an action"
        )


def all_features(policy: nn.Module, batch: Batch, inputs: DeviceRollout) -> tuple[Tree, Tree]:
    """The inputs of actor and critic in rows: for observations with an action, and for observations without.

    The observations after the last step and those in ``final_observations`` have no action. These observations
    only give bootstrap values, so their inputs have no autograd graph. Batch normalization uses its running
    statistics for them, because these few observations, often only one, have no useful statistics.
    """
    num = batch.loss_mask.size
    features = encode(policy, tree_map(lambda leaf: leaf[:num], inputs.observations))
    without_action = tree_map(lambda leaf: leaf[num:], inputs.observations)
    if inputs.final_observations is not None:
        without_action = tree_map(_joined, without_action, inputs.final_observations)
    with torch.no_grad(), _evaluating(policy):
        after = encode(policy, without_action)
    if batch.state is None or inputs.starts is None:
        return features, after
    features, states = remember(policy, features, inputs.starts[:-1], batch.state)
    final_index = batch.rollout.final_index
    with torch.no_grad():
        remembered = torch.cat([states[-1], *(states[t][i : i + 1] for t, i in final_index.tolist())])
        continuing = inputs.starts.new_zeros(len(final_index))
        after, _ = policy.remember(after, remembered, torch.cat((inputs.starts[-1], continuing)))  # type: ignore[operator]
    return features, after


@contextmanager
def _evaluating(policy: nn.Module) -> Iterator[None]:
    """Put the policy in evaluation mode inside the block, and restore its earlier mode afterwards."""
    mode = policy.training
    if mode:
        policy.eval()
    try:
        yield
    finally:
        if mode:
            policy.train()


def _joined(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second))


def device_of(policy: nn.Module) -> torch.device:
    """The device of a policy's parameters."""
    return next(policy.parameters()).device


def encode(policy: nn.Module, observations: Tree) -> Tree:
    """The features of observations; the observations themselves if the policy has no ``encode``."""
    return policy.encode(observations) if hasattr(policy, "encode") else observations  # type: ignore[operator]


def distribution_of(policy: nn.Module, features: Tree, action_masks: Tensor | None = None) -> Distribution:
    """The distribution over actions for features; see `rl_rms.agents.distributions.as_distribution`."""
    distribution = as_distribution(policy.actor(features))  # type: ignore[operator]
    return distribution if action_masks is None else distribution.masked(action_masks)


def remember(policy: nn.Module, features: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Pass the features of a rollout through the recurrent cell.

    Args:
        policy: The recurrent policy.
        features: Shape ``(num_steps * num_envs, num_features)``.
        starts: Whether an observation is its episode's first, shape ``(num_steps, num_envs)``.
        state: Recurrent state before the first step, shape ``(num_envs, state_size)``.

    Returns:
        The inputs of actor and critic in rows, and the recurrent state after each step.
    """
    outputs, states = [], []
    for features_t, start in zip(features.view(*starts.shape, -1), starts, strict=True):
        latent, state = policy.remember(features_t, state, start)  # type: ignore[operator]
        outputs.append(latent)
        states.append(state)
    return torch.cat(outputs), states
