"""Time of clip, step and zero_grad in `rl_rms.RMSprop` and `torch.optim.RMSprop`.

Run: python benchmarks/optimizer.py [--threads 1 2] [--rounds 15] [--output benchmarks/results/optimizer.json]

Each round times every contender. The table shows the median of the ratios within rounds, because a slow phase of
the machine affects all contenders. The gradients are refilled before each timed update, with a norm that clipping
reduces, as in A2C training. Times are CPU times for one thread, and wall times for more.

Two more contenders are `rl_rms.RMSprop` with a matched and with an estimated half-life. An update moves at least
32 bytes per parameter: the norm reads the gradient, the kernel reads and writes parameter, gradient and v, and
zero_grad writes the gradient. The table compares this bandwidth with a copy of the parameters, which moves 8 bytes
per parameter.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import rl_rms

MAX_NORM = 0.5


def actor_critic() -> nn.Module:
    """A2C's two networks on CartPole, of 64 and 64 units each: 12 tensors, 9,155 parameters."""

    def network(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

    return nn.ModuleList([network(2), network(1)])


def nature_cnn() -> nn.Module:
    """The Nature CNN with two heads: 12 tensors, 1.7 million parameters."""
    body = [nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3), nn.Linear(3136, 512)]
    return nn.ModuleList([*body, nn.Linear(512, 6), nn.Linear(512, 1)])


def large() -> nn.Module:
    """Thirty layers: 60 tensors, 10 million parameters."""
    return nn.ModuleList([nn.Linear(577, 577) for _ in range(30)])


SIZES: dict[str, Callable[[], nn.Module]] = {"actor-critic": actor_critic, "Nature CNN": nature_cnn, "10M": large}


OURS: dict[str, dict[str, Any]] = {
    "rl_rms": {},
    "rl_rms match": {"half_life": "match", "timescale": "1_000 updates"},
    "rl_rms auto": {"half_life": "auto"},
}
TORCHS = ("torch", "torch foreach")


def contender(make_net: Callable[[], nn.Module], name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that fills the gradients, and a function that clips, steps and zeroes them in place."""
    params = list(make_net().parameters())
    gradients = [torch.randn_like(param) for param in params]
    for param in params:
        param.grad = torch.zeros_like(param)
    optimizer: torch.optim.Optimizer
    if name in OURS:
        optimizer = rl_rms.RMSprop(params, lr=1e-6, max_grad_norm=MAX_NORM, **OURS[name])
    else:
        optimizer = torch.optim.RMSprop(params, lr=1e-6, foreach=name == "torch foreach")
    clips_itself = name in OURS

    def fill() -> None:
        torch._foreach_copy_([param.grad for param in params], gradients)

    def update() -> None:
        if not clips_itself:
            nn.utils.clip_grad_norm_(params, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return fill, update


def copying(make_net: Callable[[], nn.Module]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return such functions for a copy of as many numbers as the network has."""
    source = torch.zeros(sum(param.numel() for param in make_net().parameters()))
    target = torch.zeros_like(source)
    return lambda: None, lambda: target.copy_(source)  # type: ignore[return-value]


def measure(size: str, threads: int, rounds: int) -> dict[str, Any]:
    """Measure the microseconds of each contender in each round, and the medians of the ratios within rounds."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    updates = {name: contender(SIZES[size], name) for name in (*OURS, *TORCHS)}
    updates["copy"] = copying(SIZES[size])
    repeats = {"actor-critic": 300, "Nature CNN": 20, "10M": 4}[size]
    times: dict[str, list[float]] = {name: [] for name in updates}
    for current in range(rounds + 1):  # the first round warms up
        for name, (fill, update) in updates.items():
            spent = 0.0
            for _ in range(repeats):
                fill()
                began = clock()
                update()
                spent += clock() - began
            if current:
                times[name].append(spent / repeats * 1e6)

    def ratio(name: str, to: str) -> float:
        return statistics.median(one / other for one, other in zip(times[name], times[to], strict=True))

    return {
        "size": size,
        "threads": threads,
        "microseconds": {name: statistics.median(values) for name, values in times.items()},
        "times_faster_than": {name: ratio(name, "rl_rms") for name in TORCHS},
        "times_slower_than_rl_rms": {name: ratio(name, "rl_rms") for name in OURS if name != "rl_rms"},
        "share_of_copy_bandwidth": 32 / 8 * ratio("copy", "rl_rms"),
        "raw_microseconds": times,
    }


def main() -> None:
    """Measure everything, then print and write the table and the raw data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "optimizer.json")
    arguments = parser.parse_args()
    lines = [
        f"Clip, step and zero_grad in microseconds; medians of {arguments.rounds} rounds.",
        "",
        "| network | threads | rl_rms | match | auto | torch | torch foreach "
        "| times faster than torch's better path | match / rl_rms | auto / rl_rms | share of copy bandwidth |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    rows = []
    for size in arguments.sizes:
        for threads in arguments.threads:
            row = measure(size, threads, arguments.rounds)
            rows.append(row)
            us = [f"{row['microseconds'][name]:.0f}" for name in (*OURS, *TORCHS)]
            better = min(row["times_faster_than"].values())
            found = [f"{slower:.2f}" for slower in row["times_slower_than_rl_rms"].values()]
            share = f"{row['share_of_copy_bandwidth']:.0%}"
            lines.append(f"| {' | '.join([size, str(threads), *us, f'{better:.1f}', *found, share])} |")
            print(lines[-1], flush=True)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({**machine, "rounds": arguments.rounds, "rows": rows}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
