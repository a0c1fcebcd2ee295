"""Compares numba and torch.compile with the numpy backend, and AsyncVectorEnv with other vector environments.

Run: pip install numba, then python benchmarks/alternatives.py

All agents are A2C on CartPole. Each process uses one thread. Each round measures every compared method once. The
tables show medians over rounds.

The first table shows which share of A2C's CPU time the backend takes. The backend draws actions and computes
gradients. A backend that takes no time would multiply the env steps per second by ``limit``. A compiled backend
still needs the time of the matrix products and activations. ``limit with products`` includes this time.

The second table compares the time of an actor's forward pass in numpy and in loops compiled by numba. The actor
has two hidden layers of 64 units. Both passes use float32 and the same weights.

The third table has the time of a forward and backward pass of such an actor: in torch, in torch with
torch.compile, and in numpy with the backend's `Network`. These times exclude the compilation. The text below the
table has the seconds of the slowest compilation.

The fourth table has the env steps per second of wall time for A2C in SyncVectorEnv, AsyncVectorEnv and the native
vector environment. An AsyncVectorEnv has one process for each sub-environment.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rl_rms.agents import A2C
from rl_rms.agents.numpy_backend import NumpyBackend
from rl_rms.agents.numpy_network import Network, SharedParameters
from rl_rms.envs import make_vec

Floats = NDArray[np.float32]
CASES = ((1, "sync"), (16, "sync"), (16, "native"), (64, "native"), (1_024, "native"))
BACKEND, PRODUCTS = "backend", "products"
METHODS = ((NumpyBackend, "act", BACKEND), (NumpyBackend, "gradients", BACKEND)) + tuple(
    (Network, name, PRODUCTS) for name in ("forward", "backward")
)
ROWS = (1, 16, 64, 512, 8_192)
MODES = ("sync", "async", "native")
HIDDEN = 64


def timed(function: Callable[..., Any], seconds: dict[str, float], part: str) -> Callable[..., Any]:
    """Wrap a function so that each call adds its CPU time to ``seconds[part]``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.thread_time() - start

    return call


def shares(num_envs: int, mode: str, rounds: int) -> dict[str, float]:
    """Measure the backend's and the products' median shares in the CPU time of `A2C.learn` on CartPole."""
    seconds: dict[str, float] = defaultdict(float)
    before = [getattr(owner, name) for owner, name, _ in METHODS]
    found: dict[str, list[float]] = {BACKEND: [], PRODUCTS: []}
    try:
        for (owner, name, part), function in zip(METHODS, before, strict=True):
            setattr(owner, name, timed(function, seconds, part))
        env = make_vec("CartPole-v1", num_envs, vectorization_mode=mode)
        agent = A2C(env, seed=0).learn(500 * num_envs)
        for _ in range(rounds):
            seconds.clear()
            start = time.thread_time()
            agent.learn(max(10_000, 500 * num_envs))
            total = time.thread_time() - start
            for part, values in found.items():
                values.append(seconds[part] / total)
        env.close()
    finally:
        for (owner, name, _), function in zip(METHODS, before, strict=True):
            setattr(owner, name, function)
    return {part: statistics.median(values) for part, values in found.items()}


def compiled_forward() -> Callable[..., None]:
    """Return the forward pass of an actor with two hidden layers of tanh units, compiled by numba."""
    from numba import njit

    @njit(fastmath=True)
    def layer(inputs, weight, bias, out):  # type: ignore[no-untyped-def]
        for row in range(inputs.shape[0]):
            for j in range(out.shape[1]):
                out[row, j] = bias[j]
            for i in range(inputs.shape[1]):
                for j in range(out.shape[1]):
                    out[row, j] += inputs[row, i] * weight[i, j]

    @njit(fastmath=True)
    def forward(inputs, weights, hidden, outputs):  # type: ignore[no-untyped-def]
        layer(inputs, weights[0], weights[1], hidden[0])
        tanh(hidden[0])
        layer(hidden[0], weights[2], weights[3], hidden[1])
        tanh(hidden[1])
        layer(hidden[1], weights[4], weights[5], outputs)

    @njit(fastmath=True)
    def tanh(values):  # type: ignore[no-untyped-def]
        # The compiler does not vectorize a loop that calls C's tanh. The errors of this formula are below 0.0002.
        flat = values.reshape(-1)
        for i in range(flat.size):
            x = min(max(flat[i], np.float32(-9.0)), np.float32(9.0))
            s = x * x
            # The continued fraction of tanh, cut off after nine terms.
            top = np.float32(34459425.0) + s * (
                np.float32(4729725.0) + s * (np.float32(135135.0) + s * (np.float32(990.0) + s))
            )
            low = np.float32(34459425.0) + s * (
                np.float32(16216200.0)
                + s * (np.float32(945945.0) + s * (np.float32(13860.0) + s * np.float32(45.0)))
            )
            flat[i] = x * top / low

    return forward  # type: ignore[no-any-return]


def numpy_forward(
    inputs: Floats, weights: tuple[Floats, ...], hidden: tuple[Floats, ...], outputs: Floats
) -> None:
    """Compute the same forward pass as `rl_rms.agents.numpy_network.Network`."""
    for i, out in enumerate((*hidden, outputs)):
        np.dot(inputs, weights[2 * i], out=out)
        np.add(out, weights[2 * i + 1], out=out)
        if out is not outputs:
            np.tanh(out, out)
        inputs = out


def forward_times(num_rows: int, rounds: int) -> dict[str, float]:
    """Measure the median microseconds of a forward pass in numpy and of one compiled by numba."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> Floats:
        return (0.2 * random.standard_normal(shape)).astype(np.float32)

    weights = (
        floats(4, HIDDEN),
        floats(HIDDEN),
        floats(HIDDEN, HIDDEN),
        floats(HIDDEN),
        floats(HIDDEN, 2),
        floats(2),
    )
    inputs, hidden, outputs = floats(num_rows, 4), (floats(num_rows, HIDDEN), floats(num_rows, HIDDEN)), {}
    passes = {"numpy": numpy_forward, "numba": compiled_forward()}
    for name, forward in passes.items():
        outputs[name] = floats(num_rows, 2)
        forward(inputs, weights, hidden, outputs[name])
    np.testing.assert_allclose(outputs["numpy"], outputs["numba"], atol=1e-5)
    ways = {name: partial(forward, inputs, weights, hidden, outputs[name]) for name, forward in passes.items()}
    return alternate(ways, max(10, 20_000 // num_rows), rounds)


def torch_times(num_rows: int, rounds: int) -> dict[str, float]:
    """Measure median microseconds of a forward and backward pass, and the seconds of the first compiled pass."""
    layers = [torch.nn.Linear(4, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.Tanh()]
    actor = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN, 2))
    inputs, slopes = torch.randn(num_rows, 4), torch.randn(num_rows, 2)
    shared = SharedParameters(list(actor.parameters()))
    network = Network(actor, shared)
    rows, row_slopes, passed = inputs.numpy(), slopes.numpy(), network.room((num_rows,))

    def in_numpy() -> None:
        shared.refresh()
        network.look(num_rows)
        network.forward(rows, passed)
        network.backward(rows, passed, row_slopes)

    def in_torch(module: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def call() -> None:
            actor.zero_grad()
            module(inputs).backward(slopes)  # type: ignore[no-untyped-call]

        return call

    ways = {"torch": in_torch(actor), "torch.compile": in_torch(torch.compile(actor)), "numpy": in_numpy}
    start = time.perf_counter()
    ways["torch.compile"]()
    seconds = time.perf_counter() - start
    return {**alternate(ways, max(10, 20_000 // num_rows), rounds), "compilation": seconds}


def alternate(ways: dict[str, Callable[[], object]], calls: int, rounds: int) -> dict[str, float]:
    """Measure the median microseconds of a call of each function."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.thread_time()
            for _ in range(calls):
                call()
            found[name].append((time.thread_time() - start) / calls * 1e6)
    return {name: statistics.median(times) for name, times in found.items()}


def vector_speeds(num_envs: int, rounds: int) -> dict[str, float]:
    """Measure the median env steps per second of `A2C.learn` in each vectorization mode."""
    agents = {
        mode: A2C(make_vec("CartPole-v1", num_envs, vectorization_mode=mode), seed=0).learn(100 * num_envs)
        for mode in MODES
    }
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, agent in agents.items():
            before, start = agent.num_timesteps, time.perf_counter()
            agent.learn(400 * num_envs)
            found[mode].append((agent.num_timesteps - before) / (time.perf_counter() - start))
    for agent in agents.values():
        agent.env.close()
    return {mode: statistics.median(speeds) for mode, speeds in found.items()}


def tables(measured: dict[str, Any]) -> str:
    """Format the tables as Markdown."""
    lines = [
        "Shares of the backend, and of its matrix products and activations, in the CPU time of A2C on CartPole. A "
        'backend that takes no time would multiply the env steps per second by "limit". A backend that takes only '
        'the time of the products and activations would multiply them by "limit with products".',
        "",
        "| sub-environments | share of the backend | of its products | limit | limit with products |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in measured["shares"].items():
        backend, products = row[BACKEND], row[PRODUCTS]
        limits = f"{1 / (1 - backend):.2f} | {1 / (1 - backend + products):.2f}"
        lines.append(f"| {name} | {backend:.0%} | {products:.0%} | {limits} |")
    lines += [
        "",
        "Microseconds of CPU time for a forward pass of an actor with two hidden layers of 64 units.",
        "",
        "| rows | numpy | numba | numpy / numba |",
        "|---:|---:|---:|---:|",
    ]
    for num_rows, row in measured["forward"].items():
        ratio = row["numpy"] / row["numba"]
        lines.append(f"| {int(num_rows):,} | {row['numpy']:.1f} | {row['numba']:.1f} | {ratio:.2f} |")
    lines += [
        "",
        "Microseconds of CPU time for a forward and backward pass of this actor.",
        "",
        "| rows | torch | torch.compile | numpy |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {int(num_rows):,} | {row['torch']:.1f} | {row['torch.compile']:.1f} | {row['numpy']:.1f} |"
        for num_rows, row in measured["torch"].items()
    ]
    seconds = max(row["compilation"] for row in measured["torch"].values())
    lines += [
        "",
        f"The slowest compilation by torch.compile took {seconds:.0f} seconds.",
        "",
        "Env steps per second of wall time for the training of A2C on CartPole.",
        "",
        f"| sub-environments | {' | '.join(MODES)} |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {num_envs} | {' | '.join(f'{row[mode]:,.0f}' for mode in MODES)} |"
        for num_envs, row in measured["vector"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the tables, and write the tables and their numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "alternatives.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        measured = {
            "shares": {
                f"{num_envs:,} {mode}": shares(num_envs, mode, arguments.rounds) for num_envs, mode in CASES
            },
            "forward": {str(num_rows): forward_times(num_rows, arguments.rounds) for num_rows in ROWS},
            "torch": {str(num_rows): torch_times(num_rows, arguments.rounds) for num_rows in ROWS},
            "vector": {str(num_envs): vector_speeds(num_envs, arguments.rounds) for num_envs in (4, 16)},
        }
    print(tables(measured))
    arguments.output.write_text(json.dumps(measured, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(tables(measured))


if __name__ == "__main__":
    main()
