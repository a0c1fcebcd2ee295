"""Env steps per second of A2C on Pong compared with Stable-Baselines3, and the learning curve of a PPO run.

Run: python benchmarks/atari.py [--rounds 5] [--curve RUN] [--output benchmarks/results/atari.json]

The benchmark needs the extra atari. The training runs of A2C use 16 games, rollouts of 8 steps, the Nature CNN and
one thread of torch. These training runs alternate in rounds of 512 env steps. Times are CPU times of the process,
including the threads of ale-py.

With --curve, a second table shows the mean return of whole games in a run of ``rl-rms train
benchmarks/pong.yaml``. With --rounds 0, the first table keeps the speeds of the last measurement. Without --curve,
the second table keeps the last curve.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from rl_rms.agents import A2C
from rl_rms.cli.config import read_config
from rl_rms.envs.make import make_from_config

NUM_ENVS, N_STEPS, ROUND = 16, 8, 512
# Env steps between two points of the curve.
SPACING = 50_000


def make_ours(config: str) -> Callable[[], None]:
    """Make a function that trains A2C in the environment of a packaged configuration for one round."""
    env = read_config(config, [f"--env.num_envs={NUM_ENVS}"]).env
    agent = A2C(make_from_config(env, 0), n_steps=N_STEPS, device="cpu", seed=0)
    return lambda: agent.learn(ROUND) and None


def make_sb3() -> Callable[[], None]:
    """Make a function that trains Stable-Baselines3's A2C in its own Atari wrappers for one round."""
    import ale_py
    import gymnasium as gym
    from stable_baselines3 import A2C as SB3A2C
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gym.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", NUM_ENVS, seed=0), 4)
    model = SB3A2C("CnnPolicy", env, n_steps=N_STEPS, device="cpu", seed=0)
    return lambda: model.learn(ROUND, reset_num_timesteps=False) and None


TRAININGS: dict[str, Callable[[], Callable[[], None]]] = {
    "rl_rms, native environment (`pong_a2c`)": lambda: make_ours("pong_a2c"),
    "rl_rms, wrappers of Gymnasium (`pong_ppo`)": lambda: make_ours("pong_ppo"),
    "Stable-Baselines3, `make_atari_env`": make_sb3,
}


def measure_speed(rounds: int) -> dict[str, list[float]]:
    """Measure each training run's env steps per second of CPU time in each round, after a warm-up round."""
    trainings = {name: make() for name, make in TRAININGS.items()}
    speeds: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(rounds + 1):
        for name, train in trainings.items():
            began = time.process_time()
            train()
            if number:
                speeds[name].append(ROUND / (time.process_time() - began))
    return speeds


def read_curve(folder: Path) -> list[list[float]]:
    """Read the env steps and the mean return of whole games, one point for each `SPACING` env steps of a run."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["info/episode.r"]]
    points: dict[int, list[float]] = {}
    for row in rows:
        points.setdefault(int(row["time/total_timesteps"]) // SPACING, []).append(float(row["info/episode.r"]))
    last = int(rows[-1]["time/total_timesteps"])
    return [[min((number + 1) * SPACING, last), statistics.fmean(means)] for number, means in points.items()]


def table(speeds: Mapping[str, Sequence[float]], curve: Sequence[Sequence[float]]) -> str:
    """Format the tables of the measurements in Markdown."""
    rival = statistics.median(speeds["Stable-Baselines3, `make_atari_env`"])
    rounds = len(next(iter(speeds.values())))
    lines = [
        f"Env steps per second of CPU time for the training of A2C on Pong with {NUM_ENVS} games, median of "
        f"{rounds} rounds of {ROUND} env steps.",
        "",
        "| training | env steps per second | divided by Stable-Baselines3 |",
        "|---|---:|---:|",
        *(
            f"| {name} | {statistics.median(each):,.0f} | {statistics.median(each) / rival:.2f} |"
            for name, each in speeds.items()
        ),
    ]
    if curve:
        lines += [
            "",
            "Mean return of whole games in a run of PPO with `benchmarks/pong.yaml`. The run was stopped after "
            f"{curve[-1][0]:,} env steps. The lowest possible return is -21, the highest 21.",
            "",
            "| env steps | mean return |",
            "|---:|---:|",
            *(f"| {steps:,} | {mean:.1f} |" for steps, mean in curve),
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, then print and write the tables and the raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curve", type=Path, help="folder of a run of benchmarks/pong.yaml")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "atari.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    last = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"speeds": {}, "curve": []}
    speeds = measure_speed(arguments.rounds) if arguments.rounds else last["speeds"]
    curve = read_curve(arguments.curve) if arguments.curve else last["curve"]
    print(table(speeds, curve))
    arguments.output.write_text(json.dumps({"speeds": speeds, "curve": curve}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(speeds, curve) + "\n")


if __name__ == "__main__":
    main()
