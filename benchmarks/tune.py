"""What ``rl-rms tune`` finds, beside a grid search that costs three times as much.

Run: python benchmarks/tune.py run [--seeds 10] [--processes 2]
     python benchmarks/tune.py report

The world is the quickstart's drifting CartPole, 200,000 env steps a training. ``tune`` begins with a learning rate
30 times too small (6.7e-5) and a half-life 10 times too short (20 updates), and has four trainings. The grid has
twelve, of learning rates 2.5e-4, 1e-3, 4e-3, 1.6e-2 by half-lives 20, 200, 2,000. Both take what did best in their
own trainings and are trained once more, on a seed that neither has seen: the mean return over that training is the
score. So it is for the beginning, untuned. Every seed is another search. ``run`` appends to
benchmarks/results/tune_runs.jsonl and skips seeds that are there; ``report`` writes benchmarks/results/tune.md.
"""

import argparse
import dataclasses
import itertools
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_rms.agents.config import AgentConfig
from rl_rms.cli.config import RunConfig, read_config
from rl_rms.cli.trials import train
from rl_rms.cli.tune import Life, TuneConfig, beginning, live, outcome, scaled
from rl_rms.studies.intervals import interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "tune_runs.jsonl"
TABLE = HERE / "results" / "tune.md"

LIFE = 200_000
TUNING = TuneConfig()
START = {"learning_rate": 2e-3 / 30, "half_life": "20 updates"}
GRID = list(itertools.product((2.5e-4, 1e-3, 4e-3, 1.6e-2), ("20 updates", "200 updates", "2000 updates")))


def world(seed: int, life: int) -> RunConfig:
    """The run before anything is searched."""
    config = read_config("drifting_cartpole", [f"--total_timesteps={life}"])
    return dataclasses.replace(config, agent=dataclasses.replace(config.agent, **START), seed=seed)


def score(config: RunConfig, agent: AgentConfig, seed: int) -> float:
    """Mean return over a training."""
    chosen = dataclasses.replace(config, agent=agent, seed=seed)
    return float(train(chosen, "life", lambda *_: None)["score"])


def tuned(config: RunConfig) -> tuple[AgentConfig, list[Any]]:
    """What tuning finds, and what each life found, with its mean return."""
    lives: list[Life] = []
    for number in range(TUNING.lives):
        one = dataclasses.replace(config, seed=config.seed + number, progress="none")
        lives.append(live(one, TUNING, beginning(lives, TUNING), None))
    told = [[*point(scaled(config.agent, life.found)), round(life.score, 1)] for life in lives]
    return scaled(config.agent, outcome(lives)), told


def point(agent: AgentConfig) -> list[Any]:
    """Learning rate, half-life and eps."""
    return [agent.learning_rate, agent.half_life, agent.optimizer_kwargs["eps"]]


def search(seed: int, life: int = LIFE) -> dict[str, Any]:
    """One search by each, and their scores on a new seed."""
    torch.set_num_threads(1)
    config = world(1_000 * seed, life)
    found, lives = tuned(config)
    points = [dataclasses.replace(config.agent, learning_rate=rate, half_life=memory) for rate, memory in GRID]
    inside = [score(config, point, config.seed + i) for i, point in enumerate(points)]
    best = points[int(np.argmax(inside))]
    fresh = 1_000 * seed + 500
    return {
        "seed": seed,
        "lives": lives,
        "found": point(found),
        "grid": [round(one, 1) for one in inside],
        "grid_best": [best.learning_rate, best.half_life],
        "scores": {
            "untuned": round(score(config, config.agent, fresh), 1),
            "tune": round(score(config, found, fresh), 1),
            "grid": round(score(config, best, fresh), 1),
        },
    }


def one(seed: int) -> str:
    """A seed's search, written down."""
    result = search(seed)
    with RUNS.open("a") as file:
        file.write(json.dumps(result, separators=(",", ":")) + "\n")
    return json.dumps(result)


def read() -> list[dict[str, Any]]:
    """The finished searches."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []


def run(seeds: int, processes: int) -> None:
    """All searches that are missing, in parallel processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    done = {result["seed"] for result in read()}
    with ProcessPoolExecutor(processes) as pool:
        for said in pool.map(one, [seed for seed in range(seeds) if seed not in done]):
            print(said, flush=True)


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    scores = {name: np.array([one["scores"][name] for one in results]) for name in ("untuned", "tune", "grid")}
    lines = ["| | trainings | mean return over the next training (IQM, 95 % interval) |", "|---|---:|---:|"]
    for name, cost in (("untuned", 0), ("tune", TUNING.lives), ("grid", len(GRID))):
        middle, low, high = interquartile_mean(scores[name])
        lines.append(f"| {name} | {cost} | {middle:.0f} ({low:.0f} to {high:.0f}) |")
    share = scores["tune"] / scores["grid"]
    drawn = np.random.default_rng(0).choice(len(share), (10_000, len(share)))
    ratios = scores["tune"][drawn].mean(1) / scores["grid"][drawn].mean(1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    lines += [
        "",
        f"Of the grid's mean return `tune` reaches {100 * scores['tune'].mean() / scores['grid'].mean():.0f} % "
        f"({100 * low:.0f} to {100 * high:.0f} %, bootstrap over {len(share)} searches); at least 90 % in "
        f"{int((share >= 0.9).sum())} of {len(share)} searches.",
        "",
        "| search | learning rate | half-life | eps | grid's choice | untuned | tune | grid |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        rate, memory, eps = result["found"]
        choice = f"{result['grid_best'][0]:g}, {result['grid_best'][1]}"
        own = result["scores"]
        lines.append(
            f"| {result['seed']} | {rate:.2g} | {memory} | {eps:.1g} | {choice} | {own['untuned']:.0f} | "
            f"{own['tune']:.0f} | {own['grid']:.0f} |"
        )
    return "\n".join(lines)


def report() -> None:
    """Write the table."""
    results = sorted(read(), key=lambda result: result["seed"])
    text = (
        "# What tuning by meta-gradient finds\n\n`python benchmarks/tune.py run`, then `python benchmarks/tune.py "
        f"report`; raw results in tune_runs.jsonl. Drifting CartPole, {LIFE:,} env steps a training; from a "
        f"learning rate of {START['learning_rate']:.2g} and a half-life of {START['half_life']}.\n\n"
        f"{table(results)}\n"
    )
    TABLE.write_text(text)
    print(text)


def main() -> None:
    """Run or report, as the command line says."""
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
