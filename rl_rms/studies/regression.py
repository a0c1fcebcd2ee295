"""A small regression task that copies of a network learn at once, each with its own hyperparameters.

The inputs are normally distributed. The targets are the outputs of a fixed tanh network with the same number of
hidden units, but without bias and LayerNorm. The loss is the mean squared error.
"""

from collections.abc import Callable

import torch
from torch import Tensor

INPUTS, HIDDEN, BATCH = 8, 32, 64
Params = dict[str, Tensor]


class Regression:
    """Copies of a tanh network with one hidden layer, and the task they learn.

    Args:
        seed: Seed of the fixed network, the copies' common initial parameters and the inputs.
        copies: Number of copies.
        layer_norm: Whether the hidden layer is normalized before tanh.
    """

    def __init__(self, seed: int, copies: int, *, layer_norm: bool) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.layer_norm = layer_norm
        self.teacher = {"in": self._normal(INPUTS, HIDDEN), "out": self._normal(HIDDEN, 1) * HIDDEN**-0.5}
        own = {"in": self._normal(INPUTS, HIDDEN) * INPUTS**-0.5, "bias": torch.zeros(1, HIDDEN)}
        own["out"] = self._normal(HIDDEN, 1) * HIDDEN**-0.5
        self.params: Params = {name: param.repeat(copies, 1, 1) for name, param in own.items()}

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def losses(self, params: Params) -> Tensor:
        """Compute the losses of all copies on a new batch, shape ``(copies,)``."""
        inputs = self._normal(BATCH, INPUTS)
        targets = torch.tanh(inputs @ self.teacher["in"]) @ self.teacher["out"]
        hidden = inputs @ params["in"] + params["bias"]
        if self.layer_norm:
            hidden = torch.nn.functional.layer_norm(hidden, (HIDDEN,))
        outputs = torch.tanh(hidden) @ params["out"]
        losses: Tensor = (outputs - targets).square().mean((1, 2))
        return losses

    def train(self, step: Callable[[Params, Params], Params], updates: int) -> Tensor:
        """Train all copies, and return the losses before every update, shape ``(updates, copies)``.

        Args:
            step: Function from parameters and gradients to the next parameters.
            updates: Number of updates.
        """
        history = []
        for _ in range(updates):
            params = {name: param.detach().requires_grad_() for name, param in self.params.items()}
            losses = self.losses(params)
            grads = torch.autograd.grad(losses.sum(), list(params.values()))
            history.append(losses.detach())
            with torch.no_grad():
                self.params = step(params, dict(zip(params, grads, strict=True)))
        return torch.stack(history)
