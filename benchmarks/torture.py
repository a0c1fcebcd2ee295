"""Injects faults into training runs and files, and counts the faults that were survived or lost.

Run: python benchmarks/torture.py [KIND ...]; or make torture

A fault is lost if rl_rms does not handle it. Each module of benchmarks/faults injects one kind of faults, and
defines which of them count as lost. The command injects the named kinds, or all kinds. The command replaces their
counts in benchmarks/results/torture.json, and writes benchmarks/results/torture.md.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from faults import checkpoints, environments, numbers, processes

TABLE = Path(__file__).parent / "results" / "torture.md"
KINDS = {one.__name__.rpartition(".")[2]: one for one in (checkpoints, numbers, environments, processes)}


def table(found: dict[str, list[list[Any]]]) -> str:
    """Format the counts of each kind as Markdown."""
    lines = [
        "# Faults",
        "",
        "`python benchmarks/torture.py` injects the faults. A fault is lost if rl_rms does not handle it. The "
        "modules in `benchmarks/faults` define this for each fault. In the rows of SIGKILL and of SIGINT, the "
        "training is resumed after each signal, or started again if it has no checkpoint. Its last checkpoint is "
        "bit-identical to the last checkpoint of an uninterrupted training run.",
        "",
        "| fault | injected | survived | lost |",
        "|---|---:|---:|---:|",
    ]
    for kind in KINDS:
        for fault, injected, lost in found[kind]:
            lines.append(f"| {fault} | {injected:,} | {injected - lost:,} | {lost:,} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Inject the faults and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"from {', '.join(KINDS)} (default: all)")
    kinds = parser.parse_args().kinds or list(KINDS)
    unknown = sorted(set(kinds) - KINDS.keys())
    if unknown:
        parser.error(f"KIND must be one of {', '.join(KINDS)}, got {unknown[0]!r}")
    written = TABLE.with_suffix(".json")
    found = json.loads(written.read_text())
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = []
            for one in KINDS[kind].counts(Path(folder)):
                found[kind].append(list(one))
                print(one, flush=True)
        written.write_text(json.dumps(found, indent=1) + "\n")
        TABLE.write_text(table(found))


if __name__ == "__main__":
    main()
