"""Time of clip, step and zero_grad in `rl_rms.RMSprop` and `torch.optim.RMSprop`.

Run: python benchmarks/optimizer.py [--threads 1] [--rounds 15] [--output benchmarks/results/optimizer.json]

The benchmark measures an update in three forms:

- default: a step that clips (torch: `clip_grad_norm_` and a step), then `zero_grad()`.
- external clip: `clip_grad_norm_` and a step for all optimizers, then `zero_grad()`, as in Stable-Baselines3.
- in place: a step that clips (torch: `clip_grad_norm_` and a step), then `zero_grad(set_to_none=False)`.

For torch, the first two forms are the same. Each round times every contender. The table shows the medians of the
times and the ratios of these medians. The table also shows the medians of the ratios within rounds, because a slow
phase of the machine affects all contenders of a round. Before each timed update, the benchmark fills the
gradients. The norm of these gradients is above the clipping norm. If `zero_grad` does not zero the gradients in
place, the gradients are new tensors at each update, as after a backward pass. Times are CPU times for one thread,
and wall times for more threads.

The column "calls" is a lower limit of the time of rl_rms. An update of "calls" only calls the functions of torch
that an update of rl_rms calls, with prepared arguments and without checks.

A second table shows the time of `rl_rms.RMSprop` with ``half_life="match"`` and ``half_life="auto"``, divided by
its time with a fixed half-life, in the default form.
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
from torch import Tensor, nn

import rl_rms
from rl_rms.optim.kernels.batch import GATHER_AT_MOST
from rl_rms.optim.torch_private import foreach_copy_, foreach_zero_, fused_adamw_, set_grad_enabled

MAX_NORM = 0.5


def actor_critic() -> nn.Module:
    """Make A2C's actor and critic for CartPole, each with two layers of 64 units: 12 tensors, 9,155 parameters."""

    def network(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

    return nn.ModuleList([network(2), network(1)])


def gru() -> nn.Module:
    """Make a recurrent policy of 64 units with two heads: 10 tensors, 25,475 parameters."""
    return nn.ModuleList([nn.Linear(4, 64), nn.GRU(64, 64), nn.Linear(64, 2), nn.Linear(64, 1)])


def many() -> nn.Module:
    """Make 100 tensors of 1,000 parameters."""
    return nn.ParameterList([torch.randn(1_000) for _ in range(100)])


def nature_cnn() -> nn.Module:
    """Make the Nature CNN with two heads: 12 tensors, 1.7 million parameters."""
    body = [nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3), nn.Linear(3136, 512)]
    return nn.ModuleList([*body, nn.Linear(512, 6), nn.Linear(512, 1)])


def large() -> nn.Module:
    """Make thirty layers: 60 tensors, 10 million parameters."""
    return nn.ModuleList([nn.Linear(577, 577) for _ in range(30)])


# Function that makes each network, and number of updates in a round.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "actor-critic": (actor_critic, 300),
    "GRU": (gru, 200),
    "100 x 1,000": (many, 50),
    "Nature CNN": (nature_cnn, 20),
    "10M": (large, 4),
}
CLIP, IN_PLACE = "external clip", "in place"
FORMS = ("default", CLIP, IN_PLACE)
OURS: dict[str, dict[str, Any]] = {
    "rl_rms": {},
    "match": {"half_life": "match", "timescale": "1_000 updates"},
    "auto": {"half_life": "auto"},
}
TORCHS = ("torch", "torch foreach")
CALLS = "calls"


def calls(params: list[Tensor], form: str) -> Callable[[], None]:
    """Return a function that only calls the functions of torch that an update of rl_rms calls, without checks."""
    sizes = [param.numel() for param in params]
    flat = torch.empty(sum(sizes))
    parts = [part.view(param.shape) for part, param in zip(flat.split(sizes), params, strict=True)]
    averages = [torch.ones_like(param, requires_grad=False) for param in params]
    steps, one, divisor = torch.zeros(len(params)), torch.ones(()), torch.ones(())
    large = [torch.tensor(1e9)] * len(params)
    options = {"lr": 1e-6, "beta1": 0.0, "beta2": 0.99, "weight_decay": 0.0, "eps": 1e-8}

    def update() -> None:
        if form == CLIP:
            nn.utils.clip_grad_norm_(params, MAX_NORM)
        grads: list[Any] = [param.grad for param in params]
        set_grad_enabled(False)
        if form == CLIP:
            scale = None
        elif flat.numel() <= GATHER_AT_MOST:
            foreach_copy_(parts, grads)
            scale = divisor.fill_(torch.linalg.vector_norm(flat).item() / MAX_NORM)
        else:
            scale = divisor.fill_(nn.utils.get_total_norm(grads).item() / MAX_NORM)
        steps.add_(one)
        fused_adamw_(
            params, grads, grads, averages, [], large, **options, amsgrad=False, maximize=False, grad_scale=scale
        )
        torch.autograd.graph.increment_version(params)
        set_grad_enabled(True)
        if form == IN_PLACE:
            foreach_zero_(grads)
        else:
            for param in params:
                param.grad = None

    return update


def contender(
    make_net: Callable[[], nn.Module], name: str, form: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that fills the gradients, and a function that clips, steps and zeroes the gradients."""
    params: list[Tensor] = list(make_net().parameters())
    gradients = [torch.randn_like(param) for param in params]
    clips_itself = name in OURS and form != CLIP
    optimizer: torch.optim.Optimizer
    if name in OURS:
        optimizer = rl_rms.RMSprop(params, lr=1e-6, max_grad_norm=MAX_NORM if clips_itself else None, **OURS[name])
    else:
        optimizer = torch.optim.RMSprop(params, lr=1e-6, foreach=name == "torch foreach")

    def fill() -> None:
        for param, gradient in zip(params, gradients, strict=True):
            if param.grad is None:
                param.grad = gradient.clone()
            else:
                param.grad.add_(gradient)

    def step() -> None:
        if not clips_itself:
            nn.utils.clip_grad_norm_(params, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=form != IN_PLACE)

    return fill, (calls(params, form) if name == CALLS else step)


def measure(network: str, threads: int, rounds: int) -> dict[str, Any]:
    """Measure the microseconds per update of each contender in each round."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    make_net, repeats = NETWORKS[network]
    names = [(name, form) for name in ("rl_rms", CALLS) for form in FORMS]
    names += [(name, form) for name in TORCHS for form in ("default", IN_PLACE)]
    names += [("match", "default"), ("auto", "default")]
    updates = {(name, form): contender(make_net, name, form) for name, form in names}
    times: dict[tuple[str, str], list[float]] = {name: [] for name in updates}
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
    raw = {f"{name}, {form}": values for (name, form), values in times.items()}
    return {"network": network, "threads": threads, "raw_microseconds": raw}


def relative(times: list[float], to: list[float]) -> str:
    """Format the ratio of the medians and, in brackets, the median of the ratios."""
    of_medians = statistics.median(times) / statistics.median(to)
    return f"{of_medians:.2f} ({statistics.median(one / own for one, own in zip(times, to, strict=True)):.2f})"


def table(rows: list[dict[str, Any]], rounds: int) -> list[str]:
    """Format both tables as Markdown."""
    lines = [
        f"Microseconds of clip, step and zero_grad, as medians of {rounds} rounds. A column with a slash has",
        "the ratio of the medians and, in brackets, the median of the ratios within rounds. The column 'calls'",
        "is a lower limit of the time of rl_rms. `benchmarks/optimizer.py` describes the forms.",
        "",
        "| network | form | threads | rl_rms | calls | torch | torch foreach | torch / rl_rms "
        "| torch foreach / rl_rms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        raw = row["raw_microseconds"]
        for form in FORMS:
            own, least = raw[f"rl_rms, {form}"], raw[f"{CALLS}, {form}"]
            others = [raw[f"{name}, {IN_PLACE if form == IN_PLACE else 'default'}"] for name in TORCHS]
            us = [f"{statistics.median(values):,.0f}" for values in (own, least, *others)]
            ratios = [relative(values, own) for values in others]
            lines.append(f"| {' | '.join([row['network'], form, str(row['threads']), *us, *ratios])} |")
    lines += ["", "| network | threads | match / rl_rms | auto / rl_rms |", "|---|---|---|---|"]
    for row in rows:
        raw = row["raw_microseconds"]
        ratios = [relative(raw[f"{name}, default"], raw["rl_rms, default"]) for name in ("match", "auto")]
        lines.append(f"| {' | '.join([row['network'], str(row['threads']), *ratios])} |")
    return lines


def main() -> None:
    """Measure everything, print the tables, and write the tables and the raw data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "optimizer.json")
    arguments = parser.parse_args()
    rows = [
        measure(network, threads, arguments.rounds)
        for network in arguments.networks
        for threads in arguments.threads
    ]
    lines = table(rows, arguments.rounds)
    print("\n".join(lines))
    machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({**machine, "rounds": arguments.rounds, "rows": rows}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
