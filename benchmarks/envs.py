"""Time per step of an environment with the wrappers of rl_rms, without them, and with wrappers of other libraries.

Run: python benchmarks/envs.py [--rounds 40] [--output benchmarks/results/envs.json]

The environment is CartPole. A step of CartPole takes little time, so the share of a wrapper in the time is large.
A group has environments of one kind, such as single environments, with different wrappers. Each round steps all
environments of a group in the same order. The added time of a wrapper is the median over rounds of the difference
between two times of the same round: with the wrapper, and without a wrapper. A slow phase of the machine usually
affects both times. Single environments receive alternating actions and are reset when an episode ends. Times are
CPU times, except for environments in worker processes, whose times are wall times.

The benchmark measures NS-Gym (Keplinger et al., 2025) if this library is installed: ``pip install ns_gym``.
"""

import argparse
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeAwareObservation, TransformReward

from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.schedules import RandomWalk, Redraw, Sinusoid

ID = "CartPole-v1"
GRAVITY = {"gravity": Sinusoid(mean=9.8, amplitude=2.0, period=20_000)}
THREE = {
    **GRAVITY,
    "masscart": RandomWalk(start=1.0, std=0.001, low=0.5, high=2.0),
    "length": Redraw(low=0.3, high=0.7, every=1_000),
}
BY_HAND, OURS = "a hand-written wrapper, one parameter drifts", "rl_rms, one parameter drifts"
Make = Callable[[], Any]


class HandWritten(gym.Wrapper[Any, Any, Any, Any]):
    """A minimal hand-written wrapper with a drifting gravity."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.clock = 0

    def step(self, action: Any) -> Any:
        """Set the gravity, then make a transition."""
        self.clock += 1
        self.env.unwrapped.gravity = 9.8 + 2.0 * math.sin(2 * math.pi * self.clock / 20_000)  # type: ignore[attr-defined]
        return self.env.step(action)


def singles() -> dict[str, Make]:
    """Functions that make single environments, by their label in the table."""
    found: dict[str, Make] = {
        "bare": lambda: gym.make(ID),
        "rl_rms, nothing changes": lambda: NonStationary(gym.make(ID)),
        OURS: lambda: NonStationary(gym.make(ID), GRAVITY),
        "rl_rms, one parameter jumps": lambda: NonStationary(gym.make(ID), {"length": THREE["length"]}),
        "rl_rms, three parameters change": lambda: NonStationary(gym.make(ID), THREE),
        "rl_rms, a curriculum": lambda: NonStationary(gym.make(ID), curriculum=Staged([{"length": 0.5}], 500)),
        "rl_rms, observation offset drifts": lambda: NonStationary(
            gym.make(ID), {"observation.offset": GRAVITY["gravity"]}
        ),
        BY_HAND: lambda: HandWritten(gym.make(ID)),
        "gymnasium's TransformReward": lambda: TransformReward(gym.make(ID), float),
        "gymnasium's TimeAwareObservation": lambda: TimeAwareObservation(gym.make(ID)),
    }
    if find_spec("ns_gym") is None:
        print("NS-Gym is not installed, so it is not measured. To install it, run: pip install ns_gym")
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ns_gym.schedulers import ContinuousScheduler
        from ns_gym.update_functions import RandomWalk as TheirRandomWalk
        from ns_gym.wrappers import NSClassicControlWrapper
    return {
        **found,
        "NS-Gym, nothing changes": lambda: NSClassicControlWrapper(gym.make(ID), {}),
        "NS-Gym, one parameter drifts": lambda: NSClassicControlWrapper(
            gym.make(ID), {"masspole": TheirRandomWalk(ContinuousScheduler(), sigma=1e-5)}
        ),
    }


def vectors(num_envs: int, mode: str) -> dict[str, Make]:
    """Functions that make vector environments, by their label in the table."""
    how: Mapping[str, Any] = {"vectorization_mode": mode}
    return {
        "bare": lambda: gym.make_vec(ID, num_envs, **how),
        "rl_rms, nothing changes": lambda: make_vec(ID, num_envs, **how),
        OURS: lambda: make_vec(ID, num_envs, GRAVITY, **how),
        "rl_rms, three parameters change": lambda: make_vec(ID, num_envs, THREE, **how),
        "rl_rms, one drifts, by phases": lambda: make_vec(ID, num_envs, GRAVITY, sharing="phase", **how),
        "rl_rms, one drifts, independent": lambda: make_vec(ID, num_envs, GRAVITY, sharing="independent", **how),
    }


def step_single(env: Any, steps: int, clock: Callable[[], float]) -> float:
    """Measure the microseconds per step."""
    step = env.step
    begun = clock()
    for number in range(steps):
        _, _, terminated, truncated, _ = step(number % 2)
        if terminated or truncated:
            env.reset()
    return 1e6 * (clock() - begun) / steps


def step_vector(env: Any, steps: int, clock: Callable[[], float]) -> float:
    """Measure the microseconds per vector step."""
    step, actions = env.step, np.arange(env.num_envs) % 2
    begun = clock()
    for _ in range(steps):
        step(actions)
    return 1e6 * (clock() - begun) / steps


def measure(
    makes: Mapping[str, Make],
    step: Callable[[Any, int, Callable[[], float]], float],
    rounds: int,
    steps: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Measure the microseconds per step of each contender in each round, after a round of warm-up."""
    envs = {name: make() for name, make in makes.items()}
    for env in envs.values():
        env.reset(seed=0)
        step(env, steps, clock)
    microseconds: dict[str, list[float]] = {name: [] for name in envs}
    for _ in range(rounds):
        for name, env in envs.items():
            microseconds[name].append(step(env, steps, clock))
    for env in envs.values():
        env.close()
    return microseconds


def table(group: str, microseconds: Mapping[str, list[float]]) -> list[str]:
    """Make table rows with the median time, and the added time in microseconds (with quartiles) and percent."""
    bare = microseconds["bare"]
    rows = []
    for name, taken in microseconds.items():
        added = [one - without for one, without in zip(taken, bare, strict=True)]
        low, middle, high = statistics.quantiles(added, n=4)
        share = statistics.median(one / without - 1 for one, without in zip(taken, bare, strict=True))
        cells = [group, name, f"{statistics.median(taken):.1f}"]
        cells += ["", ""] if name == "bare" else [f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{share:.1%}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def ratio_to_hand_written(microseconds: Mapping[str, list[float]]) -> float:
    """Divide the added time of one drifting parameter in rl_rms by the added time of the hand-written wrapper.

    Both added times are differences of the lowest deciles, because other processes affect these least.
    """
    low = {name: statistics.quantiles(microseconds[name], n=10)[0] for name in ("bare", BY_HAND, OURS)}
    return (low[OURS] - low["bare"]) / (low[BY_HAND] - low["bare"])


def groups(quick: bool) -> dict[str, tuple[Mapping[str, Make], Any, int, Callable[[], float]]]:
    """Return the contenders, the stepping function, the steps per round and the clock of each group."""
    if quick:
        return {
            "single": (singles(), step_single, 20, time.process_time),
            "native, 4": (vectors(4, "vector_entry_point"), step_vector, 5, time.process_time),
        }
    return {
        "single": (singles(), step_single, 3_000, time.process_time),
        **{
            f"native, {n}": (vectors(n, "vector_entry_point"), step_vector, 400, time.process_time)
            for n in (8, 64, 256)
        },
        "sync, 8": (vectors(8, "sync"), step_vector, 200, time.process_time),
        "async, 4": (vectors(4, "async"), step_vector, 200, time.perf_counter),
    }


def main() -> None:
    """Measure everything, then print and write the table and the raw data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="test this script with a few steps")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "envs.json")
    arguments = parser.parse_args()
    lines = [
        "Microseconds per step of an environment or of a vector environment. "
        f"Medians of {arguments.rounds} rounds.",
        "",
        "| CartPole | around it | microseconds | added (quartiles) | added |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    raw = {}
    for group, (makes, step, steps, clock) in groups(arguments.quick).items():
        raw[group] = measure(makes, step, arguments.rounds, steps, clock)
        rows = table(group, raw[group])
        print("\n".join(rows), flush=True)
        lines += rows
        if BY_HAND in raw[group]:
            ratio = ratio_to_hand_written(raw[group])
    lines += [
        "",
        f"One drifting parameter in rl_rms adds {ratio:.2f} times as much time as in the hand-written wrapper, by "
        "the lowest deciles of the times.",
    ]
    print(lines[-1])
    packages = ["gymnasium", "numpy", *(["ns_gym"] if find_spec("ns_gym") else [])]
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    lines += [
        "",
        f"Versions: {', '.join(f'{name} {one}' for name, one in versions.items())}; {platform.machine()}.",
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    rounded = {
        group: {name: [round(one, 3) for one in taken] for name, taken in each.items()}
        for group, each in raw.items()
    }
    arguments.output.write_text(json.dumps({"versions": versions, "microseconds": rounded}) + "\n")
    arguments.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
