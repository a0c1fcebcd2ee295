"""Speed and returns of training in two workers, and rounds per second of a federation.

Run: python benchmarks/scale.py speed [--rounds 5] [--updates 150]
     python benchmarks/scale.py returns [--seeds 10]
     python benchmarks/scale.py federation [--rounds 3]

``speed`` trains A2C on native CartPoles in one process, and in two workers of torchrun. Each worker has half of
the sub-environments. A third run, one process with half of the sub-environments, shows the time of a worker
without waiting and communication. Rates exclude the first 21 updates as a warm-up. The table also has the time of
whole commands. If Ray is installed, one of these commands trains in two workers of Ray. Values are medians over
rounds, and brackets contain the range.

``returns`` trains the packaged cartpole_a2c for 200,000 env steps, in one process and in two workers of torchrun,
with the same seeds. The episodes differ, because all native sub-environments of a worker share one random
generator. The table shows interquartile means over seeds and their 95 % intervals.

``federation`` repeats the clients of the packaged federation cartpoles until there are 4, 8 or 16 clients. Flower
simulates two clients at a time. The command measures the rounds per second between the ends of the second and of
the last round.

Each command writes its part of benchmarks/results/scale.json, and the tables of all parts to
benchmarks/results/scale.md. Each process uses one thread.
"""

import argparse
import itertools
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

import numpy as np

from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "scale.json"
# Sub-environments and steps of a rollout.
SIZES = ((16, 8), (256, 32), (1_024, 32))
WARM_UP = 20
TOTAL_TIMESTEPS = 200_000
CLIENTS = (4, 8, 16)
ROUNDS = 12
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def train(num_envs: int, n_steps: int, updates: int) -> dict[str, float]:
    """Train as one worker of the group, and return the seconds per update and the rank."""
    import torch

    from rl_rms.agents import A2C
    from rl_rms.cli.scale import ScaleConfig, process_group
    from rl_rms.envs import make_vec

    torch.set_num_threads(1)
    with process_group(ScaleConfig()) as workers:
        env = make_vec("CartPole-v1", num_envs // workers.size, seed=0, shard=(workers.rank, workers.size))
        options: dict[str, Any] = {"n_steps": n_steps, "normalize_observation": False, "normalize_reward": False}
        agent = A2C(env, learning_rate=1e-3, ent_coef=0.0, seed=0, device="cpu", **options).join(workers)
        times: list[float] = []

        def clock(_: Any) -> None:
            times.append(time.perf_counter())

        agent.learn((WARM_UP + updates) * num_envs * n_steps, clock, log_interval=10**9)
        return {"update": (times[-1] - times[WARM_UP]) / (len(times) - 1 - WARM_UP), "rank": workers.rank}


def measure(workers: int, num_envs: int, n_steps: int, updates: int) -> dict[str, float]:
    """Measure the seconds of an update and of the whole command."""
    launcher = TORCHRUN if workers > 1 else ()
    arguments = [sys.executable, *launcher, __file__, "worker", *map(str, (num_envs, n_steps, updates))]
    began = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
    whole = time.perf_counter() - began
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {**json.loads(line), "whole": whole}


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}


def command(*words: str, launcher: tuple[str, ...] = ()) -> float:
    """Measure the seconds of ``rl-rms WORDS``."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *launcher, "-m", "rl_rms.cli.main", *words],
        capture_output=True,
        check=True,
        env={**os.environ, **ONE_THREAD},
    )
    return time.perf_counter() - began


def speed(rounds: int, updates: int, sizes: list[str]) -> dict[str, Any]:
    """Measure the seconds of updates by size, and of whole commands."""
    measured: dict[str, list[Any]] = {size: [] for size in sizes}
    commands: dict[str, list[float]] = {}
    for _ in range(rounds):
        for size, times in measured.items():
            envs, steps = map(int, size.split("x"))
            kinds = {"one": (1, envs), "two": (2, envs), "half": (1, envs // 2)}
            times.append({kind: measure(*of, steps, updates) for kind, of in kinds.items()})
        with tempfile.TemporaryDirectory() as folder:
            words = ("train", "cartpole_a2c", "--total_timesteps=20000", f"--runs_dir={folder}")
            seconds = {
                "one process": command(*words),
                "two workers of torchrun": command(*words, launcher=TORCHRUN),
            }
            if find_spec("ray.train"):
                seconds["two workers of Ray"] = command(*words, "--scale.engine=ray", "--scale.workers=2")
        for name, one in seconds.items():
            commands.setdefault(name, []).append(one)
    return {"sizes": measured, "commands": commands}


def mean_returns(seed: int, launcher: tuple[str, ...]) -> tuple[float, float]:
    """Train, and return the mean return of all episodes and of the episodes in the last tenth of the env steps."""
    with tempfile.TemporaryDirectory() as folder:
        words = (f"--total_timesteps={TOTAL_TIMESTEPS}", f"--seed={seed}", f"--runs_dir={folder}")
        command("train", "cartpole_a2c", *words, launcher=launcher)
        (summary,) = Path(folder).glob("*/*/summary.json")
        (regime,) = json.loads(summary.read_text())["regimes"]
    return round(regime["mean"], 1), round(regime["last_tenth"], 1)


def returns(seeds: int) -> dict[str, list[tuple[float, float]]]:
    """Measure the mean returns by the number of workers, in the order of the seeds."""
    of: dict[str, list[tuple[float, float]]] = {"1": [], "2": []}
    for seed in range(seeds):
        of["1"].append(mean_returns(seed, ()))
        of["2"].append(mean_returns(seed, TORCHRUN))
    return of


def rounds_a_second(clients: int) -> float:
    """Run a federation and measure its rounds per second."""
    import yaml
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    packaged = yaml.safe_load((HERE.parent / "configs" / "federations" / "cartpoles.yaml").read_text())
    packaged["clients"] = list(itertools.islice(itertools.cycle(packaged["clients"]), clients))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.yaml"
        path.write_text(yaml.safe_dump({**packaged, "rounds": ROUNDS}))
        command("federate", str(path), f"--runs_dir={folder}/runs")
        (events,) = Path(folder).glob("runs/many/*/events.out.tfevents.*")
        times = [one.wall_time for one in EventAccumulator(str(events)).Reload().Scalars("federation/clients")]
    return (len(times) - 2) / (times[-1] - times[1])


def federation(rounds: int) -> dict[str, list[float]]:
    """Measure the rounds per second by the number of clients."""
    of: dict[str, list[float]] = {str(clients): [] for clients in CLIENTS}
    for _ in range(rounds):
        for clients in CLIENTS:
            of[str(clients)].append(round(rounds_a_second(clients), 3))
    return of


def speed_table(results: dict[str, Any]) -> str:
    """Format updates and commands as Markdown."""
    lines = [
        "| sub-environments x steps | one process | two workers | times as fast | "
        "update with half of the sub-environments | waiting and sending |",
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
    lines += ["", f"Medians of {len(seconds)} rounds. Brackets contain the range."]
    return "\n".join(lines)


def returns_table(of: dict[str, list[tuple[float, float]]]) -> str:
    """Format mean returns as Markdown."""
    lines = ["| workers | mean return of all episodes | mean return of the last tenth |", "|---|---:|---:|"]
    for workers, scores in of.items():
        cells = []
        for which in np.array(scores).T:
            middle, low, high = interquartile_mean(which)
            cells.append(f"{middle:.0f} ({low:.0f} to {high:.0f})")
        lines.append(f"| {workers} | {' | '.join(cells)} |")
    lines += ["", f"Interquartile means over {len(scores)} seeds with their 95 % intervals."]
    return "\n".join(lines)


def federation_table(of: dict[str, list[float]]) -> str:
    """Format rates as Markdown."""
    lines = ["| clients | rounds a second | rounds a second, summed over clients |", "|---:|---:|---:|"]
    for clients, rates in of.items():
        middle = statistics.median(rates)
        lines.append(
            f"| {clients} | {middle:.2f} ({min(rates):.2f} to {max(rates):.2f}) | {int(clients) * middle:.1f} |"
        )
    lines += ["", f"Medians of {len(rates)} federations. Brackets contain the range."]
    return "\n".join(lines)


TABLES = {"speed": speed_table, "returns": returns_table, "federation": federation_table}


def main() -> None:
    """Measure a part, print its table, and write all parts."""
    if sys.argv[1:2] == ["worker"]:
        times = train(*map(int, sys.argv[2:]))
        if times.pop("rank") == 0:
            print(json.dumps(times))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(TABLES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--sizes", nargs="+", default=[f"{envs}x{steps}" for envs, steps in SIZES])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    output = arguments.output
    output.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(output.read_text()) if output.exists() else {}
    if arguments.what == "speed":
        results["speed"] = speed(arguments.rounds, arguments.updates, arguments.sizes)
    elif arguments.what == "returns":
        results["returns"] = returns(arguments.seeds)
    else:
        results["federation"] = federation(arguments.rounds)
    print(TABLES[arguments.what](results[arguments.what]))
    output.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    parts = [
        f"`python benchmarks/scale.py {what}`:\n\n{table(results[what])}\n"
        for what, table in TABLES.items()
        if what in results
    ]
    output.with_suffix(".md").write_text("\n".join(["# More than one process\n", *parts]))


if __name__ == "__main__":
    main()
