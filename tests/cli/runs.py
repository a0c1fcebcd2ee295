"""Folders of runs, made with and without training."""

import csv
import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from rl_rms.agents.config_file import CONFIG
from rl_rms.agents.metrics import METRICS
from rl_rms.cli.config import parse_config

WORLD = {"changes": {"force_mag": {"step": {"before": 10.0, "after": -10.0, "at": 1000}}}}


FEDERATION = """
config: cartpole_a2c
fix: {env.num_envs: 2, agent.n_steps: 4, env.vectorization_mode: sync}
clients:
  - {env.changes: {length: 0.3}}
  - {env.changes: {length: 0.6}}
  - {env.changes.length: 0.9, env.changes.reward.noise: 0.5}
rounds: 3
local_updates: 2
placement: client
"""


def write_run(folder: Path, returns, *, every=100, rows=(), **config) -> Path:
    """Write a run with mean returns that are logged every ``every`` env steps, and with further log rows."""
    tree = {"env": WORLD, "total_timesteps": every * max(len(returns), 1), **config}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(parse_config(tree).to_yaml())
    logged = [
        {"time/total_timesteps": every * number, "rollout/ep_rew_mean": value}
        for number, value in enumerate(returns, start=1)
    ]
    logged = sorted([*logged, *rows], key=lambda row: row["time/total_timesteps"])
    columns = list(dict.fromkeys(column for row in logged for column in row))
    with (folder / METRICS).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(logged)
    return folder


def write_events(folder: Path, returns=(1.0,), *, tag="rollout/ep_rew_mean", every=100) -> Path:
    """Write the event file of a run of Stable-Baselines3 or another library."""
    with SummaryWriter(folder) as writer:
        for number, value in enumerate(returns, start=1):
            writer.add_scalar(tag, value, every * number)
    return folder


def write_clean_rl(folder: Path, returns) -> Path:
    """Write the event file of a run of CleanRL, with an episode every 10 env steps."""
    return write_events(folder, returns, tag="charts/episodic_return", every=10)


def regime(number, end, first, last, recovery=None):
    """The log row at the end of a regime."""
    row = {
        "time/total_timesteps": end,
        "adaptation/regime": number,
        "adaptation/mean": 0.5 * (first + last),
        "adaptation/first_tenth": first,
        "adaptation/last_tenth": last,
    }
    return row if recovery is None else {**row, "adaptation/recovery_steps": recovery}


def command(*words, cwd):
    return [sys.executable, "-m", "rl_rms.cli.main", *words], {"cwd": cwd, "text": True}


def run_folder(base: Path, config: str) -> Path:
    (folder,) = (base / "runs" / config).iterdir()
    return folder


def rows(folder="run"):
    """Rows of the log in a folder."""
    with (Path(folder) / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
