"""CPU time of computations with subnormal numbers: second moments of dead units, nearly deterministic policies.

Run: python benchmarks/denormals.py [--rounds 30] [--output benchmarks/results/denormals.md]

The gradients of a dead unit are 0, so their second moment halves in each half-life. From the value 1, the second
moment becomes subnormal after 126 half-lives. Rounding then prevents the decay to 0. CPUs compute several times
more slowly with subnormal numbers. With its default arguments, `rl_rms.RMSprop` replaces subnormal second moments
by 0 every 256 updates.

In each round, two optimizers of the same class with 9,155 parameters make 50 steps each. In the first optimizer,
all gradients after the first update are 0. In each round, the benchmark divides the time of the first optimizer by
the time of the second optimizer. The table shows the median and the quartiles of these ratios. The last row
compares the times to compute A2C's gradients in numpy for two policies. An action has the probability 1e-40 in the
first policy and 1e-20 in the second. Times are CPU times of one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from rl_rms import RMSprop
from rl_rms.agents import A2C

REPEATS = 50
# The half-life is two updates, so the second moment becomes subnormal after about 250 updates.
OPTIONS = {"lr": 1e-6, "alpha": 0.5**0.5}
MAKERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "rl_rms.RMSprop": lambda params: RMSprop(params, **OPTIONS),
    "torch.optim.RMSprop": lambda params: torch.optim.RMSprop(params, **OPTIONS),
}


def trained(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], *, dies: bool) -> torch.optim.Optimizer:
    """Return an optimizer after 1,024 updates. If ``dies``, all gradients after the first are 0."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(9_155))]
    optimizer = make(params)
    gradient = torch.randn(9_155)
    for number in range(1_024):
        params[0].grad = gradient.clone() if number == 0 or not dies else torch.zeros_like(gradient)
        optimizer.step()
    return optimizer


def writing(gap: float) -> Callable[[], None]:
    """Return a function that computes A2C's gradients in numpy for a policy with logits that differ by ``gap``."""
    agent = A2C(gym.make_vec("CartPole-v1", 64), seed=0).learn(640)
    assert isinstance(agent.action_space, spaces.Discrete)
    last = agent.policy.actor_network[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([gap, 0.0]))
    trainer = agent.make_trainer()
    batch = agent.learner.batch(*trainer.collect(), agent.num_timesteps)
    return lambda: trainer.backend.gradients(batch, with_metrics=False)


def seconds(function: Callable[[], object]) -> float:
    """Measure the mean CPU time of one call in seconds."""
    began = time.thread_time()
    for _ in range(REPEATS):
        function()
    return (time.thread_time() - began) / REPEATS


def main() -> None:
    """Measure, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "denormals.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = {
        f"{name}, dead compared with live": (trained(make, dies=True).step, trained(make, dies=False).step)
        for name, make in MAKERS.items()
    }
    pairs["gradients of A2C, probability 1e-40 compared with 1e-20"] = (writing(92.0), writing(46.0))
    lines = ["| measurement | ratio of the times (quartiles) |", "|---|---:|"]
    for name, (slow, fast) in pairs.items():
        ratios = [seconds(slow) / seconds(fast) for _ in range(arguments.rounds)]
        low, high = np.percentile(ratios, [25, 75])
        lines.append(f"| {name} | {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) |")
    command = f"python benchmarks/denormals.py --rounds {arguments.rounds}"
    text = (
        f"# Subnormal numbers\n\n`{command}` measures CPU times of one thread. A ratio divides the time with "
        "subnormal numbers by the time without, unless the optimizer replaces subnormal numbers by 0.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
