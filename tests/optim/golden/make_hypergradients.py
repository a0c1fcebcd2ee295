"""Unroll differentiable RMSprops of other libraries and record gradients with respect to hyperparameters.

``hypergradients.json`` has the gradients of the last loss in optax (JAX) and TorchOpt (torch), without any code of
rl_rms. TorchOpt has no gradient with respect to its decay. To write the file again, use a separate environment
(Python 3.11):

    python -m venv golden-venv
    golden-venv/bin/pip install torch==2.13.0 jax==0.10.2 optax==0.2.8 torchopt==0.7.3
    golden-venv/bin/python tests/optim/golden/make_hypergradients.py

The problem is a logistic regression with a weight vector and a bias, trained in float64.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
import torchopt

STEPS = 12
HYPERPARAMETERS = {"lr": 0.05, "decay": 0.8, "eps": 1e-3}


def problem() -> dict[str, np.ndarray]:
    """Inputs, labels of +-1, and the initial weights."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 3)) * np.array([1.0, 0.1, 5.0])
    labels = np.sign(inputs @ np.array([1.0, -8.0, 0.3]) + rng.normal(size=20))
    return {"inputs": inputs, "labels": labels, "weight": rng.normal(size=3), "bias": rng.normal(size=())}


def by_optax(options: dict[str, Any], wanted: list[str]) -> tuple[float, dict[str, float]]:
    """The last loss and its gradients with respect to hyperparameters, by optax."""
    data = {name: jax.numpy.asarray(array) for name, array in problem().items()}

    def loss(params: dict[str, Any]) -> Any:
        logits = data["inputs"] @ params["weight"] + params["bias"]
        return jax.numpy.mean(jax.nn.softplus(-data["labels"] * logits))

    def after(values: dict[str, Any]) -> Any:
        optimizer = optax.rmsprop(
            values["lr"], decay=values["decay"], eps=values["eps"], momentum=values.get("momentum"), **options
        )
        params = {name: data[name] for name in ("weight", "bias")}
        state = optimizer.init(params)
        for _ in range(STEPS):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    values = {**HYPERPARAMETERS, **({"momentum": 0.6} if "momentum" in wanted else {})}
    last, grads = jax.value_and_grad(after)({name: jax.numpy.asarray(value) for name, value in values.items()})
    return float(last), {name: float(grads[name]) for name in wanted}


def by_torchopt(options: dict[str, Any], wanted: list[str]) -> tuple[float, dict[str, float]]:
    """The last loss and its gradients with respect to hyperparameters, by TorchOpt."""
    data = {name: torch.tensor(array) for name, array in problem().items()}
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in HYPERPARAMETERS.items()}
    leaves = [values[name].requires_grad_() for name in wanted]

    def loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = data["inputs"] @ params["weight"] + params["bias"]
        return torch.nn.functional.softplus(-data["labels"] * logits).mean()

    decay = HYPERPARAMETERS["decay"]
    optimizer = torchopt.rmsprop(lambda _: values["lr"], alpha=decay, eps=values["eps"], **options)
    params = {name: data[name].clone().requires_grad_() for name in ("weight", "bias")}
    state = optimizer.init(params)
    for _ in range(STEPS):
        grads = torch.autograd.grad(loss(params), list(params.values()), create_graph=True)
        updates, state = optimizer.update(
            dict(zip(params, grads, strict=True)), state, params=params, inplace=False
        )
        params = torchopt.apply_updates(params, updates, inplace=False)
    last = loss(params)
    found = torch.autograd.grad(last, leaves)
    return last.item(), {name: grad.item() for name, grad in zip(wanted, found, strict=True)}


CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("optax", {}, ["lr", "decay", "eps"]),
    ("optax", {"eps_in_sqrt": False}, ["lr", "decay", "eps"]),
    ("optax", {"centered": True}, ["lr", "decay", "eps"]),
    ("optax", {"bias_correction": True}, ["lr", "decay", "eps"]),
    ("optax", {"initial_scale": 1.0}, ["lr", "decay", "eps", "momentum"]),
    ("optax", {"eps_in_sqrt": False, "nesterov": True}, ["lr", "decay", "eps", "momentum"]),
    ("torchopt", {}, ["lr", "eps"]),
    ("torchopt", {"centered": True, "momentum": 0.6}, ["lr", "eps"]),
]
BY = {"optax": by_optax, "torchopt": by_torchopt}


def main() -> None:
    """Write ``hypergradients.json`` in this folder."""
    jax.config.update("jax_enable_x64", True)
    cases = []
    for library, options, wanted in CASES:
        last, grads = BY[library](options, wanted)
        cases.append({"library": library, "options": options, "loss": last, "gradients": grads})
    contents = {
        "versions": {name: version(name) for name in BY},
        "steps": STEPS,
        "hyperparameters": HYPERPARAMETERS,
        "problem": {name: array.tolist() for name, array in problem().items()},
        "cases": cases,
    }
    Path(__file__).with_name("hypergradients.json").write_text(json.dumps(contents, indent=1) + "\n")


if __name__ == "__main__":
    main()
