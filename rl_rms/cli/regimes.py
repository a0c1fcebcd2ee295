"""What a run earned between the changes of its world, read from its log."""

import math
from dataclasses import dataclass

from rl_rms.cli.runs import Run


@dataclass(frozen=True)
class RegimeReturns:
    """What `rl_rms.agents.adaptation` logged of a regime.

    Attributes:
        start: Env steps that the agent had lived when it began.
        end: The same when it ended.
        begins_with_change: Whether the world changed then; not in the first regime, nor where a run was cut off
            and went on later.
        first_tenth: Mean return of the episodes in the first tenth of its env steps; NaN where none ended.
        last_tenth: The same of the last tenth.
        before: The last tenth of the regime before; NaN for none.
        recovery: Env steps until returns were at 90 % of that; ``inf`` if they never were, NaN where there was
            nothing to recover.
    """

    start: float
    end: float
    begins_with_change: bool
    first_tenth: float
    last_tenth: float
    before: float
    recovery: float

    @property
    def fell(self) -> bool:
        """Whether returns were below 90 % of what they had been."""
        return self.first_tenth < self.before - 0.1 * abs(self.before)


def read_regimes(run: Run) -> list[RegimeReturns]:
    """The regimes in which an episode ended, in order."""
    regimes: list[RegimeReturns] = []
    start, before = 0.0, math.nan
    for index, end in enumerate(run.steps):
        if math.isnan(_at(run, "mean", index)):
            continue
        recovery = _at(run, "recovery_steps", index)
        if math.isnan(recovery) and not math.isnan(before):
            recovery = math.inf
        last = _at(run, "last_tenth", index)
        changed = bool(regimes) and _changed(run, start)
        regimes.append(RegimeReturns(start, end, changed, _at(run, "first_tenth", index), last, before, recovery))
        start, before = end, last
    return regimes


def _at(run: Run, name: str, index: int) -> float:
    values = run.metrics.get(f"adaptation/{name}")
    return math.nan if values is None else values[index]


def _changed(run: Run, step: float) -> bool:
    """Whether the world's regime was another after an env step than before."""
    entries = list(zip(*run.series("env/regime"), strict=True))
    earlier = [regime for entry, regime in entries if entry < step]
    later = [regime for entry, regime in entries if entry > step]
    return not earlier or not later or earlier[-1] != later[0]
