"""What a second worker brings, and what it costs.

Run: python benchmarks/scale.py [--rounds 5] [--updates 150]

A2C trains on native CartPoles in one process and in two workers that torchrun starts, which share the same
sub-environments, in alternation; a third form, a single process with half of them, tells what each of the two
would take if it had nobody to wait for. Rates are of the updates after the first twenty, so that starting is not
in them; how long the whole command takes stands beside it, and where Ray is installed that of the same under Ray.
Medians over rounds; one thread each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "scale.json"
# Sub-environments and steps of a rollout.
SIZES = ((16, 8), (256, 32), (1_024, 32))
WARM_UP = 20


def train(num_envs: int, n_steps: int, updates: int) -> dict[str, float]:
    """Train as one of the workers that were started, or alone; what an update takes, in seconds."""
    import torch

    from rl_rms.agents import A2C
    from rl_rms.cli.config import ScaleConfig
    from rl_rms.cli.scale import process_group
    from rl_rms.envs import make_vec

    torch.set_num_threads(1)
    with process_group(ScaleConfig()) as workers:
        env = make_vec("CartPole-v1", num_envs // workers.size, seed=0, part=(workers.rank, workers.size))
        agent = A2C(env, n_steps=n_steps, gae_lambda=0.95, learning_rate=1e-3, seed=0, device="cpu").join(workers)
        times: list[float] = []

        def clock(_: Any) -> None:
            times.append(time.perf_counter())

        agent.learn((WARM_UP + updates) * num_envs * n_steps, clock, log_interval=10**9)
        return {"update": (times[-1] - times[WARM_UP]) / (len(times) - 1 - WARM_UP), "rank": workers.rank}


def measure(workers: int, num_envs: int, n_steps: int, updates: int) -> dict[str, float]:
    """Seconds of an update and of the whole command."""
    launcher = [sys.executable]
    if workers > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    words = [*launcher, __file__, "worker", *map(str, (num_envs, n_steps, updates))]
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
    whole = time.perf_counter() - began
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {**json.loads(told), "whole": whole}


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}


def with_ray() -> float | None:
    """Seconds that `command` takes with two workers of Ray; None where Ray is not installed."""
    return command("--scale.engine=ray", "--scale.workers=2") if find_spec("ray.train") else None


def command(*options: str, launcher: tuple[str, ...] = ()) -> float:
    """Seconds that ``rl-rms train cartpole_a2c`` takes on 20,000 env steps."""
    words = [
        sys.executable,
        *launcher,
        "-m",
        "rl_rms.cli.main",
        "train",
        "cartpole_a2c",
        "--total_timesteps=20000",
    ]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*words, *options, f"--runs_dir={folder}"],
            capture_output=True,
            check=True,
            env={**os.environ, **ONE_THREAD},
        )
    return time.perf_counter() - began


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| sub-environments x steps | one process | two workers | times as fast | an update with half of them | "
        "waiting and sending |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for size, rounds in results["sizes"].items():
        num_envs, n_steps = map(int, size.split("x"))
        times = {kind: [one[kind]["update"] for one in rounds] for kind in ("one", "two", "half")}
        one, two, half = (statistics.median(times[kind]) for kind in ("one", "two", "half"))
        ratios = [alone / shared for alone, shared in zip(times["one"], times["two"], strict=True)]
        steps = num_envs * n_steps
        lines.append(
            f"| {num_envs:,} x {n_steps} | {steps / one:,.0f} env steps/s | {steps / two:,.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {1e3 * half:.2f} ms | "
            f"{1e3 * (two - half):.2f} ms |"
        )
    lines += ["", "| `rl-rms train cartpole_a2c`, 20,000 env steps | seconds |", "|---|---:|"]
    for name, seconds in results["commands"].items():
        lines.append(f"| {name} | {statistics.median(seconds):.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table and write it."""
    if sys.argv[1:2] == ["worker"]:
        told = train(*map(int, sys.argv[2:]))
        if told.pop("rank") == 0:
            print(json.dumps(told))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--sizes", nargs="+", default=[f"{envs}x{steps}" for envs, steps in SIZES])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    sizes: dict[str, list[Any]] = {size: [] for size in arguments.sizes}
    commands: dict[str, list[float]] = {"one process": [], "two workers of torchrun": []}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for _ in range(arguments.rounds):
        for size, rounds in sizes.items():
            envs, steps = map(int, size.split("x"))
            kinds = {"one": (1, envs), "two": (2, envs), "half": (1, envs // 2)}
            rounds.append({kind: measure(*of, steps, arguments.updates) for kind, of in kinds.items()})
        commands["one process"].append(command())
        commands["two workers of torchrun"].append(command(launcher=torchrun))
        seconds = with_ray()
        if seconds is not None:
            commands.setdefault("two workers of Ray", []).append(seconds)
    results = {"sizes": sizes, "commands": commands}
    text = table(results)
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    heading = f"# More than one process\n\n`python benchmarks/scale.py`; medians of {arguments.rounds} rounds.\n\n"
    arguments.output.with_suffix(".md").write_text(f"{heading}{text}\n")


if __name__ == "__main__":
    main()
