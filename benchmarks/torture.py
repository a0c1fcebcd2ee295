"""Faults put in on purpose, and what became of the work: injected, survived, lost.

Run: python benchmarks/torture.py; or make torture

Each module of benchmarks/faults has some of them, and says what counts as lost.
"""

import argparse
import tempfile
from pathlib import Path

from faults import checkpoints, environments, numbers, processes

TABLE = Path(__file__).parent / "results" / "torture.md"
KINDS = (checkpoints, numbers, environments, processes)


def main() -> None:
    """Put in all faults and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lines = [
        "# Faults",
        "",
        "`python benchmarks/torture.py`; the last checkpoint of the training that was killed is that of one that "
        "was not, to the bit.",
        "",
        "| fault | injected | survived | lost |",
        "|---|---:|---:|---:|",
    ]
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            for one in kind.counts(Path(folder)):
                lines.append(f"| {one.fault} | {one.injected:,} | {one.injected - one.lost:,} | {one.lost:,} |")
                print(lines[-1], flush=True)
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
