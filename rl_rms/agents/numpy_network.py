"""Linear layers in numpy that share memory with a torch module's parameters and gradients."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Floats = npt.NDArray[np.float32]

# For these numbers of input rows, products with contiguous copies of the weights are faster.
_COPIED_FOR = range(32, 257)
_ONE = np.float32(1.0)
_get_grad = operator.attrgetter("grad")


class SharedParameters:
    """NumPy views of a module's parameters and of their gradients.

    Args:
        params: The parameters.

    Attributes:
        index: The index of each parameter in ``values`` and ``grads``.
        values: The parameters as arrays, from the last `refresh`.
        grads: The gradients as arrays, from the last `refresh`.
    """

    def __init__(self, params: list[nn.Parameter]) -> None:
        self._params = params
        self.index: dict[torch.Tensor, int] = {param: i for i, param in enumerate(params)}
        self._places: list[int] = []
        # This placeholder differs from every gradient, so the first `refresh` reads all gradients.
        self._grads: list[Any] = [self] * len(params)
        self.values: list[Floats] = []
        self.grads: list[Floats] = []

    def refresh(self) -> None:
        """Update the views, because optimizers and users may have replaced parameters or gradients.

        Gradients of zeros replace missing and non-contiguous gradients.
        """
        params = self._params
        places = list(map(torch.Tensor.data_ptr, params))
        if places != self._places:
            self._places = places
            self.values = [param.detach().numpy() for param in params]
        if not all(map(operator.is_, map(_get_grad, params), self._grads)):
            for param in params:
                # np.dot writes only to contiguous arrays.
                if param.grad is None or not param.grad.is_contiguous():
                    param.grad = torch.zeros_like(param, memory_format=torch.contiguous_format)
            self._grads = [param.grad for param in params]
            self.grads = [param.grad.numpy() for param in params if param.grad is not None]


class Network:
    """Linear layers with an activation after every layer except the last.

    Args:
        network: The torch module.
        shared: The parameters and gradients of the policy that contains the module.
    """

    def __init__(self, network: nn.Sequential, shared: SharedParameters) -> None:
        self._linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._activation = next((type(layer) for layer in network if type(layer) in ACTIVATIONS), nn.Tanh)
        self._shared = shared
        self._places = [(shared.index[layer.weight], shared.index[layer.bias]) for layer in self._linears]
        self._layers: list[tuple[Floats, Floats]] = []

    def room(self, shape: tuple[int, ...]) -> list[Floats]:
        """Make arrays for the outputs of every layer; ``shape`` is the inputs' shape without the last axis."""
        return [np.empty((*shape, layer.out_features), np.float32) for layer in self._linears]

    def look(self, num_rows: int) -> None:
        """Read the current weights, for inputs of ``num_rows`` rows."""
        values, places = self._shared.values, self._places
        weights = [values[weight].T for weight, _ in places]
        if num_rows in _COPIED_FOR:
            weights = list(map(np.ascontiguousarray, weights))
        self._layers = [(weight, values[bias]) for weight, (_, bias) in zip(weights, places, strict=True)]

    def forward(self, inputs: Floats, passed: list[Floats]) -> Floats:
        """Return the last layer's outputs for the weights of the last `look`. Write all outputs to ``passed``."""
        activate, last = ACTIVATIONS[self._activation][0], passed[-1]
        # np.dot has half the overhead of np.matmul.
        for (weight, bias), out in zip(self._layers, passed, strict=True):
            np.dot(inputs, weight, out=out)
            np.add(out, bias, out=out)
            if out is not last:
                activate(out, out)
            inputs = out
        return inputs

    def backward(self, inputs: Floats, passed: list[Floats], slopes: Floats) -> None:
        """Write the gradients of the weights and biases.

        Args:
            inputs: Shape ``(batch, num_inputs)``.
            passed: Every layer's outputs from `forward`.
            slopes: Derivatives of the loss with respect to the last layer's outputs, shape
                ``(batch, num_outputs)``.
        """
        derive, shared, places = ACTIVATIONS[self._activation][1], self._shared, self._places
        ones = _ones(len(slopes))
        for i in range(len(places) - 1, -1, -1):
            weight, bias = places[i]
            before = passed[i - 1] if i else inputs
            np.dot(slopes.T, before, out=shared.grads[weight])
            # np.sum over the first axis takes four times as long.
            np.dot(ones, slopes, out=shared.grads[bias])
            if i:
                slopes = np.dot(slopes, shared.values[weight])
                derive(before, slopes)

    def clear(self) -> None:
        """Remove all gradients, as autograd does, so that the optimizer skips the parameters."""
        for layer in self._linears:
            layer.weight.grad = layer.bias.grad = None


@functools.lru_cache(maxsize=16)
def _ones(num: int) -> Floats:
    return np.ones(num, np.float32)


def _tanh_slope(y: Floats, slopes: Floats) -> None:
    squares = y * y
    np.subtract(_ONE, squares, out=squares)
    slopes *= squares


def _relu(x: Floats, out: Floats) -> None:
    np.maximum(x, np.float32(0.0), out=out)


def _relu_slope(y: Floats, slopes: Floats) -> None:
    slopes *= y > 0


def _elu(x: Floats, out: Floats) -> None:
    np.copyto(out, np.where(x < 0, np.expm1(np.minimum(x, np.float32(0.0))), x))


def _elu_slope(y: Floats, slopes: Floats) -> None:
    slopes *= np.minimum(y, np.float32(0.0)) + np.float32(1.0)


# For each activation: the function, and a function that multiplies slopes in place by the activation's
# derivative at the given outputs.
ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Floats, Floats], object], Callable[[Floats, Floats], None]]] = {
    nn.Tanh: (np.tanh, _tanh_slope),
    nn.ReLU: (_relu, _relu_slope),
    nn.ELU: (_elu, _elu_slope),
}


def is_perceptron(network: nn.Module) -> bool:
    """Whether a module has only linear layers with biases, and activations of one supported kind between them."""
    if type(network) is not nn.Sequential or len(network) % 2 == 0:
        return False
    linears, activations = list(network)[::2], list(network)[1::2]
    kinds = set(map(type, activations))
    return (
        all(type(layer) is nn.Linear and layer.bias is not None for layer in linears)
        and len(kinds) <= 1
        and kinds <= ACTIVATIONS.keys()
        and all(activation.alpha == 1.0 for activation in activations if isinstance(activation, nn.ELU))
    )
