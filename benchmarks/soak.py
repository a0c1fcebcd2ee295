"""Long runs: RAM, open files and threads of a training run, and rounding errors of the optimizer.

Run: python benchmarks/soak.py [--steps 1_000_000] [--updates 10_000_000] [--output benchmarks/results/soak.json]

- *training* runs A2C with the packaged configuration ``drifting_cartpole``, TensorBoard, ``metrics.csv``,
  evaluations, checkpoints, histograms and progress lines. A hundred times, the benchmark reads the RAM (resident
  set), the number of open files and the number of threads of the process. The warm-up is the first fifth of the
  env steps. Growth is the increase from the end of the warm-up to the largest later value: a percentage of the
  RAM, a number of files or threads.
- *optimizer* updates parameters with the same stream of gradients in three ways: by `rl_rms.RMSprop` in float32 on
  its fast path, which is ``fused=True``; by `rl_rms.optim.rule.rmsprop_update` in float32; and by the equations in
  numpy in float64. The stream has 64 coordinates with scales around 1e-6 to 1e3. The scales oscillate slowly and
  sometimes jump. Each coordinate of a gradient is 0 with a probability of 0.1. v64 and the parameters p64 are the
  values in float64. Deviations are the largest ``|v - v64| / v64`` and ``|p - p64| / max |p64|`` of all
  coordinates. ``max |p64|`` is a coordinate's maximum over the updates so far. The tolerance of both deviations is
  1e-3.
"""

import argparse
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rl_rms
from rl_rms.agents.agent import Agent
from rl_rms.agents.callbacks import Periodic
from rl_rms.agents.logger import Logger
from rl_rms.cli import train
from rl_rms.cli.build import build, make_env
from rl_rms.cli.config import RunConfig, read_config
from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.rule import rmsprop_init, rmsprop_update

TABLE = Path(__file__).parent / "results" / "soak.md"
WARM_UP = 0.2
HALF_LIVES = (200.0, 100_000.0)
COORDINATES, BLOCK = 64, 1_000
LR, EPS = 1e-3, 1e-8
TOLERANCE = 1e-3
_PAGE = os.sysconf("SC_PAGE_SIZE")


# -- training ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """Resources of the process after some env steps."""

    steps: int
    resident: int
    files: int
    threads: int


def read(steps: int) -> Reading:
    """Read the memory, open files and threads of this process from ``/proc/self``."""
    own = Path("/proc/self")
    resident = int((own / "statm").read_text().split()[1]) * _PAGE
    return Reading(steps, resident, len(os.listdir(own / "fd")), len(os.listdir(own / "task")))


class ProcessMonitor(Periodic):
    """Read the resources of the process at regular env steps."""

    def __init__(self, every: int) -> None:
        super().__init__(every)
        self.readings: list[Reading] = []

    def act(self, agent: Agent, logger: Logger) -> None:
        """Read the resources once."""
        self.readings.append(read(agent.num_timesteps))


def config(steps: int, folder: Path) -> RunConfig:
    """Configure a run with at most 50 evaluations, checkpoints and histograms."""
    every = max(steps // 50, 1_000)
    return replace(
        read_config("drifting_cartpole"),
        total_timesteps=steps,
        eval_every=every,
        checkpoint_every=every,
        histogram_every=every,
        runs_dir=str(folder),
        progress="lines",
    )


def train_long(steps: int, folder: Path) -> list[Reading]:
    """Train for ``steps`` env steps and read the resources of the process a hundred times."""
    run = config(steps, folder)
    torch.set_num_threads(run.num_threads)
    env = make_env(run)
    agent, monitor, home = build(run, env), ProcessMonitor(max(steps // 100, 1)), train.begin(run, "soak")
    callbacks = [*train.make_callbacks(run, home, []), monitor]
    agent.learn(steps, callbacks, log_dir=home, log_interval=run.log_interval)
    env.close()
    return monitor.readings


@dataclass(frozen=True)
class Growth:
    """Resources at the end of the warm-up, and their maxima from then on."""

    before: Reading
    resident: int
    files: int
    threads: int

    @property
    def memory(self) -> float:
        """Relative growth of RAM since the end of the warm-up."""
        return self.resident / self.before.resident - 1.0

    @property
    def is_flat(self) -> bool:
        """True if RAM has grown by at most 1 %, and files and threads have not grown."""
        return self.memory <= 0.01 and self.files <= self.before.files and self.threads <= self.before.threads


def growth(readings: Sequence[Reading]) -> Growth:
    """Compute the growth since the end of the warm-up."""
    end = WARM_UP * readings[-1].steps
    before = next(one for one in readings if one.steps >= end)
    later = [one for one in readings if one.steps >= before.steps]
    return Growth(
        before,
        max(one.resident for one in later),
        max(one.files for one in later),
        max(one.threads for one in later),
    )


# -- optimizer --------------------------------------------------------------------------------------------

Array = NDArray[np.float64]


def gradients(blocks: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Generate the stream in blocks of shape (BLOCK, COORDINATES)."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** np.linspace(-6.0, 3.0, COORDINATES)
    level = np.zeros(COORDINATES)
    for block in range(blocks):
        if rng.random() < 0.02:  # every 50,000 updates on average
            level = rng.normal(0.0, 2.0, COORDINATES)
        swing = np.sin(2.0 * math.pi * block / 97.0 + np.arange(COORDINATES))
        noise = rng.standard_normal((BLOCK, COORDINATES)) * (rng.random((BLOCK, COORDINATES)) > 0.1)
        yield (noise * (scales * np.exp(level + swing))).astype(np.float32)


class FastPath:
    """`rl_rms.RMSprop` on two tensors, updated by one kernel call."""

    def __init__(self, half_life: float) -> None:
        self.params = [torch.nn.Parameter(torch.zeros(COORDINATES // 2)) for _ in range(2)]
        self.optimizer = rl_rms.RMSprop(
            self.params, lr=LR, eps=EPS, half_life=half_life, bias_correction=True, fused=True
        )
        for param in self.params:
            param.grad = torch.zeros_like(param)

    def run(self, block: NDArray[np.float32]) -> None:
        """Make one update for each gradient."""
        first, second = (param.grad for param in self.params)
        assert first is not None
        assert second is not None
        for g in torch.from_numpy(block):
            first.copy_(g[: COORDINATES // 2])
            second.copy_(g[COORDINATES // 2 :])
            self.optimizer.step()

    @property
    def v(self) -> Array:
        """The second moment."""
        return np.concatenate([self.optimizer.state[one]["square_avg"].double().numpy() for one in self.params])

    @property
    def p(self) -> Array:
        """The parameters."""
        return np.concatenate([one.detach().double().numpy() for one in self.params])


class Rule:
    """`rl_rms.optim.rule.rmsprop_update` on one tensor."""

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.param = torch.zeros(COORDINATES)
        self.state = rmsprop_init(self.param)

    def run(self, block: NDArray[np.float32]) -> None:
        """Make one update for each gradient."""
        for g in torch.from_numpy(block):
            self.param, self.state = rmsprop_update(
                self.param, g, self.state, lr=LR, half_life=self.half_life, eps=EPS, bias_correction=True
            )

    @property
    def v(self) -> Array:
        """The second moment."""
        return self.state["square_avg"].double().numpy()

    @property
    def p(self) -> Array:
        """The parameters."""
        return self.param.double().numpy()


class Exact:
    """The equations in float64."""

    def __init__(self, half_life: float) -> None:
        self.rho, self.gain = rho_from_half_life(half_life), -math.expm1(-math.log(2.0) / half_life)
        self.v, self.p, self.reach = np.zeros(COORDINATES), np.zeros(COORDINATES), np.zeros(COORDINATES)
        self.initial_weight = 1.0

    def run(self, block: NDArray[np.float32]) -> None:
        """Make one update for each gradient."""
        v, p = self.v, self.p
        for g in block.astype(np.float64):
            v += self.gain * (g * g - v)
            self.initial_weight *= self.rho
            p -= LR * g / (np.sqrt(v / (1.0 - self.initial_weight)) + EPS)
            np.maximum(self.reach, np.abs(p), out=self.reach)


@dataclass(frozen=True)
class Deviation:
    """Deviations of v and of the parameters from float64 after some updates, on the fast path and by the rule."""

    half_life: float
    updates: int
    fast_v: float
    rule_v: float
    fast_parameter: float
    rule_parameter: float

    @property
    def is_within(self) -> bool:
        """True if the fast path is within the tolerance."""
        return max(self.fast_v, self.fast_parameter) <= TOLERANCE


def deviations(half_life: float, updates: int) -> list[Deviation]:
    """Measure the deviations after 1,000, 10,000, ... updates, and after the last update."""
    torch.set_num_threads(1)
    found = []
    fast, rule, exact = FastPath(half_life), Rule(half_life), Exact(half_life)
    for number, block in enumerate(gradients(updates // BLOCK), 1):
        for one in (fast, rule, exact):
            one.run(block)
        done = number * BLOCK
        if done == 10 ** round(math.log10(done)) or done == updates:
            v = [float(np.max(np.abs(one.v - exact.v) / exact.v)) for one in (fast, rule)]
            p = [float(np.max(np.abs(one.p - exact.p) / exact.reach)) for one in (fast, rule)]
            found.append(Deviation(half_life, done, *v, *p))
    return found


# -- table ------------------------------------------------------------------------------------------------


def table(readings: Sequence[Reading], found: Sequence[Deviation]) -> str:
    """Format both parts as Markdown."""
    grown = growth(readings)
    held = {
        "memory, MB": (f"{grown.before.resident / 1e6:.1f}", f"{grown.resident / 1e6:.1f}", f"{grown.memory:.2%}"),
        "open files": (grown.before.files, grown.files, grown.files - grown.before.files),
        "threads": (grown.before.threads, grown.threads, grown.threads - grown.before.threads),
    }
    lines = [
        "# Long runs",
        "",
        f"`python benchmarks/soak.py` trains A2C for {readings[-1].steps:,} env steps on a drifting CartPole with "
        f"evaluations, checkpoints and TensorBoard. The warm-up ends at env step {grown.before.steps:,}.",
        "",
        "| resource | end of the warm-up | maximum after it | growth |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {' | '.join(map(str, row))} |" for name, row in held.items()),
        "",
        "The next table has the largest deviations of all coordinates from float64 on one stream of gradients. "
        "The docstring of the benchmark defines the deviations.",
        "",
        "| half-life | updates | v, fast path | v, the rule | parameters, fast path | parameters, the rule |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {one.half_life:,.0f} | {one.updates:,} | {one.fast_v:.1e} | {one.rule_v:.1e} "
            f"| {one.fast_parameter:.1e} | {one.rule_parameter:.1e} |"
            for one in found
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="env steps of the training")
    parser.add_argument("--updates", type=int, default=10_000_000, help="updates of the optimizer")
    parser.add_argument("--output", type=Path, default=TABLE.with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        readings = train_long(args.steps, Path(folder))
    with ProcessPoolExecutor(len(HALF_LIVES)) as pool:
        found = [*itertools.chain(*pool.map(deviations, HALF_LIVES, [args.updates] * len(HALF_LIVES)))]
    written: dict[str, Any] = {"training": [asdict(one) for one in readings]}
    args.output.write_text(json.dumps({**written, "optimizer": [asdict(one) for one in found]}, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(table(readings, found))
    print(table(readings, found))
    if not (growth(readings).is_flat and all(one.is_within for one in found)):
        raise SystemExit(
            "the table must have a growth of at most 1 % in memory and 0 in files and threads, and deviations of "
            f"the fast path of at most {TOLERANCE:g}"
        )


if __name__ == "__main__":
    main()
