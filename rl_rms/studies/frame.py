"""Code that all studies share: measurements with several seeds in parallel, results, tables and verdicts."""

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rl_rms.agents.interruption import signals_deferred
from rl_rms.studies.intervals import Estimate, interquartile, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
# The settings of one measurement by name, such as the optimizer and the learning rate.
Cell = Mapping[str, Any]
_DIGITS = 5


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Format the table in Markdown, with the first column aligned left and the other columns right."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Verdict:
    """Whether the measurements support the claim.

    Attributes:
        word: ``"holds"``, ``"conditional"`` or ``"does not hold"``.
        evidence: The measurements that support the verdict, in whole sentences.
        condition: The words after "the claim holds" in a conditional verdict.
    """

    word: Literal["holds", "conditional", "does not hold"]
    evidence: str
    condition: str = ""

    @property
    def summary(self) -> str:
        """The verdict without the evidence, in one sentence."""
        if self.word == "conditional":
            return f"Conditional: the claim holds {self.condition}."
        return f"The claim {self.word}."

    def __str__(self) -> str:
        """The verdict and its evidence, in whole sentences."""
        return f"{self.summary} {self.evidence}"


@dataclass(frozen=True)
class Results:
    """Measurements of a study.

    Attributes:
        seeds: Seeds of every cell.
        cells: The settings of each measurement, in the order of measurement.
        measured: Metrics of each cell by name; arrays of shape ``(seeds, ...)``.
    """

    seeds: Sequence[int]
    cells: Sequence[Cell]
    measured: Sequence[Mapping[str, Floats]]

    def where(self, **which: Any) -> list[int]:
        """Return the indices of the cells with these settings."""
        return [i for i, cell in enumerate(self.cells) if all(cell.get(key) == which[key] for key in which)]

    def levels(self, setting: str, **which: Any) -> list[Any]:
        """Return a setting's values in all cells that match ``which``, in order of appearance."""
        return list(dict.fromkeys(self.cells[i][setting] for i in self.where(**which) if setting in self.cells[i]))

    def values(self, metric: str, **which: Any) -> Floats:
        """Return a metric of the one cell with these settings, shape ``(seeds, ...)``.

        Raises:
            KeyError: If there is no such cell, or more than one.
        """
        found = self.where(**which)
        if len(found) != 1:
            raise KeyError(f"exactly one cell must have the settings {which}, got {len(found)} cells")
        return self.measured[found[0]][metric]

    def estimate(self, metric: str, **which: Any) -> Estimate:
        """Interquartile mean of a scalar metric over seeds, with its interval."""
        return interquartile_mean(self.values(metric, **which))

    def middle(self, metric: str, **which: Any) -> float:
        """Return the interquartile mean of a scalar metric, without an interval and its bootstrap."""
        return interquartile(self.values(metric, **which))

    def best(self, metric: str, over: str, *, highest: bool = False, **which: Any) -> Any:
        """Return the value of a setting at which a metric's interquartile mean is best.

        If several values are equally good, the first one is returned.

        Args:
            metric: Name of a scalar metric.
            over: The setting to choose.
            highest: Whether higher values of the metric are better.
            **which: The other settings.
        """
        sign = -1.0 if highest else 1.0
        return min(
            self.levels(over, **which),
            key=lambda value: sign * interquartile(self.values(metric, **which, **{over: value})),
        )


@dataclass(frozen=True)
class Study:
    """A claim and the experiment that tests it.

    Attributes:
        name: Name in ``rl-rms study NAME``.
        claim: The claim that the study tests.
        mechanism: The features of the library that the claim is about.
        setup: Description of the measurement.
        caveat: Limits of the experiment.
        cells: Function that returns the settings to measure, as arguments of ``measure``. The function's argument
            is True for a quick study, whose settings take less time.
        measure: Function from a seed and a cell's settings to metrics, which are numbers or lists of numbers.
        tables: Function from the results to tables.
        verdict: Function from the results to the verdict.
        draw: Function that draws the results.
        seeds: Number of seeds of a full study.
        quick_seeds: Number of seeds of a quick study.
        size: Size of the figure, in inches.
    """

    name: str
    claim: str
    mechanism: str
    setup: str
    caveat: str
    cells: Callable[[bool], Iterable[Cell]]
    measure: Callable[..., Mapping[str, Any]]
    tables: Callable[[Results], Sequence[Table]]
    verdict: Callable[[Results], Verdict]
    draw: Callable[[Results, "Figure"], None]
    seeds: int = 10
    quick_seeds: int = 3
    size: tuple[float, float] = (9.0, 3.6)


def grid(**settings: Iterable[Any]) -> list[dict[str, Any]]:
    """Return a cell for every combination of the settings' values."""
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def run(
    study: Study,
    *,
    quick: bool = False,
    seeds: int | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Measure every cell of a study with every seed.

    Args:
        study: The study.
        quick: Whether to measure the settings of a quick study.
        seeds: Number of seeds. None uses the study's ``seeds``, or ``quick_seeds`` if ``quick`` is True.
        processes: Number of processes; 1 measures in this process.
        progress: Function that is called after each measurement, with the numbers of finished and of all
            measurements.

    Returns:
        The results, independent of the number of processes.
    """
    cells = list(study.cells(quick))
    numbers = list(range(seeds or (study.quick_seeds if quick else study.seeds)))
    tasks = [(study.measure, seed, cell) for cell in cells for seed in numbers]
    with _map(processes) as apply:
        outcomes = []
        for outcome in apply(_one, tasks):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), len(tasks))
    measured = []
    for start in range(0, len(outcomes), len(numbers)):
        of_seeds = outcomes[start : start + len(numbers)]
        measured.append({metric: np.array([one[metric] for one in of_seeds]) for metric in of_seeds[0]})
    return Results(numbers, cells, measured)


@contextmanager
def _map(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield ``map``, or a ``map`` over several processes. An exception terminates all child processes at once."""
    if processes == 1:
        yield map
        return
    # The processes are spawned, because a fork can deadlock if torch or TensorBoard has started threads.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))

    def map_in_pool(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        # After an exception, pool.map cancels its futures. A pool whose processes were terminated cannot handle
        # canceled futures.
        with signals_deferred():  # submit starts the processes
            futures = [pool.submit(function, task) for task in tasks]
        return (future.result() for future in futures)

    try:
        yield map_in_pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _one(task: tuple[Callable[..., Mapping[str, Any]], int, Cell]) -> dict[str, Floats]:
    import torch
    from threadpoolctl import threadpool_limits

    measure, seed, cell = task
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return {name: _rounded(value) for name, value in measure(seed, **cell).items()}


def _rounded(value: Any) -> Floats:
    """Round values to five significant digits, which keeps the saved file small."""
    values = np.asarray(value, dtype=np.float64)
    return np.array([float(f"{one:.{_DIGITS}g}") for one in values.ravel()]).reshape(values.shape)
