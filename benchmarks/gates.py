"""Measures which share of agents passes a curriculum's gates, by the true success rate of the agents.

Run: python benchmarks/gates.py [--learners 2000] [--output benchmarks/results/gates.json]

A gate decides when an agent enters the next stage of a curriculum. Each simulated agent succeeds in each of 500
episodes independently with a fixed probability. A success has the return 1, a failure 0. Two gates require a
success rate of 0.8: `WilsonGate` with its defaults, and `ReturnGate` with the mean return of the last 20 episodes.
`ReturnGate` uses no confidence bound.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rl_rms.envs.curricula import Episode, Gate, ReturnGate, WilsonGate

RATES = (0.5, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95)
EPISODES = 500
GATES: dict[str, Callable[[], Gate]] = {
    "WilsonGate(0.8)": lambda: WilsonGate(0.8),
    "ReturnGate(0.8, window=20)": lambda: ReturnGate(0.8, window=20),
}


def passes_at(gate: Gate, successes: np.ndarray) -> int | None:
    """Return the number of episodes after which a gate first opens, or None if the gate stays closed.

    Args:
        gate: The gate.
        successes: Success of each episode, shape ``(num_episodes,)``.
    """
    for number, success in enumerate(successes.tolist(), start=1):
        gate.record(Episode({}, float(success), 1, success, 0))
        if gate.is_open:
            return number
    return None


def measure(rate: float, make: Callable[[], Gate], learners: int) -> dict[str, float | None]:
    """Return the share of agents that pass a gate, and the median number of episodes until they pass.

    Args:
        rate: Success rate of the agents.
        make: Function that makes a closed gate.
        learners: Number of agents.
    """
    random = np.random.default_rng(0)
    passed = [passes_at(make(), random.random(EPISODES) < rate) for _ in range(learners)]
    through = [number for number in passed if number is not None]
    return {"share": len(through) / learners, "median_episode": statistics.median(through) if through else None}


def main() -> None:
    """Measure everything, then print and write the table and the raw data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, default=2_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gates.json")
    arguments = parser.parse_args()
    lines = [
        f"Share of {arguments.learners:,} simulated agents that pass a gate within {EPISODES} episodes, by their "
        "success rate. Brackets contain the median number of episodes until these agents pass.",
        "",
        f"| gate | {' | '.join(map(str, RATES))} |",
        f"|---|{'---|' * len(RATES)}",
    ]
    raw = {
        name: {str(rate): measure(rate, make, arguments.learners) for rate in RATES}
        for name, make in GATES.items()
    }
    for name, by_rate in raw.items():
        cells = [
            f"{one['share']:.3g}" + ("" if one["median_episode"] is None else f" ({one['median_episode']:.0f})")
            for one in by_rate.values()
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    print("\n".join(lines))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(raw, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
