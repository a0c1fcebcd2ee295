"""A study that is measured instantly, for tests."""

import numpy as np

from rl_rms.studies.frame import Study, Table, Verdict, grid


def measure(seed, by, size):
    """A known number, a known curve and nan for every seed and cell."""
    return {"number": size * (seed + 1) / 3, "curve": [size, size + seed], "unknown": np.nan}


def draw(results, figure):
    figure.subplots().plot(results.levels("size"))


LINE = Study(
    name="line",
    claim="c",
    mechanism="m",
    setup="s",
    caveat="v",
    cells=lambda quick: grid(by=["a", "b"], size=[1.0] if quick else [1.0, 2.0]),
    measure=measure,
    tables=lambda results: [
        Table(["", "mean"], [["a", str(results.estimate("number", by="a", size=1.0))]]),
        Table(["", "seeds"], [["all", str(len(results.seeds))]]),
    ],
    verdict=lambda results: Verdict("conditional", "The mean is 1.", "if lines are long"),
    draw=draw,
    seeds=4,
    quick_seeds=2,
)
