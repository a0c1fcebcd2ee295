"""Tracking error of second moments on gradients with a known, changing variance.

Run: python benchmarks/tracking.py [--seeds 5] [--streams NAME ...] [--output benchmarks/results/tracking.json]

A stream has 64 coordinates of independent gradients with mean 0 over 6000 updates. The error is the
Kullback-Leibler divergence ``1/2 [sigma**2/v - 1 - ln(sigma**2/v)]`` from the true variance sigma**2 to v in nats,
averaged over coordinates and over updates after the 100th. v is bias-corrected. v includes the present gradient,
except in "g left out" and AdaShift. The table shows the error divided by the error of the best fixed half-life for
the same stream and seed. The fixed half-lives are the powers of sqrt(2) from 1 to 16384. The 95 % intervals are
Student's t intervals over seeds.

Some contenders get information on the changes. `match` gets the timescale, the rule `h = T` (half-life =
timescale) gets the dwell time or the period, and AdamRel gets the time of every change. Estimators have the bounds
(1, 1e6), or their default bounds (32, 10,000) if the name ends with "floor 32". `penalized`, `restart` and
`progress` are former candidates for "auto" that are no longer in the library. The results keep earlier
measurements of these three candidates on the same streams.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rivals  # in this folder
import torch
from numpy.typing import NDArray

from rl_rms.laws import LN2
from rl_rms.optim.bank import Bank
from rl_rms.optim.estimators import HalfLifeEstimator
from rl_rms.optim.matched import Matched

Array = NDArray[np.float64]
WIDE, DEFAULT = (1.0, 1e6), (32.0, 10_000.0)
GRID = [2.0 ** (power / 2) for power in range(29)]
FIRST_SCORED = 100
RETIRED = ("penalized", "restart", "progress")


@dataclass(frozen=True)
class Stream:
    """A stream of gradients whose scale changes or stays constant.

    Attributes:
        log_variance: Function of generator, updates and coordinates that returns ``ln sigma**2``, shape (updates,
            coordinates).
        timescale: Autocorrelation time in updates, for `match`.
        period: Dwell time or period in updates, for the rule h = T; None if this rule is not measured.
        common_jumps: Whether the variances of all coordinates jump at the same updates.
        student: Whether gradients have Student's t distribution with 4 degrees of freedom instead of a Gaussian.
    """

    log_variance: Callable[[np.random.Generator, int, int], Array]
    timescale: float
    period: float | None = None
    common_jumps: bool = False
    student: bool = False


def jumps(ratio: float, dwell: float, *, common: bool = True) -> Callable[[np.random.Generator, int, int], Array]:
    """Switch the variance between two levels at random updates."""

    def log_variance(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
        switches = rng.random((updates, 1 if common else coordinates)) < 1.0 / dwell
        upper = (np.cumsum(switches, axis=0) + rng.integers(2, size=switches.shape[1])) % 2
        return np.broadcast_to((upper - 0.5) * math.log(ratio), (updates, coordinates))

    return log_variance


def sinusoid(ratio: float, period: float) -> Callable[[np.random.Generator, int, int], Array]:
    """Let the logarithm of the variance oscillate, with all coordinates in phase."""

    def log_variance(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
        phase = 2.0 * math.pi * (np.arange(updates) / period + rng.random())
        return np.broadcast_to(0.5 * math.log(ratio) * np.sin(phase)[:, None], (updates, coordinates))

    return log_variance


def ramp(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
    """Let the variance grow by the same factor in every update, and by the factor 25 in total."""
    return np.broadcast_to(np.linspace(0.0, math.log(25.0), updates)[:, None], (updates, coordinates))


def bursts(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
    """Multiply the variance by 100 for five updates. A burst begins once in 200 updates on average."""
    start = (rng.random(updates) < 1 / 200).astype(float)
    return np.broadcast_to(
        (np.convolve(start, np.ones(5))[:updates, None] > 0) * math.log(100.0), (updates, coordinates)
    )


def stationary(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
    """Keep the variance constant."""
    return np.zeros((updates, coordinates))


def switch(rng: np.random.Generator, updates: int, coordinates: int) -> Array:
    """Keep the variance constant in the first half, and let it jump with dwell time 100 in the second half."""
    log_variance = jumps(25.0, 100.0)(rng, updates, coordinates).copy()
    log_variance[: updates // 2] = 0.0
    return log_variance


STREAMS: dict[str, Stream] = {
    "stationary": Stream(stationary, math.inf),
    **{
        f"jumps {dwell}" + (f", R={ratio}" if ratio != 25 else ""): Stream(
            jumps(ratio, dwell), dwell / 2, dwell, True
        )
        for ratio in (25, 4, 100)
        for dwell in (20, 100, 1000)
    },
    **{f"independent jumps {d}": Stream(jumps(25, d, common=False), d / 2, d) for d in (100, 1000)},
    **{f"sinusoid {p}": Stream(sinusoid(25, p), p / (2 * math.pi), p) for p in (100, 600, 1000)},
    "ramp": Stream(ramp, 6000.0),
    **{f"heavy tails, jumps {d}": Stream(jumps(25, d), d / 2, d, True, True) for d in (100, 1000)},
    "bursts": Stream(bursts, 5.0),
    "stationary, then jumps 100": Stream(switch, 50.0, 100, True),
}

RIVALS: dict[str, Callable[[], rivals.Rival]] = {
    "g left out, rho=0.99": rivals.LeftOut,
    "Kourkoutas-beta": rivals.Kourkoutas,
    "AdaSmooth": rivals.AdaSmooth,
    "vSGD": rivals.VSGD,
    "Adafactor": rivals.Adafactor,
    "hypergradient": rivals.Hypergradient,
    "AMSGrad": rivals.AMSGrad,
    "AdaShift": rivals.AdaShift,
    "scale x shape": rivals.ScaleShape,
    "scale x shape bank": rivals.ScaleShapeBank,
}


def make(stream: Stream, seeds: int, updates: int, coordinates: int) -> tuple[Array, Array]:
    """Make true variances and gradients, each of shape (updates, seeds, coordinates).

    Every coordinate has its own base variance with a normally distributed logarithm.
    """
    variances, gradients = [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        base = rng.normal(0.0, 2.0, coordinates)
        variance = np.exp(base + stream.log_variance(rng, updates, coordinates))
        shape = (updates, coordinates)
        noise = rng.standard_t(4, shape) / math.sqrt(2.0) if stream.student else rng.standard_normal(shape)
        variances.append(variance)
        gradients.append(np.sqrt(variance) * noise)
    return np.stack(variances, 1), np.stack(gradients, 1)


def divergence(variance: Array, v: Array) -> Array:
    """Compute the Kullback-Leibler divergence in nats, averaged over the last axis."""
    ratio = variance / v
    result: Array = 0.5 * (ratio - 1.0 - np.log(ratio)).mean(-1)
    return result


def half_lives(make_estimator: Callable[[], HalfLifeEstimator], gradients: Array, timescale: float) -> Array:
    """Compute the half-lives of an estimator with wide and with default bounds, shape (2, updates, seeds)."""
    updates, seeds, _ = gradients.shape
    chosen = np.empty((2, updates, seeds))
    for seed in range(seeds):
        estimator = make_estimator()
        estimator.timescale = timescale
        probes = torch.from_numpy(gradients[:, seed, : estimator.num_probes].astype(np.float32))
        for start in range(0, updates, estimator.block):
            for row, bounds in enumerate((DEFAULT, WIDE)):
                estimator.bounds = bounds
                chosen[1 - row, start : start + estimator.block, seed] = estimator.half_life
            if start + estimator.block <= updates:
                estimator.observe(probes[start : start + estimator.block])
    return chosen


def errors_of_half_lives(chosen: Array, variances: Array, gradients: Array) -> Array:
    """Compute errors (contenders, seeds) of averages with half-lives ``chosen`` (contenders, updates, seeds)."""
    gains = -np.expm1(-LN2 / chosen)[..., None]
    average, total = rivals.Average(), np.zeros((len(chosen), gradients.shape[1]))
    for t, g in enumerate(gradients):
        v = average.step(g * g, gains[:, t])
        if t >= FIRST_SCORED:
            total += divergence(variances[t], v)
    return total / (len(gradients) - FIRST_SCORED)


def error_of_rival(rival: rivals.Rival, variances: Array, gradients: Array) -> Array:
    """Compute the errors of an average of `benchmarks/rivals.py`, shape (seeds,)."""
    total = np.zeros(gradients.shape[1])
    for t, g in enumerate(gradients):
        v = rival.step(g)
        if t >= FIRST_SCORED:
            total += divergence(variances[t], v)
    return total / (len(gradients) - FIRST_SCORED)


def measure(stream: Stream, seeds: int, updates: int = 6000, coordinates: int = 64) -> dict[str, Any]:
    """Measure the errors and half-lives of every contender on one stream, by seed."""
    variances, gradients = make(stream, seeds, updates, coordinates)
    chosen: dict[str, Array] = {}
    for rho in (0.9, 0.99, 0.999):
        chosen[f"rho={rho}"] = np.full((updates, seeds), -LN2 / math.log(rho))
    if stream.period is not None:
        chosen["h = T"] = np.full((updates, seeds), float(stream.period))
    for name, make_estimator in {"match": Matched, "bank": Bank}.items():
        wide, floor = half_lives(make_estimator, gradients, stream.timescale)
        chosen[name], chosen[f"{name}, floor 32"] = wide, floor
    grid = np.broadcast_to(np.array(GRID)[:, None, None], (len(GRID), updates, seeds))
    errors = errors_of_half_lives(np.concatenate([grid, np.stack(list(chosen.values()))]), variances, gradients)
    fixed, found = errors[: len(GRID)], errors[len(GRID) :]
    of_contender = dict(zip(chosen, found, strict=True))
    for name, make_rival in RIVALS.items():
        of_contender[name] = error_of_rival(make_rival(), variances, gradients)
    if stream.common_jumps:
        changed = np.diff(np.log(variances[:, :, :1]), axis=0, prepend=np.log(variances[:1, :, :1])) != 0
        of_contender["AdamRel, told of changes"] = error_of_rival(rivals.AdamRel(changed), variances, gradients)
    best = fixed.min(0)
    return {
        "best_half_life": [GRID[index] for index in fixed.argmin(0)],
        "best_error": best.tolist(),
        "ratio": {name: (error / best).tolist() for name, error in of_contender.items()},
        "median_half_life": {
            name: np.median(values[updates // 2 :], axis=0).tolist() for name, values in chosen.items()
        },
    }


# 97.5 % quantiles of Student's t, by degrees of freedom, for small numbers of seeds.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def mean_and_margin(values: list[float]) -> tuple[float, float]:
    """Compute the mean over seeds and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], math.inf
    quantile = STUDENT.get(len(values) - 1, 2.26)
    return statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))


def table(results: dict[str, dict[str, Any]]) -> str:
    """Format the mean ratios and margins as Markdown, with a row per contender and a column per stream."""
    streams = list(results)
    contenders = list(dict.fromkeys(name for result in results.values() for name in result["ratio"]))
    lines = ["| contender | " + " | ".join(streams) + " |", "|---" * (len(streams) + 1) + "|"]
    best = [statistics.median(results[stream]["best_half_life"]) for stream in streams]
    lines.append("| *best fixed half-life* | " + " | ".join(f"{h:.3g}" for h in best) + " |")
    nats = [statistics.fmean(results[stream]["best_error"]) for stream in streams]
    lines.append("| *its error in nats* | " + " | ".join(f"{error:.2g}" for error in nats) + " |")
    for name in contenders:
        cells = []
        for stream in streams:
            ratios = results[stream]["ratio"].get(name)
            cells.append("-" if ratios is None else "{:.2f} ± {:.2f}".format(*mean_and_margin(ratios)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in ("match", "bank"):
        shares = []
        for stream in streams:
            pairs = zip(results[stream]["median_half_life"][name], results[stream]["best_half_life"], strict=True)
            shares.append(f"{statistics.fmean(h / best for h, best in pairs):.3g}")
        lines.append(f"| *half-life of {name} / best* | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def keep_retired(results: dict[str, dict[str, Any]], earlier: dict[str, Any], sizes: dict[str, int]) -> None:
    """Add earlier measurements of retired candidates, if the earlier streams have the same sizes.

    Args:
        results: Results by stream, which are changed.
        earlier: Contents of the earlier file; empty if there is no earlier file.
        sizes: Seeds, updates and coordinates of the present streams.
    """
    if {key: earlier.get(key) for key in sizes} != sizes:
        return
    for stream, result in results.items():
        for name, ratios in earlier["streams"].get(stream, {"ratio": {}})["ratio"].items():
            if name.split(",")[0] in RETIRED:
                result["ratio"][name] = ratios


def rounded(value: Any) -> Any:
    """Round every number to four significant digits, for a small file."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}")


def main() -> None:
    """Measure every stream, print the table, and write the table and the results by seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="run 800 updates of 24 coordinates, as a test")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "tracking.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = {"updates": 800, "coordinates": 24} if arguments.quick else {"updates": 6000, "coordinates": 64}
    results = {}
    for name in arguments.streams:
        results[name] = measure(STREAMS[name], arguments.seeds, **size)
        print(table({name: results[name]}), flush=True)
    sizes = {"seeds": arguments.seeds, **size}
    if arguments.output.exists():
        keep_retired(results, json.loads(arguments.output.read_text()), sizes)
    text = (
        "The table has the Kullback-Leibler error of v, divided by the error of the best fixed half-life. A ratio "
        f"below 1 is better than every fixed half-life. The streams have {arguments.seeds} seeds, "
        f"{size['coordinates']} coordinates and {size['updates']} updates. Jumps, sinusoids and the ramp change "
        "the variance by the factor R = 25 unless the column says otherwise, and bursts by the factor 100. A cell "
        "shows the mean ± half the width of the 95 % interval. `benchmarks/tracking.py` describes the "
        "contenders.\n\n"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = {**sizes, "streams": rounded(results)}
    arguments.output.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    arguments.output.with_suffix(".md").write_text(text + table(results) + "\n")


if __name__ == "__main__":
    main()
