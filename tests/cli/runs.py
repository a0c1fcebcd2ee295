"""Folders of runs, written without a training."""

import csv
from pathlib import Path

from rl_rms.cli.config import parse_config
from rl_rms.cli.runs import CONFIG, METRICS

WORLD = {"changes": {"force_mag": {"step": {"before": 10.0, "after": -10.0, "at": 1000}}}}


def write_run(folder: Path, returns, *, every=100, rows=(), **config) -> Path:
    """A run whose mean returns were logged at each ``every``-th env step, and further rows by env step."""
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


def regime(end, first, last, recovery=None):
    """The row that a regime leaves when it is over."""
    row = {
        "time/total_timesteps": end,
        "adaptation/mean": 0.5 * (first + last),
        "adaptation/first_tenth": first,
        "adaptation/last_tenth": last,
    }
    return row if recovery is None else {**row, "adaptation/recovery_steps": recovery}
