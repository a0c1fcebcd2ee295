"""Plain networks on a CPU without autograd: the same actions and gradients in a fraction of the time.

For networks of a few thousand weights nearly all of a torch operation's time is spent around it, and autograd
doubles that. Here actor and critic run in numpy, over memory that they share with the torch module: what acting
computes of the actor is kept and used again by the update, and gradients are written to where the optimizer reads
them. The formulas are those of `rl_rms.agents.losses.actor_critic_loss`, and the tests hold the two equal.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import nn

from rl_rms.agents.distributions import TINY
from rl_rms.agents.encoders import Flatten, OneHot
from rl_rms.agents.losses import LossTerms, targets
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.returns import explained_variance
from rl_rms.agents.rollout import Rollout
from rl_rms.agents.workers import ALONE, Chance, Workers

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

# The largest network, in weights, for which numpy on one thread is faster than torch.
_MOST_WEIGHTS = 200_000
# Rows of inputs for which weights are worth copying.
_COPIED_FOR = range(32, 257)
_ONE = np.float32(1.0)
_get_grad = operator.attrgetter("grad")
_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


def fuse(policy: nn.Module) -> "FusedActorCritic | None":
    """A policy's fused form, None where it has one of the many things that only autograd knows.

    None, too, for large networks, whose operations torch is as fast at.
    """
    if type(policy) is not ActorCriticPolicy or policy.squashes:
        return None
    if policy.cell is not None or policy.trunk is not None:
        return None
    kinds = {Flatten, OneHot, nn.Sequential, nn.Linear, ActorCriticPolicy, *_ACTIVATIONS}
    params = list(policy.parameters())
    is_plain = (
        isinstance(policy.action_space, (spaces.Discrete, spaces.Box))
        and all(type(module) in kinds and not _is_hooked(module) for module in policy.modules())
        and all(one.dtype == torch.float32 and one.device.type == "cpu" and one.requires_grad for one in params)
        and sum(one.numel() for one in params) <= _MOST_WEIGHTS
    )
    return FusedActorCritic(policy) if is_plain else None


def _is_hooked(module: nn.Module) -> bool:
    """Whether somebody listens to, or changes, what a module does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)


class FusedActorCritic:
    """Acting, and the gradients of `actor_critic_loss`, for one policy.

    Args:
        policy: One that `fuse` takes.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._encoder = policy.encoder
        self._actor = _Network(policy.actor_network)
        self._critic = _Network(policy.critic_network)
        self._shared = _Shared(list(policy.parameters()))
        self._log_std_at = None
        if policy.log_std is not None:
            self._log_std_at = [param is policy.log_std for param in policy.parameters()].index(True)
        space = policy.action_space
        assert space.shape is not None
        self._action_shape = space.shape
        self._inputs: Floats = np.empty((0, 0, 0), np.float32)
        self._passes: dict[_Network, list[Floats]] = {}
        # Of each step: the row of inputs, and of what the actor's layers give.
        self._rows: list[tuple[Floats, list[Floats]]] = []

    def act(self, observations: Array, t: int, generator: Chance) -> Array:
        """Draw actions, keeping what `gradients` needs.

        Args:
            observations: As the policy is to see them, ``(num_envs, *observation)``.
            t: Number of the step in its rollout.
            generator: Where chance comes from; it is asked as `rl_rms.agents.distributions` asks it.

        Returns:
            Actions, ``(num_envs, *action)``.
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
            noise = generator.standard_normal(outputs.shape, dtype=np.float32)
            noise *= np.exp(self._shared.values[self._log_std_at].reshape(-1))
            noise += outputs
            return noise.reshape(num_envs, *self._action_shape)
        noise = generator.standard_exponential(outputs.shape, dtype=np.float32)
        noise += TINY
        np.log(noise, out=noise)
        np.subtract(outputs, noise, out=noise)
        chosen: Array = noise.argmax(axis=1)
        return chosen

    def gradients(
        self,
        rollout: Rollout,
        used: Bools,
        terms: LossTerms,
        last_observations: Array,
        final_observations: Array,
        workers: Workers = ALONE,
        *,
        with_metrics: bool,
    ) -> dict[str, float]:
        """Write the loss's gradients to the parameters, after a rollout whose every step was `act`'s.

        Args:
            rollout: What happened.
            used: Which transitions count, ``(num_steps, num_envs)``.
            terms: Discounts and weights.
            last_observations: Those after the last step, as the policy is to see them.
            final_observations: The rollout's, as the policy is to see them.
            workers: As in `rl_rms.agents.losses.targets`.
            with_metrics: Whether to compute the loss itself too.

        Returns:
            The loss's parts by TensorBoard tag, none without ``with_metrics``.
        """
        shared = self._shared
        shared.refresh()
        num_steps, num_envs = used.shape
        num = used.size
        inputs = self._inputs[: num_steps + 1].reshape((num_steps + 1) * num_envs, -1)
        inputs[num:] = self._encode(last_observations)
        values = final_values = None
        hidden: list[Floats] = []
        if terms.baseline:
            self._critic.look(shared, len(inputs))
            hidden = [kept[: num_steps + 1].reshape(len(inputs), -1) for kept in self._passes[self._critic]]
            values = self._critic.forward(inputs, hidden).reshape(num_steps + 1, num_envs)
            if len(rollout.final_index):
                finals = self._encode(final_observations)
                room = self._critic.room((len(finals),))
                final_values = self._critic.forward(finals, room)[:, 0]
        advantages, returns = targets(rollout, used, values, final_values, terms, workers)

        weights = np.full((num, 1), 1.0 / num, np.float32)
        num_used = int(np.count_nonzero(used))
        if num_used < num:
            weights = used.reshape(num, 1) * np.float32(1.0 / max(num_used, 1))
        passed = [kept[:num_steps].reshape(num, -1) for kept in self._passes[self._actor]]
        weighted = advantages.reshape(num, 1) * weights
        actions = rollout.actions.reshape(num, -1)
        by_kind = self._categorical if self._log_std_at is None else self._gaussian
        slopes, metrics = by_kind(passed[-1], actions, weighted, weights, terms.ent_coef, with_metrics)
        self._actor.backward(shared, inputs[:num], passed, slopes)
        if values is None:
            self._critic.clear(shared)
            return metrics
        errors = values[:-1].reshape(num, 1) - returns.reshape(num, 1)
        self._critic.backward(
            shared, inputs[:num], [kept[:num] for kept in hidden], errors * weights * (2.0 * terms.vf_coef)
        )
        if with_metrics:
            metrics["train/value_loss"] = float((errors * errors * weights).sum())
            metrics["train/explained_variance"] = explained_variance(values[:-1][used], returns[used])
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


class _Shared:
    """numpy's view of a module's parameters and of their gradients."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self._params = params
        self._places: list[int] = []
        # What no gradient is, to begin with.
        self._grads: list[Any] = [self] * len(params)
        self.values: list[Floats] = []
        self.grads: list[Floats] = []

    def index(self, param: torch.Tensor) -> int:
        """Where a parameter stands in the lists."""
        return [one is param for one in self._params].index(True)

    def refresh(self) -> None:
        """See parameters and gradients where they are now: optimizers and users may have moved them."""
        params = self._params
        places = list(map(torch.Tensor.data_ptr, params))
        if places != self._places:
            self._places = places
            self.values = [param.detach().numpy() for param in params]
        if not all(map(operator.is_, map(_get_grad, params), self._grads)):
            for param in params:
                if param.grad is None:
                    param.grad = torch.zeros_like(param)
            self._grads = [param.grad for param in params]
            self.grads = [param.grad.numpy() for param in params if param.grad is not None]


class _Network:
    """Linear layers with an activation after each but the last."""

    def __init__(self, network: nn.Sequential) -> None:
        self._linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._activation = next((type(layer) for layer in network if type(layer) in _ACTIVATIONS), nn.Tanh)
        self._at: list[tuple[int, int]] = []
        self._layers: list[tuple[Floats, Floats]] = []

    def room(self, shape: tuple[int, ...]) -> list[Floats]:
        """Arrays for what every layer gives for inputs of a shape."""
        return [np.empty((*shape, layer.out_features), np.float32) for layer in self._linears]

    def _places(self, shared: _Shared) -> list[tuple[int, int]]:
        if not self._at:
            self._at = [(shared.index(layer.weight), shared.index(layer.bias)) for layer in self._linears]
        return self._at

    def look(self, shared: _Shared, num_rows: int) -> None:
        """See the weights as they are now, for inputs of so many rows."""
        places = self._places(shared)
        weights = [shared.values[weight].T for weight, _ in places]
        # As copies they multiply some rows faster; fewer or more do not make up for the copying.
        if num_rows in _COPIED_FOR:
            weights = list(map(np.ascontiguousarray, weights))
        self._layers = [(weight, shared.values[bias]) for weight, (_, bias) in zip(weights, places, strict=True)]

    def forward(self, inputs: Floats, passed: list[Floats]) -> Floats:
        """What the last layer gives, as of the last `look`; what each gives is kept."""
        activate, last = _ACTIVATIONS[self._activation][0], passed[-1]
        for (weight, bias), out in zip(self._layers, passed, strict=True):
            np.matmul(inputs, weight, out=out)
            np.add(out, bias, out=out)
            if out is not last:
                activate(out)
            inputs = out
        return inputs

    def backward(self, shared: _Shared, inputs: Floats, passed: list[Floats], slopes: Floats) -> None:
        """Write the gradients of the weights and biases.

        Args:
            shared: Where to.
            inputs: Shape ``(batch, num_inputs)``.
            passed: What `forward` kept.
            slopes: Of the loss by what the last layer gave.
        """
        derive, places = _ACTIVATIONS[self._activation][1], self._places(shared)
        ones = np.ones(len(slopes), np.float32)
        for i in range(len(places) - 1, -1, -1):
            weight, bias = places[i]
            before = passed[i - 1] if i else inputs
            np.matmul(slopes.T, before, out=shared.grads[weight])
            # numpy's own sum over the first axis, and its product with a single column, take four times as long.
            np.matmul(ones, slopes, out=shared.grads[bias])
            if i:
                # matmul leaves a single column to a loop of its own, which takes four times as long.
                slopes = np.dot(slopes, shared.values[weight])
                derive(before, slopes)

    def clear(self, shared: _Shared) -> None:
        """Set all gradients to 0."""
        for weight, bias in self._places(shared):
            shared.grads[weight][...] = 0.0
            shared.grads[bias][...] = 0.0


def _tanh(x: Floats) -> None:
    np.tanh(x, out=x)


def _tanh_slope(y: Floats, slopes: Floats) -> None:
    squares = y * y
    np.subtract(_ONE, squares, out=squares)
    slopes *= squares


def _relu(x: Floats) -> None:
    np.maximum(x, np.float32(0.0), out=x)


def _relu_slope(y: Floats, slopes: Floats) -> None:
    slopes *= y > 0


def _elu(x: Floats) -> None:
    np.copyto(x, np.expm1(np.minimum(x, np.float32(0.0))), where=x < 0)


def _elu_slope(y: Floats, slopes: Floats) -> None:
    slopes *= np.minimum(y, np.float32(0.0)) + np.float32(1.0)


# In place: the function of what a layer gives, and its slope, from the function's value, times given slopes.
_ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Floats], None], Callable[[Floats, Floats], None]]] = {
    nn.Tanh: (_tanh, _tanh_slope),
    nn.ReLU: (_relu, _relu_slope),
    nn.ELU: (_elu, _elu_slope),
}
