"""Diagnostics of an optimizer for a log, computed on demand from its state and the current gradients."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_rms.optim.controller import HalfLifeController
from rl_rms.optim.guard import GradientGuard
from rl_rms.optim.rule import denominator, gathered, real, second_moment

_QUANTILES = {"low": 0.1, "median": 0.5, "high": 0.9}
# Approximate limit of the number of sampled coordinates.
_SAMPLE = 1024
# To limit the memory use, parameters are joined only until they have more than this number of coordinates.
_JOINED = 2**20


@torch.no_grad()
def diagnostics(optimizer: Optimizer, controller: HalfLifeController, guard: GradientGuard) -> dict[str, float]:
    """Describe the current half-life and the last step. ``optimizer.diagnostics()`` calls this function.

    g is the gradient, v^ is the second moment after centering and bias correction, and d is the denominator of the
    step. Means are over the coordinates of all parameters that have had an update. Means of gradients are over the
    coordinates that have a gradient now; without gradients they are 0. ``half_life_updates``, ``half_life_steps``
    and ``rho`` are missing while they cannot be computed.

    - ``half_life_updates``, ``half_life_steps``, ``rho``: half-life of the first group in updates and in env
      steps, and its decay per update.
    - ``half_life_matched``: half-life of "match" in updates. If no group uses "match", the value is the initial
      half-life of "match". The value is missing while the timescale in updates is unknown.
    - ``effective_step``, ``step_over_lr``: root mean square of ``lr * g / d`` and of ``g / d`` in the last step,
      without momentum, optimism, weight decay and ``max_update_rms``.
    - ``second_moment``, ``squared_gradient``: means of v^ and of ``g**2``.
    - ``log10_second_moment_low``, ``_median``, ``_high``: 10 %, 50 % and 90 % quantiles of ``log10 v^`` over the
      coordinates with ``v^ > 0`` in a sample of about 500 to 1,000 coordinates, or in all coordinates of a smaller
      network; missing if all v^ are 0.
    - ``median_rate``: median of ``lr / d`` over all coordinates of this sample; missing before the first update.
    - ``tracking_ratio``: mean of ``g**2 / v^``; about 1 if v tracks the gradients, above 1 if v lags behind
      growing gradients.
    - ``containment_margin``: 1 minus the largest ratio of ``lr * |g| / d`` to its bound, which is
      ``lr * sqrt(w / (1 - rho))``. w is the weight of the gradients in v with bias correction, and 1 without.
      The value is missing if centered or without gradients.
    - ``eps_dominance``: share of coordinates in which eps is more than half of the denominator. With
      ``eps_in_sqrt``, the share in which eps is more than half of the term under the root.
    - ``gradient_norm``: global norm of the gradients. The value is the norm before clipping if ``max_grad_norm``
      or ``on_nonfinite`` is set, otherwise the norm of the present gradients.
    - ``clip_share``: share of clipped updates among roughly the last hundred updates.
    - ``num_nonfinite``: number of updates so far that were skipped because a gradient was not finite.
    - ``half_life_shortest``, ``half_life_longest``: bounds of an estimated half-life in updates; missing without
      an estimated half-life. The estimator adds further diagnostics.

    Args:
        optimizer: An `rl_rms.RMSprop`.
        controller: The controller of the optimizer's half-life.
        guard: The guard of the optimizer's gradients.

    Returns:
        The diagnostics by name.
    """
    values: dict[str, float] = {}
    first = optimizer.param_groups[0]
    if controller.is_known(first):
        values["half_life_updates"] = half_life = controller.half_life(first)
        if controller.steps_per_update is not None:
            values["half_life_steps"] = half_life * controller.steps_per_update
        values["rho"] = controller.decay(first)
    matched = controller.matched()
    if matched is not None:
        values["half_life_matched"] = matched

    sums, sample = _Sums(), _Sample(optimizer)
    for group, v_hat, d, grad, weight in _batches(optimizer):
        sums.add("second_moment", v_hat)
        sample.add(v_hat, d, float(group["lr"]))
        sums.add("eps_dominance", group["eps"] > (v_hat if group["eps_in_sqrt"] else v_hat.sqrt()))
        if grad is None:
            continue
        u = grad / d
        sums.add("effective_step", (float(group["lr"]) * u).square())
        sums.add("step_over_lr", u.square())
        sums.add("tracking_ratio", torch.where(v_hat > 0, grad.square() / v_hat, 0.0))
        sums.add("gradient_norm", grad.square())
        if not group["centered"] and u.numel() > 0:
            sums.longest = max(sums.longest, float(u.abs().max()) * math.sqrt((1.0 - group["alpha"]) / weight))

    for name in ("effective_step", "step_over_lr"):
        values[name] = math.sqrt(sums.mean(name))
    for name in ("second_moment", "tracking_ratio", "eps_dominance"):
        values[name] = sums.mean(name)
    values["squared_gradient"] = sums.mean("gradient_norm")
    values |= sample.quantiles()
    if sums.longest >= 0.0:
        values["containment_margin"] = 1.0 - sums.longest
    norm = guard.gradient_norm
    return {
        **values,
        "gradient_norm": math.sqrt(sums.total("gradient_norm")) if norm is None else norm,
        "clip_share": guard.clip_share,
        "num_nonfinite": float(guard.num_nonfinite),
        **controller.diagnostics(),
    }


@torch.no_grad()
def distributions(optimizer: Optimizer) -> dict[str, Tensor]:
    """The second moment and the step of every coordinate, as decimal logarithms.

    Args:
        optimizer: An `rl_rms.RMSprop`.

    Returns:
        - ``log10_second_moment``: logarithm of v^, float, shape (coordinates,), without zeros.
        - ``log10_step``: logarithm of ``lr * |g| / d`` in the last step, before momentum, optimism, weight decay
          and ``max_update_rms``; float, without zeros; empty without gradients.
    """
    moments, steps = [torch.empty(0)], [torch.empty(0)]
    for group, param, v_hat, d in _updated(optimizer):
        moments.append(v_hat[v_hat > 0].log10().float().cpu())
        if param.grad is not None:
            step = float(group["lr"]) * real(gathered(param.grad)).to(v_hat.dtype).abs() / d
            steps.append(step[step > 0].log10().float().cpu())
    return {"log10_second_moment": torch.cat(moments), "log10_step": torch.cat(steps)}


def _updated(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], Tensor, Tensor, Tensor]]:
    """The parameters that have been updated: each with its group, v^ and the denominator."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            state = optimizer.state.get(param)
            if state:
                v_hat = gathered(
                    second_moment(state, centered=group["centered"], bias_correction=group["bias_correction"])
                )
                yield (
                    group,
                    param,
                    v_hat,
                    denominator(v_hat, group["eps"], eps_in_sqrt=group["eps_in_sqrt"]),
                )


def _batches(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], Tensor, Tensor, Tensor | None, float]]:
    """The updated parameters. Small parameters are joined, because few operations on large tensors are faster.

    Yields:
        The group; v^, the denominator and the gradient (None if there is none), each flat; and the weight of the
        squared gradients in v.
    """
    joined: dict[tuple[Any, ...], list[tuple[Tensor, ...]]] = {}
    sizes: dict[tuple[Any, ...], int] = {}

    def take(key: tuple[Any, ...]) -> tuple[dict[str, Any], Tensor, Tensor, Tensor | None, float]:
        v_hat, d, *grad = (torch.cat(tensors) for tensors in zip(*joined.pop(key), strict=True))
        return optimizer.param_groups[key[0]], v_hat, d, grad[0] if grad else None, key[1]

    numbers = {id(group): number for number, group in enumerate(optimizer.param_groups)}
    for group, param, v_hat, d in _updated(optimizer):
        weight = 1.0 - float(optimizer.state[param]["initial_weight"]) if group["bias_correction"] else 1.0
        parts = [v_hat.flatten(), d.flatten()]
        if param.grad is not None:
            parts.append(real(gathered(param.grad)).to(v_hat.dtype).flatten())
        key = (numbers[id(group)], weight, v_hat.dtype, v_hat.device, len(parts))
        joined.setdefault(key, []).append(tuple(parts))
        sizes[key] = sizes.get(key, 0) + v_hat.numel()
        if sizes[key] > _JOINED:
            sizes[key] = 0
            yield take(key)
    yield from map(take, list(joined))


class _Sample:
    """A sample of the updated coordinates, because sorting all updated coordinates would be slow."""

    def __init__(self, optimizer: Optimizer) -> None:
        known = sum(param.numel() for param, state in optimizer.state.items() if state)
        self._every = max(1, math.ceil(known / _SAMPLE))
        self._second_moments: list[Tensor] = []
        self._rates: list[Tensor] = []

    def add(self, v_hat: Tensor, d: Tensor, lr: float) -> None:
        self._second_moments.append(v_hat[:: self._every].float().cpu())
        self._rates.append(lr / d[:: self._every].float().cpu())

    def quantiles(self) -> dict[str, float]:
        if not self._rates:
            return {}
        v_hat = torch.cat(self._second_moments)
        logs = v_hat[v_hat > 0].log10()
        found = logs.quantile(torch.tensor(list(_QUANTILES.values()))).tolist() if len(logs) else []
        # If all second moments are 0, there are no quantiles.
        named = {f"log10_second_moment_{name}": one for name, one in zip(_QUANTILES, found, strict=False)}
        return {**named, "median_rate": float(torch.cat(self._rates).median())}


class _Sums:
    """Sums and counts over coordinates, by name."""

    def __init__(self) -> None:
        self.longest = -1.0
        self._totals: dict[str, float] = {}
        self._numbers: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        self._totals[name] = self.total(name) + float(values.sum())
        self._numbers[name] = self._numbers.get(name, 0) + values.numel()

    def total(self, name: str) -> float:
        return self._totals.get(name, 0.0)

    def mean(self, name: str) -> float:
        """The mean over all coordinates; 0 without coordinates."""
        return self.total(name) / max(self._numbers.get(name, 0), 1)
