"""Writes a study's page, figure, data and TensorBoard events, and reads the data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rl_rms.agents import files
from rl_rms.studies.drawing import figure_bytes
from rl_rms.studies.frame import Results, Study, Table, Verdict
from rl_rms.studies.intervals import interquartile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Finding:
    """The tables and the verdict of a study.

    Attributes:
        study: The study.
        results: Results of the study.
        tables: One or more tables.
        verdict: The verdict.
    """

    study: Study
    results: Results
    tables: Sequence[Table]
    verdict: Verdict

    @classmethod
    def of(cls, study: Study, results: Results) -> "Finding":
        """Compute tables and verdict from the results."""
        return cls(study, results, study.tables(results), study.verdict(results))

    def to_markdown(self) -> str:
        """Format the study's page as Markdown."""
        study = self.study
        return f"""# {study.name}

**Claim.** {study.claim}

**In the library.** {study.mechanism}

**Experiment.** {study.setup}

![{study.name}]({study.name}.png)

{self.tables_to_markdown()}

**Verdict.** {self.verdict}

**Limits.** {study.caveat}

The study used {len(self.results.seeds)} seeds. `rl-rms study {study.name}` repeats the study. The raw data are in
[{study.name}.json]({study.name}.json). Numbers are interquartile means over seeds,
and brackets contain 95 % bootstrap intervals, unless the page says otherwise.
"""

    def tables_to_markdown(self) -> str:
        """All tables in Markdown."""
        return "\n\n".join(table.to_markdown() for table in self.tables)


def write(finding: Finding, folder: Path, *, events: Path | None = None) -> Path:
    """Write a study's page ``NAME.md``, its figure and its data, and on request TensorBoard events.

    Args:
        finding: The study's tables and verdict.
        folder: Output folder; created if missing.
        events: Folder for TensorBoard events; None writes no events.

    Returns:
        The page's path.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    study, results = finding.study, finding.results
    data = {
        "study": study.name,
        "seeds": len(results.seeds),
        "cells": [
            {**cell, "measured": {metric: values.tolist() for metric, values in of_cell.items()}}
            for cell, of_cell in zip(results.cells, results.measured, strict=True)
        ],
    }
    files.write(folder / f"{study.name}.json", json.dumps(data, separators=(",", ":")) + "\n")
    figure = Figure(figsize=study.size, layout="constrained")
    with rc_context({"axes.titlesize": 9, "axes.titlelocation": "left", "legend.fontsize": 7}):
        study.draw(results, figure)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    files.write(folder / f"{study.name}.png", figure_bytes(figure, "png", dpi=120))
    page = folder / f"{study.name}.md"
    files.write(page, finding.to_markdown())
    if events is not None:
        _write_events(finding, events, figure)
    return page


def read(study: Study, folder: Path) -> Results:
    """Read the results that `write` saved."""
    data = json.loads((folder / f"{study.name}.json").read_text())
    cells = [{key: value for key, value in cell.items() if key != "measured"} for cell in data["cells"]]
    measured = [
        {metric: np.array(values) for metric, values in cell["measured"].items()} for cell in data["cells"]
    ]
    return Results(list(range(data["seeds"])), cells, measured)


def _write_events(finding: Finding, folder: Path, figure: "Figure") -> None:
    """Write one TensorBoard run for each cell, and one run with verdict, tables and figure."""
    from torch.utils.tensorboard import SummaryWriter

    study, results = finding.study, finding.results
    with SummaryWriter(folder / study.name) as writer:
        writer.add_text("verdict", str(finding.verdict))
        writer.add_text("tables", finding.tables_to_markdown())
        writer.add_figure("figure", figure)
    for cell, measured in zip(results.cells, results.measured, strict=True):
        label = ",".join(f"{key}={value}" for key, value in cell.items()) or "all"
        with SummaryWriter(folder / study.name / label.replace("/", "|").replace(" ", "_")) as writer:
            for metric, values in measured.items():
                flat = values.reshape(len(values), -1)
                for step in range(flat.shape[1]):
                    if np.isfinite(flat[:, step]).all():
                        writer.add_scalar(f"{study.name}/{metric}", interquartile(flat[:, step]), step)
