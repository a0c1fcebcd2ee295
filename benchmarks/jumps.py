"""False alarms and delays of the jump detector, and of a rule with three standard deviations.

Run: python benchmarks/jumps.py [--steps 320000] [--seeds 4] [--processes 2]

The benchmark writes benchmarks/results/jumps.json and benchmarks/results/jumps.md. False alarms are detected jumps
in the observations of 16 sub-environments that do not change. In half of the env steps without changes, A2C keeps
its random initial policy. In the other half of these env steps, A2C learns. The benchmark also splits these
observations into groups of four sub-environments and of one sub-environment, and counts the false alarms in all
groups. Delays are measured while A2C learns the task "observation offsets" of benchmarks/half_life.py in 16
sub-environments.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_rms.agents import A2C
from rl_rms.agents.config_parts import NormalizerConfig
from rl_rms.agents.jumps import JumpDetector
from rl_rms.agents.learner import RolloutTotals
from rl_rms.agents.moments import RunningMeanVariance, Weighting
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Redraw

RESULTS = Path(__file__).parent / "results"
NUM_ENVS, REGIME = 16, 40_000
AGENTS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"learning_rate": 2e-3, "n_steps": 8},
    "Pendulum-v1": {"learning_rate": 2e-3, "n_steps": 8, "gamma": 0.9},
    "LunarLander-v3": {"learning_rate": 2e-3, "n_steps": 8, "gamma": 0.999},
    "Hopper-v5": {"learning_rate": 1e-3, "n_steps": 16},
}
CHANGES = {"observation.offset": Redraw(low=-1.0, high=1.0, every=REGIME)}
RULES = ("simple", "detector")
# Number of sub-environments, and vector steps of a rollout.
SHAPES = ((1, 5), (1, 128), (4, 5), (4, 64), (16, 1), (16, 5), (16, 16), (16, 128))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """The observations of a training run.

    Attributes:
        observations: Shape ``(num_steps, num_envs, size)``.
        valid: Whether the agent acted on an observation, shape ``(num_steps, num_envs)``.
    """

    observations: Floats
    valid: NDArray[np.bool_]

    def moments(self, columns: slice, n_steps: int) -> Iterator[tuple[int, RunningMeanVariance, Weighting]]:
        """Yield for each rollout the number of earlier env steps, and the moments of the rollout's observations.

        The third yielded value is the weighting of the moments.
        """
        valid, values = self.valid[:, columns], self.observations[:, columns]
        num_steps, num_envs = len(valid) // n_steps * n_steps, valid.shape[1]
        weights = valid[:num_steps].reshape(-1, n_steps * num_envs, 1).astype(np.float64)
        rows = values[:num_steps].reshape(len(weights), n_steps * num_envs, -1)
        counts = weights.sum(1)
        means = (rows * weights).sum(1) / np.maximum(counts, 1.0)
        variances = (np.square(rows - means[:, None]) * weights).sum(1) / np.maximum(counts, 1.0)
        before = 0
        for count, mean, variance in zip(counts[:, 0].tolist(), means, variances, strict=True):
            moments = RunningMeanVariance(mean.shape)
            moments.weight, moments.mean, moments.variance = count, mean, variance
            yield before, moments, Weighting(np.empty(0), 1.0, n_steps, num_envs, 0.0)
            before += int(count)


def record(env_id: str, seed: int, steps: int, changes: Mapping[str, Any], *, learns: bool) -> Stream:
    """Record the observations of A2C, with a learning rate that is too small to learn unless ``learns`` is set."""
    torch.set_num_threads(1)
    env = make_vec(env_id, NUM_ENVS, dict(changes), seed=seed)
    options = {**AGENTS[env_id], "ent_coef": 0.01} if learns else {**AGENTS[env_id], "learning_rate": 1e-12}
    # The normalizers of this agent never forget.
    normalized = {"normalize_observation": NormalizerConfig(on_jump="keep"), "normalize_reward": True}
    agent = A2C(env, gae_lambda=0.95, seed=seed, device="cpu", **normalized, **options)
    trainer = agent.make_trainer()
    observations, valid, played = [], [], 0
    while played < steps:
        rollout, state = trainer.collect()
        played += rollout.env_steps
        observations.append(rollout.observations[:-1].astype(np.float64))
        valid.append(rollout.valid.copy())
        totals = RolloutTotals(rollout.env_steps)
        agent.learner.update(trainer.backend, rollout, state, totals, played, with_metrics=False)
    env.close()
    return Stream(np.concatenate(observations), np.concatenate(valid))


@dataclass
class Simple:
    """Fires if a coordinate's mean in a rollout is over three running standard deviations from its running mean.

    The running statistics restart with a rollout in which the rule fires.
    """

    running: RunningMeanVariance = field(default_factory=RunningMeanVariance)

    def fires(self, moments: RunningMeanVariance) -> bool:
        """Add a rollout, and return whether the rule fires."""
        if not moments.weight:
            return False
        far = np.abs(moments.mean - self.running.mean) > 3 * np.sqrt(self.running.variance)
        is_jump = self.running.weight > 0 and bool(far.any())
        self.running.merge(moments, 0.0 if is_jump or not self.running.weight else 1.0)
        return is_jump


def jumps(stream: Stream, columns: slice, n_steps: int) -> dict[str, list[int]]:
    """Return, for the rule and for the detector, the env steps before each rollout with a detected jump."""
    simple, detector = Simple(), JumpDetector(stream.observations.shape[2:])
    found: dict[str, list[int]] = {"simple": [], "detector": []}
    for before, moments, weighting in stream.moments(columns, n_steps):
        if simple.fires(moments):
            found["simple"].append(before)
        num_jumps = detector.num_jumps
        detector.update(moments, weighting)
        if detector.num_jumps > num_jumps:
            found["detector"].append(before)
    return found


def false_alarms(env_id: str, steps: int, *, learns: bool) -> dict[str, Any]:
    """Count the false alarms of the rule and of the detector in an unchanged environment, by shape of rollouts."""
    stream = record(env_id, 0, steps, {}, learns=learns)
    counts: dict[str, dict[str, int]] = {}
    for num_envs, n_steps in SHAPES:
        columns = [slice(first, first + num_envs) for first in range(0, NUM_ENVS, num_envs)]
        found = [jumps(stream, one, n_steps) for one in columns]
        counts[f"{num_envs} {n_steps}"] = {which: sum(len(one[which]) for one in found) for which in RULES}
    steps = int(stream.valid.sum())
    return {"env": env_id, "policy": "learning" if learns else "random", "steps": steps, "counts": counts}


def delays(seed: int) -> dict[str, Any]:
    """Count the rollouts until each change is detected, and the other detections.

    The delay of a change is None if the change is not detected within about ten rollouts. The other detections are
    false alarms, later detections, and second detections of the same change.
    """
    stream = record("CartPole-v1", seed, 5 * REGIME, CHANGES, learns=True)
    measured: dict[str, Any] = {"seed": seed}
    for n_steps in (8, 128):
        length = NUM_ENVS * n_steps
        for which, fired in jumps(stream, slice(None), n_steps).items():
            # The offset also changes after the last regime. The last rollout may contain this change.
            found = [at for at in fired if at <= 5 * REGIME - length]
            first: list[int | None] = []
            for change in range(REGIME, 5 * REGIME, REGIME):
                after = [at for at in found if change - length < at < change + 10 * length]
                first.append(math.ceil((after[0] - change) / length) + 1 if after else None)
            rest = len(found) - sum(one is not None for one in first)
            measured[f"{n_steps} {which}"] = {"delays": first, "others": rest}
    return measured


def report(results: Mapping[str, Any]) -> str:
    """Format the tables in Markdown."""
    alarms, found = results["false_alarms"], results["delays"]
    steps = sum(one["steps"] for one in alarms)
    lines = [
        "# Jumps",
        "",
        "`python benchmarks/jumps.py` measures these tables. The simple rule fires if the mean of a coordinate in "
        "a rollout is more than three running standard deviations from the running mean. The detector is "
        "`rl_rms.agents.jumps.JumpDetector`.",
        "",
        "## False alarms",
        "",
        f"False alarms per million env steps in {steps:,} env steps of {', '.join(AGENTS)}, whose observations do "
        "not jump. A2C keeps its random initial policy in half of the env steps, and learns in the other half. "
        f"Where the table has 0.0, the rate is below {3e6 / steps:.1f} with 95 % confidence.",
        "",
        "| sub-environments | vector steps of a rollout | simple rule | detector |",
        "|---:|---:|---:|---:|",
    ]
    for shape in alarms[0]["counts"]:
        rates = [1e6 * sum(one["counts"][shape][which] for one in alarms) / steps for which in RULES]
        lines.append(f"| {' | '.join(shape.split())} | {rates[0]:.1f} | {rates[1]:.1f} |")
    lines += [
        "",
        "False alarms of the detector, all shapes together:",
        "",
        "| environment | policy | false alarms |",
        "|---|---|---:|",
    ]
    for one in alarms:
        fires = sum(count["detector"] for count in one["counts"].values())
        lines.append(f"| {one['env']} | {one['policy']} | {fires} |")
    lines += [
        "",
        "## Delays",
        "",
        f"The offset of all observations changes {4 * len(found)} times in {len(found)} training runs. The table "
        "shows the share of the changes that a rule detects in the first rollout with changed values, in the "
        "first two and in the first ten. The last column has the other detections per million env steps, such as "
        "false alarms. Some changes are smaller than two standard deviations of every coordinate of the "
        "observations, and the detector is not meant to find them.",
        "",
        "| vector steps of a rollout | rule | first rollout | first two | first ten | other detections |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for key in [key for key in found[0] if key != "seed"]:
        waited = [delay for one in found for delay in one[key]["delays"]]
        shares = [sum(one is not None and one <= most for one in waited) / len(waited) for most in (1, 2, 10)]
        others = 1e6 * sum(one[key]["others"] for one in found) / (5 * REGIME * len(found))
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
        lines.append(f"| {' | '.join(key.split())} | {cells} | {others:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=320_000, help="env steps of each stream without changes")
    parser.add_argument("--seeds", type=int, default=4, help="training runs in the environment that changes")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.processes) as pool:
        still = [
            pool.submit(false_alarms, env_id, arguments.steps, learns=learns)
            for env_id in reversed(AGENTS)
            for learns in (True, False)
        ]
        changing = [pool.submit(delays, seed) for seed in range(arguments.seeds)]
        results = {"false_alarms": [one.result() for one in still], "delays": [one.result() for one in changing]}
    (RESULTS / "jumps.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    (RESULTS / "jumps.md").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
