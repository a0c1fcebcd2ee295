"""Acting and gradients in numpy, without autograd, for small feed-forward networks on a CPU.

For a few thousand weights, most of the time of a torch operation is overhead, and autograd doubles this time. This
backend shares memory with the torch module, and writes gradients to the parameters' ``grad``. `gradients` and
`evaluate` reuse the activations that the actor computed during the rollout. The backend computes the gradients of
`rl_rms.agents.losses.actor_critic_loss` and `rl_rms.agents.clipped_loss.clipped_loss`. Tests compare the backend's
gradients with autograd's.
"""

import functools
from contextlib import AbstractContextManager
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from rl_rms.agents.clipped_loss import Minibatch, Played
from rl_rms.agents.distributions import TINY
from rl_rms.agents.encoders import Flatten, OneHot
from rl_rms.agents.losses import Batch, plain_targets, targets
from rl_rms.agents.numpy_distributions import CategoricalActions, GaussianActions
from rl_rms.agents.numpy_network import Network, SharedParameters, is_perceptron
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.returns import explained_variance
from rl_rms.agents.workers import ALONE, RandomSource, Workers
from rl_rms.optim.torch_private import has_hooks, has_tensor_hooks

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

# For networks with at most this many weights, numpy on one thread is faster than torch.
_MOST_WEIGHTS = 200_000
# The backend replaces these methods of the policy and its layers, so it would ignore a user's own versions of
# them.
_METHODS = {"forward", "encode", "actor", "critic"}


def supports(policy: nn.Module) -> TypeGuard[ActorCriticPolicy]:
    """Whether `NumpyBackend` can run a policy that is small enough to be faster in numpy than in torch.

    `NumpyBackend` supports float32 `ActorCriticPolicy` networks on a CPU, with at most 200,000 weights and
    Discrete or Box actions. Actor and critic must be multilayer perceptrons (`is_perceptron`) without common
    layers or weights. The policy must not have hooks, replaced methods, frozen or additional parameters, squashed
    actions, a shared trunk, a recurrent cell, or an encoder other than `Flatten` and `OneHot`.
    """
    if type(policy) is not ActorCriticPolicy or policy.squashes:
        return False
    if policy.cell is not None or policy.trunk is not None or type(policy.encoder) not in (Flatten, OneHot):
        return False
    networks = policy.actor_network, policy.critic_network
    if not all(map(is_perceptron, networks)):
        return False
    used = [param for network in networks for layer in network for param in layer.parameters()]
    if isinstance(policy.action_space, spaces.Box):
        log_std = policy.log_std
        if not isinstance(log_std, nn.Parameter) or log_std.shape != policy.action_space.shape:
            return False
        used.append(log_std)
    elif not isinstance(policy.action_space, spaces.Discrete):
        return False
    params = list(policy.parameters())
    modules = [policy, policy.encoder, *(module for network in networks for module in network.modules())]
    return (
        set(used) == set(params)
        and len(used) == len(params)  # no parameter is used twice
        and not any(has_hooks(module) or _METHODS & vars(module).keys() for module in modules)
        and not any(map(has_tensor_hooks, params))
        and all(p.dtype == torch.float32 and p.device.type == "cpu" and p.requires_grad for p in params)
        and sum(param.numel() for param in params) <= _MOST_WEIGHTS
    )


class NumpyBackend:
    """The `Backend` of one policy.

    Args:
        policy: A policy that `supports` accepts.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._encoder = policy.encoder
        self._shared = SharedParameters(list(policy.parameters()))
        self._actor = Network(policy.actor_network, self._shared)
        self._critic = Network(policy.critic_network, self._shared)
        self._log_std_at = None if policy.log_std is None else self._shared.index[policy.log_std]
        space = policy.action_space
        assert space.shape is not None
        self._action_shape = space.shape
        self._inputs: Floats = np.empty((0, 0, 0), np.float32)
        self._passes: dict[Network, list[Floats]] = {}
        # The activations of both networks on a minibatch.
        self._minibatch_rooms: list[list[Floats]] = [net.room((0,)) for net in (self._actor, self._critic)]
        # For each step the inputs and the activations of the actor's layers.
        self._rows: list[tuple[Floats, list[Floats]]] = []

    def limit_threads(self) -> AbstractContextManager[Any]:
        """Limit numpy to one thread, because several threads make small matrix products several times slower."""
        limits: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
        return limits

    def act(
        self,
        t: int,
        observations: Array,
        starts: Bools,
        action_masks: Bools | None,
        state: Tensor | None,
        random: RandomSource,
    ) -> tuple[Array, Tensor | None]:
        """Draw actions, and keep the activations for `gradients` and `evaluate`. See `Backend.act`.

        The generator is called as in `rl_rms.agents.distributions`, so both backends draw the same random numbers.
        """
        if t == 0:
            self._shared.refresh()
            self._actor.look(len(observations))
        num_envs = len(observations)
        if t + 1 >= len(self._rows) or num_envs != self._inputs.shape[1]:
            self._make_room(t, num_envs)
        inputs, passed = self._rows[t]
        inputs[...] = self._encode(observations)
        outputs = self._actor.forward(inputs, passed)
        if self._log_std_at is not None:
            noise = random.standard_normal(outputs.shape, dtype=np.float32)
            noise *= np.exp(self._shared.values[self._log_std_at].reshape(-1))
            noise += outputs
            return noise.reshape(num_envs, *self._action_shape), state
        noise = random.standard_exponential(outputs.shape, dtype=np.float32)
        noise += TINY
        np.log(noise, out=noise)
        np.subtract(outputs, noise, out=noise)
        return noise.argmax(axis=1), state

    def gradients(self, batch: Batch, workers: Workers = ALONE, *, with_metrics: bool) -> dict[str, float]:
        """Write the loss's gradients to the parameters. See `Backend.gradients`.

        `act` must have drawn all actions of the batch, with the same parameters.
        """
        coefficients, loss_mask = batch.coefficients, batch.loss_mask
        num = loss_mask.size
        self._shared.refresh()
        values = final_values = None
        if coefficients.baseline:
            values, final_values = self._values(batch)
        advantages, returns = targets(batch, values, final_values, workers)

        weights = np.full(num, 1.0 / num, np.float32)
        count = int(np.count_nonzero(loss_mask))
        if count < num:
            weights = loss_mask.reshape(num) * np.float32(1.0 / max(count, 1))
        inputs, passed = self._acted(batch)
        actions = self._actions(passed[-1], batch.rollout.actions.reshape(num, -1))
        weighted = advantages.reshape(num) * weights
        slopes = actions.slopes(weighted, weights, coefficients.ent_coef)
        self._actor.backward(inputs, passed, slopes)
        metrics = {}
        if with_metrics:
            metrics = {
                "train/policy_gradient_loss": float(-(weighted * actions.log_prob()).sum()),
                "train/entropy_loss": float(-(actions.entropy() * weights).sum()),
                **self._std(),
            }
        if values is None:
            self._critic.clear()
            return metrics
        errors = values[:-1].reshape(num) - returns.reshape(num)
        hidden = [kept.reshape(-1, kept.shape[-1])[:num] for kept in self._passes[self._critic]]
        self._critic.backward(inputs, hidden, (errors * weights * (2.0 * coefficients.vf_coef))[:, None])
        if with_metrics:
            metrics["train/value_loss"] = float((errors * errors * weights).sum())
            metrics["train/explained_variance"] = explained_variance(values[:-1][loss_mask], returns[loss_mask])
        return metrics

    def evaluate(self, batch: Batch) -> Played:
        """The inputs of PPO's loss from the policy that collected the batch. See `Backend.evaluate`."""
        self._shared.refresh()
        values, final_values = self._values(batch)
        advantages, returns = plain_targets(batch, values, final_values)
        _, passed = self._acted(batch)
        actions = self._actions(passed[-1], batch.rollout.actions.reshape(batch.loss_mask.size, -1))
        return Played(values[:-1].reshape(-1), actions.log_prob(), advantages.reshape(-1), returns.reshape(-1))

    def clipped_gradients(self, minibatch: Minibatch, *, with_metrics: bool) -> dict[str, float]:
        """Write the gradients of PPO's loss to the parameters. See `Backend.clipped_gradients`."""
        batch, rows, shared = minibatch.batch, minibatch.rows, self._shared
        coefficients, clip_range, clip_range_vf = batch.coefficients, minibatch.clip_range, minibatch.clip_range_vf
        num, num_acted = len(rows), batch.loss_mask.size
        shared.refresh()
        inputs = self._inputs.reshape(-1, self._inputs.shape[-1])[rows]
        actor_room, critic_room = self._room_of(num)
        self._actor.look(num)
        outputs = self._actor.forward(inputs, actor_room)
        actions = self._actions(outputs, batch.rollout.actions.reshape(num_acted, -1)[rows])
        log_ratio = actions.log_prob() - minibatch.log_probs
        ratio = np.exp(log_ratio)
        surrogate = ratio * minibatch.advantages
        clipped = np.clip(ratio, 1.0 - clip_range, 1.0 + clip_range) * minibatch.advantages
        weights = np.full(num, 1.0 / num, np.float32)
        # If the clipped term is the minimum, the loss does not depend on the ratio.
        weighted = np.where(clipped < surrogate, np.float32(0.0), surrogate * weights)
        self._actor.backward(inputs, actor_room, actions.slopes(weighted, weights, coefficients.ent_coef))

        self._critic.look(num)
        change = self._critic.forward(inputs, critic_room)[:, 0] - minibatch.values
        kept = change if clip_range_vf is None else np.clip(change, -clip_range_vf, clip_range_vf)
        errors: Floats = np.add(kept, minibatch.values - minibatch.returns)
        moves: Floats = np.where(kept == change, errors * weights, np.float32(0.0))
        self._critic.backward(inputs, critic_room, (moves * (2.0 * coefficients.vf_coef))[:, None])
        if not with_metrics:
            return {}
        policy_loss, value_loss = -float(np.minimum(surrogate, clipped).mean()), float(np.square(errors).mean())
        entropy_loss = -float(actions.entropy().mean())
        return {
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": entropy_loss,
            "train/loss": policy_loss + coefficients.ent_coef * entropy_loss + coefficients.vf_coef * value_loss,
            "train/approx_kl": float((ratio - 1.0 - log_ratio).mean()),
            "train/clip_fraction": float((np.abs(ratio - 1.0) > clip_range).mean()),
            **self._std(),
        }

    def _values(self, batch: Batch) -> tuple[Floats, Floats | None]:
        """The critic's values of all observations of the last rollout, in the form that `targets` needs."""
        num_steps, num_envs = batch.loss_mask.shape
        inputs = self._inputs[: num_steps + 1].reshape((num_steps + 1) * num_envs, -1)
        inputs[num_steps * num_envs :] = self._encode(batch.rollout.observations[-1])
        self._critic.look(len(inputs))
        hidden = [kept[: num_steps + 1].reshape(len(inputs), -1) for kept in self._passes[self._critic]]
        values = self._critic.forward(inputs, hidden).reshape(num_steps + 1, num_envs)
        if not len(batch.rollout.final_index):
            return values, None
        finals = self._encode(batch.rollout.final_observations)
        return values, self._critic.forward(finals, self._critic.room((len(finals),)))[:, 0]

    def _acted(self, batch: Batch) -> tuple[Floats, list[Floats]]:
        """The inputs of the last rollout's steps and the activations of the actor's layers, in rows."""
        num_steps, num = len(batch.loss_mask), batch.loss_mask.size
        passed = [kept[:num_steps].reshape(num, -1) for kept in self._passes[self._actor]]
        return self._inputs[:num_steps].reshape(num, -1), passed

    def _actions(self, outputs: Floats, actions: Array) -> CategoricalActions | GaussianActions:
        """The distributions that the actor's outputs define, for a batch's actions of shape ``(batch, size)``."""
        if self._log_std_at is None:
            return CategoricalActions(outputs, actions[:, 0])
        at = self._log_std_at
        return GaussianActions(
            outputs, self._shared.values[at].reshape(-1), actions, self._shared.grads[at].reshape(-1)
        )

    def _std(self) -> dict[str, float]:
        """The mean standard deviation of continuous actions, by TensorBoard tag."""
        if self._log_std_at is None:
            return {}
        return {"train/std": float(np.exp(self._shared.values[self._log_std_at]).mean())}

    def _room_of(self, num: int) -> list[list[Floats]]:
        """Arrays for the activations of actor and critic on a minibatch."""
        if num > len(self._minibatch_rooms[0][0]):
            self._minibatch_rooms = [net.room((num,)) for net in (self._actor, self._critic)]
        return [[kept[:num] for kept in room] for room in self._minibatch_rooms]

    def _encode(self, observations: Array) -> Floats:
        if isinstance(self._encoder, Flatten) and self._encoder.scale == 1.0:
            if observations.ndim != 2:
                observations = observations.reshape(len(observations), -1)
            return observations.astype(np.float32, copy=False)
        encoded: Floats = self._encoder(torch.as_tensor(observations)).numpy()
        return encoded

    def _make_room(self, t: int, num_envs: int) -> None:
        """Make arrays for ``2 * t`` steps, at least 8, and copy the first ``t`` steps."""
        num_steps = max(2 * t, 8)
        before, passes = self._inputs, self._passes
        self._inputs = np.empty((num_steps + 1, num_envs, self._encoder.num_features), np.float32)
        self._passes = {net: net.room((num_steps + 1, num_envs)) for net in (self._actor, self._critic)}
        if t:
            self._inputs[:t] = before[:t]
            for old, new in zip(passes[self._actor], self._passes[self._actor], strict=True):
                new[:t] = old[:t]
        self._rows = list(zip(self._inputs, map(list, zip(*self._passes[self._actor], strict=True)), strict=True))


@functools.cache
def _blas() -> ThreadpoolController:
    """The controller of numpy's threads. The controller is cached, because a search for the libraries is slow."""
    return ThreadpoolController()
