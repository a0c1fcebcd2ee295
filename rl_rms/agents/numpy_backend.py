"""Acting and gradients in numpy, without autograd, for small plain networks on a CPU.

A torch operation on a few thousand weights spends nearly all of its time in overhead, and autograd doubles it.
This backend shares memory with the torch module, reuses the actor's activations of acting in the update, and
writes gradients where the optimizer reads them. It implements `rl_rms.agents.losses.actor_critic_loss`, and tests
hold the gradients equal to autograd's.
"""

import functools
import math
from contextlib import AbstractContextManager
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from rl_rms.agents.distributions import TINY
from rl_rms.agents.encoders import Flatten, OneHot
from rl_rms.agents.losses import Batch, targets
from rl_rms.agents.numpy_network import ACTIVATIONS, Network, SharedParameters
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.returns import explained_variance
from rl_rms.agents.workers import ALONE, RandomSource, Workers

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

# The largest network, in weights, for which numpy on one thread is faster than torch.
_MOST_WEIGHTS = 200_000
_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


def supports(policy: nn.Module) -> TypeGuard[ActorCriticPolicy]:
    """Whether `NumpyBackend` can run a policy, and is faster than torch.

    It supports unshared, unhooked float32 networks of linear layers on a CPU with Discrete or Box actions.
    """
    if type(policy) is not ActorCriticPolicy or policy.squashes:
        return False
    if policy.cell is not None or policy.trunk is not None:
        return False
    kinds = {Flatten, OneHot, nn.Sequential, nn.Linear, ActorCriticPolicy, *ACTIVATIONS}
    params = list(policy.parameters())
    return (
        isinstance(policy.action_space, (spaces.Discrete, spaces.Box))
        and all(type(module) in kinds and not _is_hooked(module) for module in policy.modules())
        and all(one.dtype == torch.float32 and one.device.type == "cpu" and one.requires_grad for one in params)
        and sum(one.numel() for one in params) <= _MOST_WEIGHTS
    )


def _is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)


class NumpyBackend:
    """The `Backend` of one policy.

    Args:
        policy: A policy that `supports` accepts.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._encoder = policy.encoder
        self._actor = Network(policy.actor_network)
        self._critic = Network(policy.critic_network)
        self._shared = SharedParameters(list(policy.parameters()))
        self._log_std_at = None
        if policy.log_std is not None:
            self._log_std_at = [param is policy.log_std for param in policy.parameters()].index(True)
        space = policy.action_space
        assert space.shape is not None
        self._action_shape = space.shape
        self._inputs: Floats = np.empty((0, 0, 0), np.float32)
        self._passes: dict[Network, list[Floats]] = {}
        # For each step its inputs and the activations of the actor's layers.
        self._rows: list[tuple[Floats, list[Floats]]] = []

    def limit_threads(self) -> AbstractContextManager[Any]:
        """Limit numpy to one thread: small products are several times slower on many."""
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
        """Draw actions, and keep the activations for `gradients`. See `Backend.act`.

        The generator is called as by `rl_rms.agents.distributions`, so both backends draw the same actions.
        """
        if t == 0:
            self._shared.refresh()
            self._actor.look(self._shared, len(observations))
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

        Every step of the batch must have been `act`'s, with the parameters unchanged since.
        """
        rollout, coefficients, loss_mask = batch.rollout, batch.coefficients, batch.loss_mask
        shared = self._shared
        shared.refresh()
        num_steps, num_envs = loss_mask.shape
        num = loss_mask.size
        inputs = self._inputs[: num_steps + 1].reshape((num_steps + 1) * num_envs, -1)
        inputs[num:] = self._encode(rollout.observations[-1])
        values = final_values = None
        hidden: list[Floats] = []
        if coefficients.baseline:
            self._critic.look(shared, len(inputs))
            hidden = [kept[: num_steps + 1].reshape(len(inputs), -1) for kept in self._passes[self._critic]]
            values = self._critic.forward(inputs, hidden).reshape(num_steps + 1, num_envs)
            if len(rollout.final_index):
                finals = self._encode(rollout.final_observations)
                room = self._critic.room((len(finals),))
                final_values = self._critic.forward(finals, room)[:, 0]
        advantages, returns = targets(batch, values, final_values, workers)

        weights = np.full((num, 1), 1.0 / num, np.float32)
        count = int(np.count_nonzero(loss_mask))
        if count < num:
            weights = loss_mask.reshape(num, 1) * np.float32(1.0 / max(count, 1))
        passed = [kept[:num_steps].reshape(num, -1) for kept in self._passes[self._actor]]
        weighted = advantages.reshape(num, 1) * weights
        actions = rollout.actions.reshape(num, -1)
        by_kind = self._categorical if self._log_std_at is None else self._gaussian
        slopes, metrics = by_kind(passed[-1], actions, weighted, weights, coefficients.ent_coef, with_metrics)
        self._actor.backward(shared, inputs[:num], passed, slopes)
        if values is None:
            self._critic.clear(shared)
            return metrics
        errors = values[:-1].reshape(num, 1) - returns.reshape(num, 1)
        self._critic.backward(
            shared, inputs[:num], [kept[:num] for kept in hidden], errors * weights * (2.0 * coefficients.vf_coef)
        )
        if with_metrics:
            metrics["train/value_loss"] = float((errors * errors * weights).sum())
            metrics["train/explained_variance"] = explained_variance(values[:-1][loss_mask], returns[loss_mask])
        return metrics

    def _categorical(
        self,
        logits: Floats,
        actions: Array,
        weighted: Floats,
        weights: Floats,
        ent_coef: float,
        with_metrics: bool,
    ) -> tuple[Floats, dict[str, float]]:
        """Slopes of the loss by the logits, ``w A (p - 1_a) + c w p (log p + H)``, and the loss's parts."""
        # Actions first, (num_actions, batch), since sums over a short last axis are slow.
        log_probs = np.ascontiguousarray(logits.T)
        log_probs -= np.maximum.reduce(log_probs, axis=0)
        probs = np.exp(log_probs)
        total = np.add.reduce(probs, axis=0)
        log_probs -= np.log(total)
        probs /= total
        weighted, weights, chosen = weighted[:, 0], weights[:, 0], actions[:, 0]
        rows = np.arange(len(logits))
        slopes = weighted * probs
        slopes[chosen, rows] -= weighted
        if ent_coef or with_metrics:
            entropy = -np.add.reduce(probs * log_probs, axis=0)
            if ent_coef:
                slopes += (np.float32(ent_coef) * weights) * probs * (log_probs + entropy)
        metrics = {}
        if with_metrics:
            metrics["train/policy_loss"] = float(-(weighted * log_probs[chosen, rows]).sum())
            metrics["train/entropy_loss"] = float(-(entropy * weights).sum())
        return np.ascontiguousarray(slopes.T), metrics

    def _gaussian(
        self,
        mean: Floats,
        actions: Array,
        weighted: Floats,
        weights: Floats,
        ent_coef: float,
        with_metrics: bool,
    ) -> tuple[Floats, dict[str, float]]:
        """Slopes by the mean, ``-w A z / std``; writes those by the log deviation, ``-w A (z**2 - 1) - c``."""
        assert self._log_std_at is not None
        log_std = self._shared.values[self._log_std_at].reshape(-1)
        inverse = np.exp(-log_std)
        z = (actions - mean) * inverse
        grad = self._shared.grads[self._log_std_at].reshape(-1)
        np.add.reduce(weighted * (1.0 - z * z), axis=0, out=grad)
        grad -= np.float32(ent_coef)
        slopes: Floats = -weighted * z * inverse
        if not with_metrics:
            return slopes, {}
        log_prob = (-0.5 * z * z - log_std - np.float32(_HALF_LOG_2_PI)).sum(axis=1)
        return slopes, {
            "train/policy_loss": float(-(weighted[:, 0] * log_prob).sum()),
            "train/entropy_loss": float(-(log_std + _HALF_LOG_2_PI + 0.5).sum()),
            "train/std": float(np.exp(log_std).mean()),
        }

    def _encode(self, observations: Array) -> Floats:
        if isinstance(self._encoder, Flatten):
            if observations.ndim != 2:
                observations = observations.reshape(len(observations), -1)
            return observations.astype(np.float32, copy=False)
        encoded: Floats = self._encoder(torch.as_tensor(observations)).numpy()
        return encoded

    def _make_room(self, t: int, num_envs: int) -> None:
        """Make the arrays at least twice as long as before, keeping the first ``t`` steps."""
        num_steps = max(2 * t, 8)
        before, passes = self._inputs, self._passes
        self._inputs = np.empty((num_steps + 1, num_envs, self._encoder.num_features), np.float32)
        self._passes = {one: one.room((num_steps + 1, num_envs)) for one in (self._actor, self._critic)}
        if t:
            self._inputs[:t] = before[:t]
            for old, new in zip(passes[self._actor], self._passes[self._actor], strict=True):
                new[:t] = old[:t]
        self._rows = list(zip(self._inputs, map(list, zip(*self._passes[self._actor], strict=True)), strict=True))


@functools.cache
def _blas() -> ThreadpoolController:
    """The controller of numpy's threads; finding the libraries takes longer than an update."""
    return ThreadpoolController()
