"""Train a fixed problem with the RMSprop of other libraries and record the parameters.

``rmsprop.json`` has the results of TensorFlow 1, Keras, optax, timm and TorchOpt, without any code of rl_rms. To
write it again, use a separate environment (Python 3.11):

    python -m venv golden-venv
    golden-venv/bin/pip install torch==2.15.0 torchvision==0.29.2 jax==0.10.2 optax==0.2.8 keras==3.15.1 \
        tensorflow-cpu==2.21.0 timm==1.0.31 torchopt==0.7.3
    golden-venv/bin/python tests/optim/golden/make.py

All computations use float64. The gradients are a fixed sequence that does not depend on the parameters. They have
magnitudes of about 1e-4 to 1e2, single zeros, a tensor of zeros and a coordinate whose first three gradients are
zero. The learning rate changes, because at a constant rate it makes no difference whether momentum buffers contain
the rate.
"""

import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Keras on torch computes norms in float32 for any precision.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

# Packages based on torch must be imported before TensorFlow. Otherwise, the LLVM copies of torch and TensorFlow
# conflict.
import timm.optim
import torch
import torchopt

# isort: split
import jax
import keras
import numpy as np
import optax
import tensorflow as tf

SHAPES = [(2, 3), (4,), ()]
RECORDED_STEPS = [1, 2, 12]
LR_FACTORS = [1.0] * 5 + [0.25] * 4 + [0.5] * 3
BEFORE_OPTAX = {"add_decayed_weights": 0.25, "clip": 0.2, "clip_by_global_norm": 0.5}

Arrays = list[np.ndarray]
Arguments = dict[str, Any]


def problem(seed: int = 0) -> tuple[Arrays, list[Arrays]]:
    """The initial parameters, and the gradients of every step."""
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=shape) for shape in SHAPES]
    gradients = []
    for step in range(RECORDED_STEPS[-1]):
        grads = [
            rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 2, size=shape) * (rng.random(size=shape) > 0.15)
            for shape in SHAPES
        ]
        grads[0][0, 1] *= step >= 3
        if step == 6:
            grads[1] *= 0.0
        gradients.append(grads)
    return start, gradients


def tf1(start: Arrays, gradients: list[Arrays], arguments: Arguments) -> Iterator[Arrays]:
    """``tf.compat.v1.train.RMSPropOptimizer``, which rounds Python numbers to float32, but not NumPy numbers."""
    given = defaults(tf.compat.v1.train.RMSPropOptimizer) | arguments
    exact = {name: np.float64(x) if isinstance(x, float) else x for name, x in given.items()}
    lr = exact.pop("learning_rate")
    factor = 1.0
    optimizer = tf.compat.v1.train.RMSPropOptimizer(lambda: np.float64(lr * factor), **exact)
    params = [tf.Variable(array) for array in start]
    for factor, grads in zip(LR_FACTORS, gradients, strict=True):  # noqa: B007
        optimizer.apply_gradients(zip(map(tf.constant, grads), params, strict=True))
        yield [param.numpy().copy() for param in params]


def keras_rmsprop(start: Arrays, gradients: list[Arrays], arguments: Arguments) -> Iterator[Arrays]:
    """``keras.optimizers.RMSprop`` on TensorFlow, which rounds ``weight_decay`` to float32; 0.25 stays exact."""
    optimizer = keras.optimizers.RMSprop(**arguments)
    lr = float(optimizer.learning_rate)
    params = [keras.Variable(array) for array in start]
    for factor, grads in zip(LR_FACTORS, gradients, strict=True):
        optimizer.learning_rate = lr * factor
        optimizer.apply([tf.constant(grad) for grad in grads], params)
        yield [keras.ops.convert_to_numpy(param).copy() for param in params]


def optax_rmsprop(start: Arrays, gradients: list[Arrays], arguments: Arguments) -> Iterator[Arrays]:
    """``optax.rmsprop``, after a gradient transformation if the arguments name one."""
    own = dict(arguments)
    before = [getattr(optax, name)(own.pop(name)) for name in BEFORE_OPTAX if name in own]
    lr, factors = own.pop("learning_rate"), jax.numpy.asarray(LR_FACTORS)
    optimizer = optax.chain(*before, optax.rmsprop(lambda count: lr * factors[count], **own))
    params = [jax.numpy.asarray(array) for array in start]
    state = optimizer.init(params)
    for grads in gradients:
        updates, state = optimizer.update([jax.numpy.asarray(grad) for grad in grads], state, params)
        params = optax.apply_updates(params, updates)
        yield [np.asarray(param) for param in params]


def torch_optimizer(
    make: Callable[..., torch.optim.Optimizer], start: Arrays, gradients: list[Arrays], arguments: Arguments
) -> Iterator[Arrays]:
    """An optimizer with torch's interface."""
    params = [torch.nn.Parameter(torch.tensor(array)) for array in start]
    optimizer = make(params, **arguments)
    lr = optimizer.param_groups[0]["lr"]
    for factor, grads in zip(LR_FACTORS, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr * factor
        for param, grad in zip(params, grads, strict=True):
            param.grad = torch.tensor(grad)
        optimizer.step()
        yield [param.detach().numpy().copy() for param in params]


def timm_rmsprop(start: Arrays, gradients: list[Arrays], arguments: Arguments) -> Iterator[Arrays]:
    """``timm.optim.RMSpropTF``."""
    yield from torch_optimizer(timm.optim.RMSpropTF, start, gradients, arguments)


def torchopt_rmsprop(start: Arrays, gradients: list[Arrays], arguments: Arguments) -> Iterator[Arrays]:
    """``torchopt.rmsprop``, whose learning rate follows a schedule."""
    own = dict(arguments)
    lr = own.pop("lr")
    optimizer = torchopt.rmsprop(lambda count: lr * LR_FACTORS[int(count)], **own)
    params = [torch.tensor(array) for array in start]
    state = optimizer.init(params)
    for grads in gradients:
        updates, state = optimizer.update([torch.tensor(grad) for grad in grads], state, params=params)
        params = torchopt.apply_updates(params, updates)
        yield [param.numpy().copy() for param in params]


LIBRARIES: dict[str, tuple[Callable[..., Iterator[Arrays]], Any, str]] = {
    "tf1": (tf1, tf.compat.v1.train.RMSPropOptimizer, "tensorflow-cpu"),
    "keras": (keras_rmsprop, keras.optimizers.RMSprop, "keras"),
    "optax": (optax_rmsprop, optax.rmsprop, "optax"),
    "timm": (timm_rmsprop, timm.optim.RMSpropTF, "timm"),
    "torchopt": (torchopt_rmsprop, torchopt.rmsprop, "torchopt"),
}


def grid(*alternatives: list[Arguments]) -> Iterator[Arguments]:
    """Every combination of one entry of each list."""
    for chosen in itertools.product(*alternatives):
        yield {name: value for part in chosen for name, value in part.items()}


def cases() -> Iterator[tuple[str, Arguments]]:
    """The name of each library, and the arguments of its optimizer that differ from the defaults."""
    centered = [{}, {"centered": True}]
    momentum = [{}, {"momentum": 0.9}]
    lr = [{"learning_rate": 0.02}]

    numbers = [{}, {"decay": 0.6, "epsilon": 1e-3}]
    yield from (("tf1", chosen) for chosen in grid(lr, centered, momentum, numbers))

    decay = [{}, {"weight_decay": 0.25}]
    clip = [{}, {"clipnorm": 0.5}, {"clipvalue": 0.2}, {"global_clipnorm": 0.5}]
    yield from (("keras", chosen) for chosen in grid(centered, momentum, decay, clip))
    numbers = [{"learning_rate": 0.02, "rho": 0.6, "epsilon": 1e-3, "weight_decay": 0.25}]
    yield from (("keras", chosen) for chosen in grid(numbers, centered, momentum))

    step = [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]
    accumulator = [{}, {"initial_scale": 1.0}, {"bias_correction": True}]
    eps = [{}, {"eps": 1e-3, "eps_in_sqrt": False}]
    for chosen in grid(lr, centered, step, accumulator, eps):
        # With these three options, v - m*m after the first update is only a rounding error, which may be negative.
        if not ("centered" in chosen and "bias_correction" in chosen and "eps_in_sqrt" in chosen):
            yield "optax", chosen
    before = [{name: number} for name, number in BEFORE_OPTAX.items()]
    yield from (("optax", chosen) for chosen in grid(before, lr, [{"decay": 0.6, "momentum": 0.9}]))

    decay = [
        {},
        {"weight_decay": 0.25},
        {"weight_decay": 0.25, "decoupled_decay": True},
    ]
    yield from (("timm", chosen) for chosen in grid(decay, centered))
    buffer = [{}, {"lr_in_momentum": False}]
    caution = [{}, {"caution": True}]
    yield from (("timm", chosen) for chosen in grid([{"momentum": 0.9}], decay, centered, buffer, caution))
    yield "timm", {"caution": True}
    yield "timm", {"lr": 0.02, "alpha": 0.6, "eps": 1e-3, "momentum": 0.9}

    for chosen in grid([{"lr": 0.02}], centered, step, [{}, {"initial_scale": 1.0}], [{}, {"weight_decay": 0.25}]):
        yield "torchopt", chosen
    yield "torchopt", {"lr": 0.02, "alpha": 0.6, "eps": 1e-3, "maximize": True}


def defaults(optimizer: Any) -> Arguments:
    """Defaults of an optimizer that are floats or flags."""
    parameters = inspect.signature(optimizer).parameters.values()
    return {x.name: x.default for x in parameters if isinstance(x.default, (bool, float))}


def flat(arrays: Arrays) -> list[float]:
    """Concatenate all numbers of some arrays."""
    return [float(x) for array in arrays for x in np.ravel(array)]


def main() -> None:
    """Write ``rmsprop.json`` in this folder, with one case per line."""
    keras.config.set_floatx("float64")
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    start, gradients = problem()
    head = {
        "versions": {name: version(package) for name, (_, _, package) in LIBRARIES.items()},
        "defaults": {name: defaults(optimizer) for name, (_, optimizer, _) in LIBRARIES.items()},
        "shapes": SHAPES,
        "lr_factors": LR_FACTORS,
        "recorded_steps": RECORDED_STEPS,
        "start": flat(start),
        "gradients": [flat(grads) for grads in gradients],
    }
    lines = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
    entries = []
    for library, arguments in cases():
        train = LIBRARIES[library][0]
        trajectory = [flat(params) for params in train(start, gradients, arguments)]
        recorded = [trajectory[step - 1] for step in RECORDED_STEPS]
        entries.append(
            json.dumps({"library": library, "arguments": arguments, "params": recorded}, allow_nan=False)
        )
    text = "{\n" + ",\n".join([*lines, '"cases": [\n' + ",\n".join(entries) + "\n]"]) + "\n}\n"
    Path(__file__).with_name("rmsprop.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
