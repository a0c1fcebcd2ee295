"""Trains with many seeds and learning rates, records the scores and finds the best learning rate.

The env steps of a training run are divided into five regimes of eight bins. The environment changes between two
regimes, and each bin has one score.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl_rms.agents.rollout import Episode

NUM_BINS, BINS_IN_REGIME = 40, 8
NUM_ENVS = 16
SWEEP_SEEDS = (1_000, 1_001, 1_002)
SEEDS = tuple(range(10))
STRETCHES = ("whole life", "after changes", "late")
_MOST_RATES = 9

Floats = NDArray[np.float64]
Train = Callable[[str, str, float, int], list[float]]


def bin_scores(
    episodes: Iterable[Episode], score: Callable[[Episode], float], bin: int, count: int
) -> list[float]:
    """Compute the mean score of the episodes that ended in each bin.

    Args:
        episodes: Episodes with the env steps at which they ended.
        score: Function that computes the score of an episode.
        bin: Number of env steps of a bin.
        count: Number of bins; later episodes count in the last bin.

    Returns:
        Scores with one decimal. A bin in which no episode ended has the score of the previous bin. At the start,
        such a bin has the score of the next bin in which an episode ended.
    """
    inside: list[list[float]] = [[] for _ in range(count)]
    for episode in episodes:
        inside[min((episode.num_timesteps - 1) // bin, count - 1)].append(score(episode))
    last = next((statistics.fmean(one) for one in inside if one), 0.0)
    scores = []
    for one in inside:
        last = statistics.fmean(one) if one else last
        scores.append(round(last, 1))
    return scores


class Records:
    """Finished training runs in a file, one per line: task, contender, rate, seed, scores and CPU seconds.

    Args:
        path: The file, which may be missing.
        train: Function that trains a contender on a task with a rate and a seed, and returns the scores.
    """

    def __init__(self, path: Path, train: Train) -> None:
        self._path = path
        self._train = train
        self.scores: dict[tuple[str, str, float, int], list[float]] = {}
        self.seconds: dict[tuple[str, str, float, int], float] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                task, contender, rate, seed, scores, *seconds = json.loads(line)
                key = (task, contender, rate, seed)
                self.scores[key] = scores
                if seconds:
                    self.seconds[key] = seconds[0]

    def get(self, task: str, contender: str, rate: float, seed: int) -> list[float]:
        """Return the scores of a training run. If the file does not contain the scores, train first."""
        key = (task, contender, rate, seed)
        if key not in self.scores:
            began = time.process_time()
            self.scores[key] = self._train(*key)
            self.seconds[key] = round(time.process_time() - began, 1)
            line = json.dumps([*key, self.scores[key], self.seconds[key]], separators=(",", ":")) + "\n"
            with self._path.open("a") as file:
                file.write(line)  # a single write, so that lines of several processes do not mix
        return self.scores[key]

    def mean(self, task: str, contender: str, rate: float, seeds: tuple[int, ...]) -> float:
        """Compute the mean score over the whole training run and over seeds."""
        return statistics.fmean(statistics.fmean(self.get(task, contender, rate, seed)) for seed in seeds)


def climb(score: Callable[[float], float], start: float, factor: float) -> float:
    """Find a learning rate whose two neighbors have no higher score, rounded to six significant digits.

    After nine tried rates, the search ends with the best of these rates.

    Args:
        score: Function that returns the score of a rate.
        start: First rate.
        factor: Ratio between neighboring rates.
    """
    tried: dict[int, float] = {}

    def rate(power: int) -> float:
        return float(f"{start * factor**power:.6g}")

    def at(power: int) -> float:
        if power not in tried:
            tried[power] = score(rate(power))
        return tried[power]

    best = 0
    while len(tried) < _MOST_RATES:
        better = max((best, best - 1, best + 1), key=at)
        if better == best:
            break
        best = better
    return rate(best)


def stretches(scores: Floats) -> dict[str, Floats]:
    """Compute mean scores ``(seeds,)`` in each part of the training, from scores of shape ``(seeds, bins)``.

    The first quarter of every regime but the first is ``after changes``, the last quarter of every regime is
    ``late``.
    """
    regimes = scores.reshape(len(scores), -1, BINS_IN_REGIME)  # (seeds, regimes, bins of a regime)
    quarter = regimes.shape[2] // 4
    return {
        "whole life": scores.mean(1),
        "after changes": regimes[:, 1:, :quarter].mean((1, 2)),
        "late": regimes[:, :, -quarter:].mean((1, 2)),
    }


def best_rates(records: Records) -> dict[str, dict[str, tuple[float, Floats]]]:
    """Return the best learning rate at which all seeds are trained, and its scores, by task and contender."""
    found: dict[tuple[str, str], dict[float, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for (task, contender, rate, seed), scores in records.scores.items():
        if seed in SEEDS:
            found[task, contender][rate][seed] = scores
    best: dict[str, dict[str, tuple[float, Floats]]] = defaultdict(dict)
    for (task, contender), rates in found.items():
        whole = {
            rate: np.array([seeds[seed] for seed in SEEDS])
            for rate, seeds in rates.items()
            if len(seeds) == len(SEEDS)
        }
        if whole:
            rate = max(whole, key=lambda one: whole[one].mean())
            best[task][contender] = rate, whole[rate]
    return best


def bootstrap(differences: Floats) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the mean of differences, ``(seeds,)``."""
    drawn = np.random.default_rng(0).choice(differences, (10_000, len(differences)))
    low, high = np.percentile(drawn.mean(1), [2.5, 97.5])
    return float(low), float(high)


def ratio(pairs: Mapping[str, tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Geometric mean over tasks of the ratio of two contenders' mean scores, and its 95 % interval.

    The bootstrap draws seeds for each task separately. A drawn seed keeps the scores of both contenders. Mean
    scores below 1 count as 1.

    Args:
        pairs: Scores of both contenders by task, each of shape ``(seeds,)``.
    """
    rng = np.random.default_rng(0)
    point, logs = 0.0, np.zeros(10_000)
    for ours, theirs in pairs.values():
        drawn = rng.integers(len(ours), size=(10_000, len(ours)))
        logs += _log_mean(ours[drawn]) - _log_mean(theirs[drawn])
        point += float(_log_mean(ours) - _log_mean(theirs))
    middle, low, high = np.exp(np.array([point, *np.percentile(logs, [2.5, 97.5])]) / len(pairs)).tolist()
    return middle, low, high


def _log_mean(scores: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(scores.mean(-1), 1.0)))


def run_or_report(
    doc: str | None,
    tasks: Iterable[str],
    contenders: Iterable[str],
    run: Callable[[list[str], list[str], int], None],
    report: Callable[[], None],
) -> None:
    """Parse the command line of a benchmark, and run its command ``run`` or ``report``.

    Args:
        doc: The benchmark's docstring, for ``--help``.
        tasks: Names of all tasks.
        contenders: Names of all contenders.
        run: Function that trains the chosen contenders on the chosen tasks in several processes.
        report: Function that writes the tables and the figures.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--tasks", nargs="*", choices=list(tasks), default=list(tasks))
    parser.add_argument("--contenders", nargs="*", choices=list(contenders), default=list(contenders))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.tasks, arguments.contenders, arguments.processes)
    else:
        report()
