"""Reads the regimes of a run from the run's log."""

import math
from functools import partial

from rl_rms.agents.adaptation import WINDOW, Regime
from rl_rms.cli.runs import Run


def read_regimes(run: Run) -> list[Regime]:
    """Read the regimes that `rl_rms.agents.adaptation` logged, in order.

    If a run was resumed within a regime, its log has several entries for this regime. This function uses the last
    of these entries.
    """
    regimes: dict[int, Regime] = {}
    start, before = 0, math.nan
    for index, end in enumerate(run.steps):
        at = partial(_at, run, index)
        if math.isnan(at("regime")):
            continue
        number = int(at("regime"))
        if number not in regimes and regimes:
            last = next(reversed(regimes.values()))
            start, before = last.end, last.last_tenth
        recovery = at("recovery_steps")
        if math.isnan(recovery) and not (math.isnan(before) or at("episodes") < WINDOW):
            recovery = math.inf
        means = at("mean"), at("first_tenth"), at("last_tenth")
        regimes[number] = Regime(number, start, int(end), *means, recovery)
    return list(regimes.values())


def _at(run: Run, index: int, name: str) -> float:
    values = run.metrics.get(f"adaptation/{name}")
    return math.nan if values is None else values[index]
