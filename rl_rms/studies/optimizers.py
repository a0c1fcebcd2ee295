"""Optimizers that studies compare, and a class that trains with many learning rates at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.rmsprop import RMSprop

# Constructors of the optimizers. RMSprop has torch's default rho = 0.99, which is a half-life of 69 updates.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "momentum": lambda params, **options: torch.optim.SGD(params, **{"momentum": 0.9, **options}),
    "RMSprop": lambda params, **options: RMSprop(params, **{"bias_correction": True, **options}),
    "Adam": torch.optim.Adam,
}


def half_decades(low: float, high: float) -> list[float]:
    """Return the learning rates 1, 3, 10, 30, ... times ``low``, up to ``high``.

    Args:
        low: Smallest rate, a power of ten.
        high: Upper bound of the rates.
    """
    rates = []
    while low <= high * 1.001:
        rates += [low, 3 * low]
        low *= 10
    return [float(f"{rate:.3g}") for rate in rates if rate <= high * 1.001]


class Ladder:
    """Trains copies of one problem at once, each with its own learning rate.

    The optimizers in `OPTIMIZERS` update each coordinate independently, in proportion to the learning rate. One
    optimizer with learning rate 1 therefore computes the steps of all copies. The step of each copy is then
    multiplied by the copy's learning rate.

    Args:
        name: One of `OPTIMIZERS`.
        rates: The learning rate of each copy.
        **options: Options of the optimizer.
    """

    def __init__(self, name: str, rates: Sequence[float], **options: Any) -> None:
        self.rates = torch.tensor(rates, dtype=torch.float64)
        self._name, self._options = name, options
        self._unit: Tensor | None = None

    def step(self, params: Tensor, grad: Tensor, factor: float | Tensor = 1.0) -> Tensor:
        """Return the parameters after an update.

        Args:
            params: Shape ``(rates, ...)``.
            grad: Gradients of the same shape.
            factor: Factor of all learning rates in this update, for example from a schedule. The factor broadcasts
                to the parameters.
        """
        if self._unit is None:
            self._unit = torch.zeros_like(params, requires_grad=True)
            self._optimizer = OPTIMIZERS[self._name]([self._unit], lr=1.0, **self._options)
        with torch.no_grad():
            self._unit.zero_()
            self._unit.grad = grad
            self._optimizer.step()
            rates = self.rates.to(params.dtype).view(-1, *[1] * (params.ndim - 1))
            return params + factor * rates * self._unit
