"""Learning with the batch size of 64 workers, for half-lives in updates and in env steps, on one machine.

Run: python benchmarks/batch.py run [--seeds 10] [--processes 2]
     python benchmarks/batch.py report

A worker has 8 native CartPoles and rollouts of 8 steps, so an update of one worker spans about 64 env steps.
Resets do not count as env steps. An update of 64 workers, simulated in one process, spans about 4,096 env steps.
All contenders train A2C for 500,000 env steps: about 7,800 updates of one worker, or about 123 updates of 64
workers. One worker has a half-life of 200 updates (about 12,800 env steps). The 64 workers have the same half-life
in updates (about 819,200 env steps) or in env steps (about 3.1 updates). The learning rates of the grid differ by
factors of 2. The table shows the score of each contender at its best learning rate, and the scores at the other
rates. The score is the mean length of the episodes that end in the last fifth of the env steps.

For k times the batch size, the square root scaling rule of Malladi et al. (2022, arXiv:2205.10287) multiplies
RMSprop's learning rate by sqrt(k), here 8, and keeps the half-life in env steps.

``run`` appends to benchmarks/results/batch_runs.jsonl.
"""

import argparse
import json
import os
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "batch_runs.jsonl"
TABLE = HERE / "results" / "batch.md"

TOTAL_TIMESTEPS = 500_000
NUM_ENVS, N_STEPS = 8, 8
# Workers, half-life, learning rates.
CONTENDERS: dict[str, tuple[int, float | str, tuple[float, ...]]] = {
    "1 worker, 200 updates": (1, 200, (5e-4, 1e-3, 2e-3, 4e-3)),
    "64 workers, 200 updates": (64, 200, (4e-3, 8e-3, 1.6e-2, 3.2e-2)),
    "64 workers, 12,800 env steps": (64, "12_800 steps", (4e-3, 8e-3, 1.6e-2, 3.2e-2)),
}


def train(contender: str, rate: float, seed: int, total_timesteps: int = TOTAL_TIMESTEPS) -> float:
    """Train one agent and return its score."""
    torch.set_num_threads(1)
    workers, half_life, _ = CONTENDERS[contender]
    env = make_vec("CartPole-v1", workers * NUM_ENVS, seed=seed)
    agent = A2C(
        env,
        learning_rate=rate,
        n_steps=N_STEPS,
        gae_lambda=0.95,
        ent_coef=0.01,
        half_life=half_life,
        normalize_observation=False,
        normalize_reward=False,
        seed=seed,
        device="cpu",
    )
    lengths: list[int] = []

    def collect(trained: A2C) -> None:
        last = [episode for episode in trained.new_episodes if episode.num_timesteps > 0.8 * total_timesteps]
        lengths.extend(episode.length for episode in last)

    agent.learn(total_timesteps, collect, log_interval=total_timesteps)
    env.close()
    # If no episode ends in the last fifth, all episodes are long, and the score is CartPole's maximum length.
    return round(statistics.fmean(lengths), 1) if lengths else 500.0


def read() -> dict[tuple[str, float, int], float]:
    """Read the finished runs."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    return {(contender, rate, seed): score for contender, rate, seed, score in map(json.loads, lines)}


def one(contender: str, rate: float, seed: int) -> None:
    """Train one agent and append its score to the file."""
    line = json.dumps([contender, rate, seed, train(contender, rate, seed)], separators=(",", ":"))
    with RUNS.open("a") as file:
        file.write(line + "\n")


def run(seeds: int, processes: int) -> None:
    """Do all missing training runs in parallel processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    done = read()
    wanted = [
        (contender, rate, seed)
        for contender, (_, _, rates) in CONTENDERS.items()
        for rate in rates
        for seed in range(seeds)
        if (contender, rate, seed) not in done
    ]
    with ProcessPoolExecutor(processes) as pool:
        for future in [pool.submit(one, *which) for which in wanted]:
            future.result()


def table(scores: dict[tuple[str, float, int], float]) -> str:
    """Format the results as Markdown."""
    of: dict[tuple[str, float], list[float]] = defaultdict(list)
    for (contender, rate, _), score in sorted(scores.items()):
        of[contender, rate].append(score)
    lines = ["| | best learning rate | episode length, last fifth | at the other rates |", "|---|---:|---:|---|"]
    for contender, (_, _, rates) in CONTENDERS.items():
        middles = {rate: interquartile_mean(np.array(of[contender, rate])) for rate in rates}
        best = max(rates, key=lambda rate: middles[rate][0])
        middle, low, high = middles[best]
        others = ", ".join(f"{rate:g}: {middles[rate][0]:.0f}" for rate in rates if rate != best)
        lines.append(f"| {contender} | {best:g} | {middle:.0f} ({low:.0f} to {high:.0f}) | {others} |")
    return "\n".join(lines)


def report() -> None:
    """Write the table."""
    scores = read()
    seeds = len({seed for _, _, seed in scores})
    text = (
        "# The batch of 64 workers\n\n`python benchmarks/batch.py run` trains the agents, and "
        "`python benchmarks/batch.py report` writes this page. The raw scores are in batch_runs.jsonl. The table "
        f"shows interquartile means over {seeds} training runs of {TOTAL_TIMESTEPS:,} env steps, and the 95 % "
        f"intervals of these means.\n\n{table(scores)}\n"
    )
    TABLE.write_text(text)
    print(text)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.seeds, arguments.processes)
    else:
        report()


if __name__ == "__main__":
    main()
