"""Returns of a run in each regime, read from its log."""

import math
from dataclasses import dataclass

from rl_rms.cli.runs import Run


@dataclass(frozen=True)
class RegimeReturns:
    """Returns of a regime, as `rl_rms.agents.adaptation` logged them.

    Attributes:
        start: Env steps of the run when the regime began.
        end: Env steps of the run when the regime ended.
        first_tenth: Mean return of the episodes in the first tenth of its env steps; NaN where none ended.
        last_tenth: Mean return of the episodes in the last tenth.
        before: ``last_tenth`` of the previous regime; NaN without one.
        recovery: Env steps until returns reached 90 % of ``before``; ``inf`` if never, NaN if there was nothing to
            recover.
    """

    start: float
    end: float
    first_tenth: float
    last_tenth: float
    before: float
    recovery: float

    @property
    def fell(self) -> bool:
        """Whether ``first_tenth`` is below 90 % of ``before``."""
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
        regimes.append(RegimeReturns(start, end, _at(run, "first_tenth", index), last, before, recovery))
        start, before = end, last
    return regimes


def _at(run: Run, name: str, index: int) -> float:
    values = run.metrics.get(f"adaptation/{name}")
    return math.nan if values is None else values[index]
