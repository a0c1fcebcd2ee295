"""Scores of PPO by the half-life of each of its running statistics, in CartPoles that change.

The statistics are the moments that normalize the observations, the moments that normalize the rewards, and
RMSprop's second moment. Each training changes the half-life of one of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_rms.agents import PPO
from rl_rms.agents.agent import Agent
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Redraw, Schedule, Square
from rl_rms.studies.drawing import COLORS, draw_band
from rl_rms.studies.frame import Cell, Floats, Results, Table
from rl_rms.studies.intervals import Estimate, interquartile, interquartile_mean, listed, short

NUM_STEPS, NUM_REGIMES, NUM_WINDOWS = 60_000, 4, 20
NUM_ENVS = 16
NONE, NEVER, JUMPS = "none", "inf", "jumps"
REFERENCE = {"observations": NEVER, "rewards": NEVER, "RMSprop": "200 updates"}
_HALF_LIVES = ("10_000 steps", "5_000 steps", "2_000 steps")
MEMORIES: Mapping[str, Sequence[str]] = {
    "observations": (NONE, NEVER, *_HALF_LIVES, JUMPS),
    "rewards": (NONE, NEVER, *_HALF_LIVES),
    "RMSprop": ("1_000 updates", "200 updates", "20 updates"),
}
"""The memories of each statistic: no normalizer, no forgetting, half-lives, and forgetting at jumps only."""
CHANGES = ("observation offsets", "reward scale")
_QUICK = (
    REFERENCE,
    {**REFERENCE, "observations": "5_000 steps"},
    {**REFERENCE, "observations": JUMPS},
    {**REFERENCE, "rewards": "5_000 steps"},
    {**REFERENCE, "RMSprop": "20 updates"},
)


def cells(*, quick: bool) -> list[Cell]:
    """The changes with every memory of one statistic; the other two statistics have the reference's memories."""
    if quick:
        return [{"changes": CHANGES[0], **memories, "num_steps": 20_000} for memories in _QUICK]
    chosen = [{**REFERENCE, name: memory} for name, memories in MEMORIES.items() for memory in memories]
    different = [one for i, one in enumerate(chosen) if one not in chosen[:i]]
    return [{"changes": changes, **memories} for changes in CHANGES for memories in different]


def schedules(changes: str, regime: int) -> dict[str, Schedule]:
    """The schedules of an environment that jumps every ``regime`` env steps."""
    if changes == "observation offsets":
        return {"observation.offset": Redraw(low=-1.0, high=1.0, every=regime)}
    return {"reward.scale": Square(low=1.0, high=100.0, period=2 * regime)}


def training(seed: int, changes: str, num_steps: int = NUM_STEPS, **memories: str) -> dict[str, float]:
    """Mean over equal windows of a training of the mean length of the episodes that ended in the window."""
    env = make_vec("CartPole-v1", NUM_ENVS, schedules(changes, num_steps // NUM_REGIMES), seed=seed)
    agent = PPO(
        env,
        normalize_observation=_observations(memories["observations"]),
        normalize_reward=False if memories["rewards"] == NONE else memories["rewards"],
        half_life=memories["RMSprop"],
        seed=seed,
        device="cpu",
    )
    windows: list[list[int]] = [[] for _ in range(NUM_WINDOWS)]

    def collect(trained: Agent) -> None:
        for one in trained.new_episodes:
            windows[min(one.num_timesteps * NUM_WINDOWS // num_steps, NUM_WINDOWS - 1)].append(one.length)

    agent.learn(num_steps, collect, log_interval=num_steps)
    return {"length": float(np.mean([np.mean(window) for window in windows if window]))}


def _observations(memory: str) -> bool | dict[str, Any]:
    """The argument ``normalize_observation`` for a memory."""
    if memory == NONE:
        return False
    if memory == JUMPS:
        return {"half_life": NEVER, "on_jump": "forget"}
    return {"half_life": memory, "on_jump": "keep"}


def memories_of(results: Results, statistic: str) -> list[str]:
    """The memories of a statistic that the results have, in the order of `MEMORIES`."""
    return [memory for memory in MEMORIES[statistic] if results.where(**{**REFERENCE, statistic: memory})]


def lengths(results: Results, changes: str, statistic: str, memory: str) -> Floats:
    """Episode lengths with one memory, shape ``(seeds,)``."""
    return results.values("length", changes=changes, **{**REFERENCE, statistic: memory})


def gain(results: Results, changes: str, statistic: str, memory: str) -> Estimate:
    """Gain of a memory over the reference, seed by seed."""
    reference = results.values("length", changes=changes, **REFERENCE)
    return interquartile_mean(lengths(results, changes, statistic, memory) - reference)


def table(results: Results) -> Table:
    """Episode lengths, and gains over the reference, by statistic and memory."""
    changes = results.levels("changes")
    rows = []
    for statistic in MEMORIES:
        for memory in memories_of(results, statistic):
            row = [f"{statistic}: {name_of(memory)}"]
            for one in changes:
                row.append(short(interquartile(lengths(results, one, statistic, memory))))
                is_reference = memory == REFERENCE[statistic]
                row.append("" if is_reference else _signed(gain(results, one, statistic, memory)))
            rows.append(row)
    return Table(["episode length of PPO", *(text for one in changes for text in (one, "gain"))], rows)


def name_of(memory: str) -> str:
    """A memory in words."""
    names = {NONE: "not normalized", NEVER: "never forget", JUMPS: "forget at jumps"}
    return names.get(memory, memory.replace("_", ","))


def _signed(one: Estimate) -> str:
    return f"{one.middle:+.0f} ({one.low:+.0f} to {one.high:+.0f})"


def effects(results: Results, statistic: str, memory: str) -> tuple[list[str], list[str]]:
    """The changes in which a memory makes episodes significantly longer, and significantly shorter."""
    gains = {one: gain(results, one, statistic, memory) for one in results.levels("changes")}
    return [one for one in gains if gains[one].low > 0], [one for one in gains if gains[one].high < 0]


def summary(results: Results) -> tuple[str, list[str]]:
    """The significant effects of forgetting in a sentence, and the memories that help in some changes only."""
    longer, shorter, helpful = [], [], []
    for statistic in MEMORIES:
        for memory in memories_of(results, statistic):
            if memory in (NONE, REFERENCE[statistic]):
                continue
            won, lost = effects(results, statistic, memory)
            name = _subject(statistic, memory)
            if won:
                longer.append(f"{name} ({listed(won)})")
            if lost:
                shorter.append(f"{name} ({listed(lost)})")
            if won and not lost:
                helpful.append(f"{name} ({listed(won)})")
    sentence = (
        "Compared with normalizers that never forget and RMSprop's half-life of 200 updates, the episodes of PPO "
        f"are significantly longer with {listed(longer) if longer else 'no other memory'}, and shorter with "
        f"{listed(shorter) if shorter else 'no other memory'}."
    )
    return sentence, helpful


def _subject(statistic: str, memory: str) -> str:
    """A statistic with its memory, such as ``rewards normalized with the half-life 5,000 steps``."""
    if memory == JUMPS:
        return f"{statistic} normalized with forgetting at jumps"
    normalized = "" if statistic == "RMSprop" else "normalized "
    return f"{statistic} {normalized}with the half-life {name_of(memory)}"


def draw(results: Results, axes: Sequence[Any]) -> None:
    """Draw episode lengths over the memory, one statistic in each of three axes."""
    for axis, statistic in zip(axes, MEMORIES, strict=True):
        memories = memories_of(results, statistic)
        for color, changes in zip(COLORS, results.levels("changes"), strict=False):
            estimates = [interquartile_mean(lengths(results, changes, statistic, memory)) for memory in memories]
            draw_band(axis, range(len(memories)), estimates, color=color, label=changes)
        axis.set_xticks(range(len(memories)), map(name_of, memories), rotation=45, ha="right", fontsize=7)
        axis.set_title(f"{statistic}: episode length of PPO")
    axes[-1].legend(loc="center")
