"""Compares RMSprop's v with the true second moment of the gradients, when the environment of an A2C run jumps.

Run: python benchmarks/regime_change.py [--seeds 10] [--output benchmarks/results/regime_change.json]

A2C learns CartPole without normalizers and with a half-life of 69 updates (rho = 0.99). At env step 100,000, the
force changes its sign (``force_mag`` from 10 to -10). The squared gradients then grow by one to four orders of
magnitude, and shrink while the agent adapts. The main runs do not clip gradients, because clipping hides this
growth. With the usual limit of 0.5, nearly all gradients after the jump have the norm 0.5. The table also reports
runs with clipping.

*The true second moment* ``s = E[g*g]`` of an update is the expectation of the squared gradient for the fixed
policy in the environment of that update. The benchmark estimates s from 64 independent copies of the run's 16
sub-environments. The copies play every policy of the run, beginning 80 updates (640 vector steps, more than any
episode) before the first measured update. The copies have their own random generators and do not affect the run.
From each copy's rollout, the benchmark computes one gradient of the agent's loss. The rollouts have the same
length as in the run, and the benchmark clips the gradients as in the run. Two errors remain. In the copies, the
jump may be one vector step earlier or later, because resets do not count as env steps. The mean of the 64 squared
gradients is noisy. The noise adds the same amount to the tracking error of all half-lives, and the table shows
this amount.

*v* is the bias-corrected accumulator of `rl_rms.optim.rule`, including the gradient of the update. The run's
gradients go to 13 such accumulators: ten with fixed half-lives, and one each with the half-lives of "match",
"auto", and "auto" without its lower bound of 32 updates. These accumulators do not affect the run.

*Tracking error* is the Kullback-Leibler divergence ``(s/v - 1 - log(s/v)) / 2`` between Gaussians of variance s
and v, averaged over coordinates. Intervals are 95% bootstrap intervals of the mean over seeds.
"""

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from rl_rms.agents import A2C
from rl_rms.agents.collector import Collector
from rl_rms.agents.env_state import find_changing
from rl_rms.agents.returns import bootstrap_values, generalized_advantages
from rl_rms.agents.rollout import Rollout
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step
from rl_rms.optim.bank import Bank
from rl_rms.optim.estimators import HalfLifeEstimator
from rl_rms.optim.matched import Matched
from rl_rms.optim.rule import State, rmsprop_init, rmsprop_update, second_moment

NUM_ENVS, NUM_STEPS = 16, 8
UPDATE_STEPS = NUM_ENVS * NUM_STEPS
OWN_HALF_LIFE = 69.0
HALF_LIVES = (2.0, 4.0, 8.0, 16.0, 32.0, 69.0, 128.0, 256.0, 690.0, 2048.0)
# Estimated half-lives, with the default bounds and without the lower bound of 32 updates.
ESTIMATED: dict[str, Callable[[], HalfLifeEstimator]] = {
    "match": Matched,
    "auto": Bank,
    "auto, no floor": lambda: Bank((1.0, 10_000.0)),
}
ROWS = (*(f"{h:g}" for h in HALF_LIVES), *ESTIMATED)
SHOWN = ("8", "69", "690", *ESTIMATED)
DRAWN = {"8": "#D55E00", "69": "#0072B2", "690": "#009E73", "auto": "#CC79A7"}  # Okabe and Ito
CLIPPING: dict[str, float | None] = {"no clipping": None, "clipped at 0.5": 0.5}
WARM_UP = 80
# The true second moment is estimated at each of the first EVERY_UNTIL updates after the jump, and elsewhere at
# every fourth update.
EVERY_UNTIL, SPARSE = 100, 4
# For each phase: its first update, and the update after its last update, counted from the jump.
PHASES = {"before": (-100, 0), "just after": (0, 50), "long after": (200, 300)}
Floats = NDArray[np.float64]


class Copies:
    """Independent copies of a run's sub-environments, in which the run's policies act.

    Args:
        num_copies: Number of copies, which must be even. Each copy gives one gradient per update.
        changes: Schedules of the run.
        seed: Seed of the copies' random generators.
    """

    def __init__(self, num_copies: int, changes: dict[str, Step], seed: int) -> None:
        self.num_copies = num_copies
        self.env = make_vec("CartPole-v1", num_copies * NUM_ENVS, changes)
        self.collector = Collector(self.env)
        self.collector.start(seed)
        self.generator = np.random.default_rng(seed)

    @torch.no_grad()
    def play(self, agent: A2C, clock: int) -> Rollout:
        """Collect the rollout of all copies for the next update.

        Args:
            agent: The agent whose policy plays. The copies do not use the agent's random generator.
            clock: The run's clock in env steps. The copies' own clock would count the steps of all copies.
        """

        def act(vector_step: int, observations: Any, *_: Any) -> tuple[NDArray[Any], NDArray[Any]]:
            self.env.clock = clock + NUM_ENVS * vector_step
            distribution, _ = agent.policy(torch.as_tensor(observations))
            actions = distribution.sample(self.generator).numpy()
            return actions, actions

        return self.collector.collect(act, agent.learner.rollout_done)

    def squared_gradients(self, agent: A2C, rollout: Rollout) -> Tensor:
        """Compute the squared gradient of each copy, shape ``(num_copies, num_coordinates)``."""
        grads = gradients_of_parts(agent, rollout, self.num_copies)
        return torch.stack([clipped(grad, agent.config.max_grad_norm) for grad in grads]).square()


def gradients_of_parts(agent: A2C, rollout: Rollout, num_parts: int) -> Tensor:
    """Compute the gradient of the agent's loss on each part of a rollout in one pass.

    Args:
        agent: An agent without normalized advantages.
        rollout: A rollout whose number of sub-environments is a multiple of ``num_parts``.
        num_parts: Number of parts.

    Returns:
        Gradients, shape ``(num_parts, num_coordinates)``, equal to the gradients of `actor_critic_loss` for each
        part.
    """
    policy, config = agent.policy, agent.config
    num_steps, num_envs = rollout.valid.shape
    with torch.no_grad():
        _, known = policy(torch.as_tensor(rollout.observations).flatten(0, 1))
        values = known.numpy().reshape(num_steps + 1, num_envs)
        next_values = bootstrap_values(values[:-1], values[-1], rollout.terminated)
        if len(rollout.final_index):
            _, finals = policy(torch.as_tensor(rollout.final_observations))
            next_values[tuple(rollout.final_index.T)] = finals.numpy()
    advantages = generalized_advantages(
        rollout.rewards, values[:-1], next_values, rollout.done, config.gamma, config.gae_lambda
    )

    def by_part(array: NDArray[Any]) -> Tensor:
        """Reshape ``(num_steps, num_envs, ...)`` to ``(num_parts, transitions of a part, ...)``."""
        parts = torch.as_tensor(array).unflatten(1, (num_parts, -1)).transpose(0, 1)
        return parts.flatten(1, 2)

    valid = by_part(rollout.valid).float()
    weights = valid / valid.sum(1, keepdim=True)

    def loss(
        params: dict[str, Tensor],
        observation: Tensor,
        action: Tensor,
        advantage: Tensor,
        target: Tensor,
        w: Tensor,
    ) -> Tensor:
        distribution, value = functional_call(policy, params, (observation,))
        entropy = distribution.entropy()
        each = -advantage * distribution.log_prob(action) - config.ent_coef * entropy
        return (w * (each + config.vf_coef * (value - target).square())).sum()

    params = {name: param.detach() for name, param in policy.named_parameters()}
    arrays = (rollout.observations[:-1], rollout.actions, advantages, advantages + values[:-1])
    grads = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0, 0))(params, *map(by_part, arrays), weights)
    return torch.cat([part.flatten(1) for part in grads.values()], 1)


def clipped(gradient: Tensor, max_norm: float | None) -> Tensor:
    """Clip a flat gradient to a global norm as `rl_rms.RMSprop` does."""
    if max_norm is None:
        return gradient
    return gradient * min(1.0, max_norm / (float(gradient.norm()) + 1e-6))


class Shadow:
    """Accumulators with all half-lives, which receive a run's gradients without an effect on the run.

    Args:
        num_coordinates: Size of the flat gradient.
        timescale: Timescale of the environment in updates, for the matched half-life.
        seed: Seed of the draw of the estimators' coordinates.
    """

    def __init__(self, num_coordinates: int, timescale: float, seed: int) -> None:
        self.estimators: list[HalfLifeEstimator] = [make() for make in ESTIMATED.values()]
        for estimator in self.estimators:
            estimator.timescale = timescale
        self.nothing = torch.zeros(len(ROWS), num_coordinates)
        self.state: State = rmsprop_init(self.nothing)
        self.seen: list[Tensor] = []
        self.probes = torch.randperm(num_coordinates, generator=torch.Generator().manual_seed(seed))

    @property
    def half_lives(self) -> list[float]:
        """Half-lives of the next update, in updates, in the order of `ROWS`."""
        return [*HALF_LIVES, *(estimator.half_life for estimator in self.estimators)]

    def update(self, gradient: Tensor) -> Tensor:
        """Accumulate a gradient and return v for each half-life, shape ``(len(ROWS), num_coordinates)``."""
        half_life = torch.tensor(self.half_lives, dtype=torch.float64)[:, None]
        gradients = gradient.expand_as(self.nothing)
        _, self.state = rmsprop_update(self.nothing, gradients, self.state, lr=0.0, half_life=half_life)
        self.seen.append(gradient)
        if len(self.seen) == HalfLifeEstimator.block:
            for estimator in self.estimators:
                estimator.observe(torch.stack(self.seen)[:, self.probes[: estimator.num_probes]])
            self.seen = []
        return second_moment(self.state, centered=False, bias_correction=True)


def tracking_error(squares: Tensor, v: Tensor) -> tuple[Tensor, float]:
    """Compute ``(s/v - 1 - log(s/v)) / 2``, averaged over coordinates, for s the mean of ``squares``.

    The logarithm of a mean of n noisy squares is too small by about c/n, where c is a constant. The logarithm of a
    mean of n/2 squares is too small by about 2 c/n. The difference between the errors with n and n/2 squares
    estimates the part of the error that is noise of s (jackknife).

    Args:
        squares: Independent squared gradients, shape ``(num_copies, num_coordinates)``, with even ``num_copies``.
        v: Accumulators, shape ``(num_rows, num_coordinates)``.

    Returns:
        Errors, shape ``(num_rows,)``, and the part of each error that is noise of s. Coordinates with only zeros
        in one half of the squares, or with a v of 0 for any half-life, are ignored.
    """
    first, second = (half.double().mean(0) for half in squares.chunk(2))
    alive = (first > 0) & (second > 0) & (v > 0).all(0)
    first, second, v = first[alive], second[alive], v[:, alive].double()
    s = (first + second) / 2
    noise = (s.log() - (first.log() + second.log()) / 2).mean() / 2
    return ((s / v - 1 - (s / v).log()) / 2).mean(1), float(noise)


def run(
    seed: int,
    max_grad_norm: float | None,
    *,
    jump: int = 100_000,
    window: tuple[int, int] = (-100, 300),
    num_copies: int = 64,
    warm_up: int = WARM_UP,
) -> dict[str, Any]:
    """Train through the jump.

    Args:
        seed: Seed of agent, environment and copies.
        max_grad_norm: Norm at which the run clips gradients; None for no clipping.
        jump: Env step of the jump.
        window: The first measured update and the update that ends the run, relative to the jump.
        num_copies: Independent gradients per estimate.
        warm_up: Number of updates during which the copies step before the first estimate.

    Returns:
        ``seed``, ``jumped_at`` (the update of the jump), and lists with one entry for each measured update:

        - ``updates``: updates since the jump.
        - ``second_moment``: estimate of the true second moment, mean over coordinates.
        - ``v``, ``tracking_error`` and ``half_life`` of each of `ROWS`; ``v`` is a mean over coordinates.
        - ``noise``: see `tracking_error`.
        - ``return``: mean of the last 16 episodes.
    """
    changes = {"force_mag": Step(before=10.0, after=-10.0, at=jump)}
    env = make_vec("CartPole-v1", NUM_ENVS, changes)
    agent = A2C(
        env,
        learning_rate=2e-3,
        n_steps=NUM_STEPS,
        gae_lambda=0.95,
        ent_coef=0.01,
        max_grad_norm=max_grad_norm,
        half_life=OWN_HALF_LIFE,
        normalize_observation=False,
        normalize_reward=False,
        seed=seed,
        device="cpu",
    )
    changing = find_changing(env)
    assert changing is not None
    params = list(agent.policy.parameters())
    timescale = changing.timescale / UPDATE_STEPS
    shadow = Shadow(sum(param.numel() for param in params), timescale, seed)
    copies: Copies | None = None
    squares: Tensor | None = None
    rows: list[dict[str, Any]] = []
    jumped_at: int | None = None

    def observe(agent: A2C) -> bool:
        nonlocal copies, squares, jumped_at
        if jumped_at is None and changing.clock > jump:
            jumped_at = agent.num_updates
        own = torch.cat([param.grad.flatten() for param in params])
        half_lives = shadow.half_lives
        v = shadow.update(clipped(own, max_grad_norm))
        if squares is not None:
            errors, noise = tracking_error(squares, v)
            returns = [episode.ret for episode in list(agent.episodes)[-16:]]
            rows.append(
                {
                    "updates": agent.num_updates,
                    "second_moment": float(squares.mean()),
                    "v": v.mean(1).tolist(),
                    "tracking_error": errors.tolist(),
                    "noise": noise,
                    "half_life": half_lives,
                    "return": statistics.fmean(returns) if returns else math.nan,
                }
            )
            squares = None
        # Prepare the estimate for the next update, with the policy and the environment of that update.
        number = agent.num_updates + 1
        since_jump = number - (jumped_at or expected_jump(number, changing.clock, jump))
        if copies is None and since_jump >= window[0] - warm_up:
            copies = Copies(num_copies, changes, seed=seed + 1_000_000)
        if copies is not None:
            rollout = copies.play(agent, changing.clock)
            if since_jump >= window[0] and (number % SPARSE == 0 or 0 <= since_jump < EVERY_UNTIL):
                squares = copies.squared_gradients(agent, rollout)
        return jumped_at is None or agent.num_updates < jumped_at + window[1]

    agent.learn(2 * jump + 2 * window[1] * UPDATE_STEPS, callback=observe)
    assert jumped_at is not None
    series: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    series["updates"] = [number - jumped_at for number in series["updates"]]
    return {"seed": seed, "jumped_at": jumped_at, **series}


def expected_jump(number: int, clock: int, jump: int) -> int:
    """Predict the update in which the force jumps.

    Args:
        number: Index of the next update.
        clock: Env steps before the next update.
        jump: Env step of the jump. The jump may come some updates later, because resets do not count as env steps.
    """
    return number + max(jump - clock, 0) // UPDATE_STEPS


def interval(values: Sequence[float], level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of the mean."""
    samples = np.random.default_rng(0).choice(np.asarray(values), (draws, len(values)))
    low, high = np.quantile(samples.mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compute the mean tracking error of each half-life in each phase, and the best fixed half-life.

    Args:
        runs: Results of `run` for several seeds.

    Returns:
        For each of `PHASES`: ``by_seed`` (seeds by `ROWS`), ``mean``, ``low`` and ``high`` by row, the median
        ``half_life`` by row, the mean ``noise``, ``best`` (the fixed half-life with the least mean) and
        ``best_by_seed``.
    """
    summary: dict[str, Any] = {}
    for phase, bounds in PHASES.items():
        errors = np.array([_in_phase(one, "tracking_error", bounds).mean(0) for one in runs])
        intervals = [interval(column) for column in errors.T]
        fixed = errors[:, : len(HALF_LIVES)]
        summary[phase] = {
            "by_seed": errors.tolist(),
            "mean": errors.mean(0).tolist(),
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "half_life": np.median([_in_phase(one, "half_life", bounds).mean(0) for one in runs], axis=0).tolist(),
            "noise": float(np.mean([_in_phase(one, "noise", bounds).mean() for one in runs])),
            "best": HALF_LIVES[int(fixed.mean(0).argmin())],
            "best_by_seed": [HALF_LIVES[i] for i in fixed.argmin(1)],
        }
    return summary


def _in_phase(one: dict[str, Any], name: str, bounds: tuple[int, int]) -> Floats:
    updates = np.array(one["updates"])
    series: Floats = np.array(one[name])[(bounds[0] <= updates) & (updates < bounds[1])]
    return series


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Compute the median tracking error over all measured updates of all seeds in each phase.

    A few updates with very large gradients often dominate the mean; the median shows a typical update.

    Args:
        runs: Results of `thinned`.

    Returns:
        One median for each of `SHOWN`, by phase.
    """
    return {
        phase: np.median(
            np.concatenate([_in_phase(one, "tracking_error", bounds) for one in runs]), axis=0
        ).tolist()
        for phase, bounds in PHASES.items()
    }


def table(summaries: dict[str, dict[str, Any]], runs: dict[str, list[dict[str, Any]]]) -> str:
    """Format the summaries and the medians of runs from `thinned`, by name, as Markdown."""
    lines = [
        "Tracking error of v (nats, mean over coordinates) in A2C on CartPole-v1 around the update at which the "
        "force changes its sign. Cells contain the mean over seeds with its 95% interval, then the median over "
        "all updates of all seeds, then the median half-life in updates if it is estimated. The column 'best "
        "fixed' contains the half-life with the lowest mean error among "
        + ", ".join(ROWS[: len(HALF_LIVES)])
        + " updates. The range in brackets is over the best half-lives of the seeds. The column 'noise' contains "
        "the part of every error in the row that comes from the finite number of rollouts in the estimate of the "
        "true second moment.",
        "",
        "| gradients, seeds | updates since the jump | "
        + " | ".join(map(_title, SHOWN))
        + " | best fixed | noise |",
        "|---|---|" + "---|" * len(SHOWN) + "---|---|",
    ]
    for name, summary in summaries.items():
        ordinary = medians(runs[name])
        for phase, (start, stop) in PHASES.items():
            found = summary[phase]
            cells = [f"{name}, {len(found['best_by_seed'])}", f"{phase}: {start} to {stop}"]
            for row in SHOWN:
                k = ROWS.index(row)
                half_life = f"; h = {found['half_life'][k]:.0f}" if row in ESTIMATED else ""
                cells.append(
                    f"{found['mean'][k]:.2f} [{found['low'][k]:.2f}, {found['high'][k]:.2f}]; "
                    f"{ordinary[phase][SHOWN.index(row)]:.2f}{half_life}"
                )
            own = found["best_by_seed"]
            cells += [f"{found['best']:g} ({min(own):g} to {max(own):g})", f"{found['noise']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _title(row: str) -> str:
    if row in ESTIMATED:
        return f'"{row}"' if "," not in row else '"auto" without floor'
    return f"half-life {row}" + (" (rho = 0.99)" if row == f"{OWN_HALF_LIFE:g}" else "")


def thinned(one: dict[str, Any]) -> dict[str, Any]:
    """Keep only the rows of `SHOWN`, for a small file."""
    columns = [ROWS.index(row) for row in SHOWN]
    rows = {name: np.array(one[name])[:, columns].tolist() for name in ("v", "tracking_error", "half_life")}
    return {**one, **rows}


def on_a_grid(runs: Sequence[dict[str, Any]], name: str, grid: Floats) -> Floats:
    """Interpolate the logarithm of a series of every run at the same updates, shape (runs, updates, columns)."""
    columns = []
    for one in runs:
        series = np.log(np.array(one[name], dtype=np.float64).reshape(len(one["updates"]), -1))
        columns.append([np.interp(grid, one["updates"], column) for column in series.T])
    return np.exp(np.array(columns).transpose(0, 2, 1))


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw medians over seeds of the true second moment, v and the tracking error around the jump.

    Args:
        runs: Results of `thinned`.
        path: Path of the figure.
    """
    from matplotlib.figure import Figure

    start, stop = max(one["updates"][0] for one in runs), min(one["updates"][-1] for one in runs)
    grid = np.arange(start, stop + 1.0)
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    truth = on_a_grid(runs, "second_moment", grid)[:, :, 0]
    v = np.median(on_a_grid(runs, "v", grid), axis=0)
    errors = np.median(on_a_grid(runs, "tracking_error", grid), axis=0)

    above.fill_between(grid, *np.quantile(truth, [0.25, 0.75], axis=0), color="black", alpha=0.12, linewidth=0)
    above.plot(grid, np.median(truth, axis=0), color="black", linewidth=2.4)
    labels = [
        (float(np.median(truth, axis=0)[-1]), "true second moment\n(band: middle half of the seeds)", "black")
    ]
    for row, color in DRAWN.items():
        k = SHOWN.index(row)
        above.plot(grid, v[:, k], color=color, linewidth=1.9)
        below.plot(grid, errors[:, k], color=color, linewidth=1.5)
        labels.append((float(v[-1, k]), "v, " + _title(row), color))
    for axis in (above, below):
        axis.axvline(0, color="#777777", linewidth=1.0, linestyle=":")
        axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    place = -math.inf
    low, high = np.log(above.get_ylim())
    # The labels are at the ends of the lines, without overlaps.
    for value, text, color in sorted(labels):
        place = max(math.log(value), place + 0.075 * (high - low))
        above.annotate(
            text,
            (grid[-1], math.exp(place)),
            (6, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=9,
        )
    above.annotate(
        "the force changes\nits sign",
        (0, 1),
        (-6, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        color="#555555",
    )
    above.set_ylabel("squared gradient, mean over coordinates")
    below.set_ylabel("tracking error of v\n(nats)")
    below.set_xlabel(f"updates since the change ({UPDATE_STEPS} env steps each)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def rounded(value: Any) -> Any:
    """Round every float in nested lists and dictionaries to three significant digits, for a small file."""
    if isinstance(value, float):
        return float(f"{value:.3g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Measure everything, print the table, and write the raw data, the table and the figure."""
    root = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--clipped_seeds", type=int, default=5, help="number of seeds with clipping")
    parser.add_argument("--output", type=Path, default=root / "results" / "regime_change.json")
    parser.add_argument("--figure", type=Path, default=root.parent / "docs" / "images" / "second_moment.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    summaries, runs = {}, {}
    for name, max_grad_norm in CLIPPING.items():
        ones = []
        for seed in range(arguments.seeds if max_grad_norm is None else arguments.clipped_seeds):
            ones.append(run(seed, max_grad_norm))
            print(f"{name}, seed {seed}: jump in update {ones[-1]['jumped_at']}", flush=True)
        summaries[name] = summarize(ones)
        runs[name] = [thinned(one) for one in ones]
    markdown = table(summaries, runs)
    print(markdown)
    results = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "rows": list(ROWS),
        "summary": summaries,
        "rows_of_runs": list(SHOWN),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rounded(results), separators=(",", ":")) + "\n")
    arguments.output.with_suffix(".md").write_text(markdown)
    draw(runs["no clipping"], arguments.figure)


if __name__ == "__main__":
    main()
