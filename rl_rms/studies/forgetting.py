"""Measures how the half-life of each running statistic of PPO changes the episode length in changing CartPoles.

The statistics are the moments that normalize the observations, the moments that normalize the rewards, and
RMSprop's second moment. Each training run differs from a reference in at most one of these statistics: the
statistic has another half-life, forgets at jumps, or is not used.
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
SETTINGS: Mapping[str, Sequence[str]] = {
    "observations": (NONE, NEVER, *_HALF_LIVES, JUMPS),
    "rewards": (NONE, NEVER, *_HALF_LIVES),
    "RMSprop": ("1_000 updates", "200 updates", "20 updates"),
}
"""Settings by statistic, such as no normalizer, no forgetting, a half-life, or forgetting only at jumps."""
CHANGES = ("observation offsets", "reward scale")
_QUICK = (REFERENCE, {**REFERENCE, "observations": JUMPS})


def cells(*, quick: bool) -> list[Cell]:
    """Return cells in which at most one statistic differs from the reference."""
    if quick:
        return [{"changes": CHANGES[0], **settings, "num_steps": 20_000} for settings in _QUICK]
    chosen = [{**REFERENCE, name: setting} for name, settings in SETTINGS.items() for setting in settings]
    different = [one for i, one in enumerate(chosen) if one not in chosen[:i]]
    return [{"changes": changes, **settings} for changes in CHANGES for settings in different]


def schedules(changes: str, regime: int) -> dict[str, Schedule]:
    """Make the schedules of an environment in which a parameter jumps every ``regime`` env steps."""
    if changes == "observation offsets":
        return {"observation.offset": Redraw(low=-1.0, high=1.0, every=regime)}
    return {"reward.scale": Square(low=1.0, high=100.0, period=2 * regime)}


def training(seed: int, changes: str, num_steps: int = NUM_STEPS, **settings: str) -> dict[str, float]:
    """Train PPO, and return the mean episode length, averaged over equal windows of env steps."""
    env = make_vec("CartPole-v1", NUM_ENVS, schedules(changes, num_steps // NUM_REGIMES), seed=seed)
    agent = PPO(
        env,
        normalize_observation=_observations(settings["observations"]),
        normalize_reward=False if settings["rewards"] == NONE else settings["rewards"],
        half_life=settings["RMSprop"],
        seed=seed,
        device="cpu",
    )
    windows: list[list[int]] = [[] for _ in range(NUM_WINDOWS)]

    def collect(trained: Agent) -> None:
        for one in trained.new_episodes:
            windows[min(one.num_timesteps * NUM_WINDOWS // num_steps, NUM_WINDOWS - 1)].append(one.length)

    agent.learn(num_steps, collect, log_interval=num_steps)
    return {"length": float(np.mean([np.mean(window) for window in windows if window]))}


def _observations(setting: str) -> bool | dict[str, Any]:
    """Return the argument ``normalize_observation`` for a setting."""
    if setting == NONE:
        return False
    if setting == JUMPS:
        return {"half_life": NEVER, "on_jump": "forget"}
    return {"half_life": setting, "on_jump": "keep"}


def settings_of(results: Results, statistic: str) -> list[str]:
    """Return the settings of a statistic that were measured, in the order of `SETTINGS`."""
    return [setting for setting in SETTINGS[statistic] if results.where(**{**REFERENCE, statistic: setting})]


def lengths(results: Results, changes: str, statistic: str, setting: str) -> Floats:
    """Return episode lengths with one setting, shape ``(seeds,)``."""
    return results.values("length", changes=changes, **{**REFERENCE, statistic: setting})


def gain(results: Results, changes: str, statistic: str, setting: str) -> Estimate:
    """Return the gain in episode length of a setting over the reference, paired by seed."""
    reference = results.values("length", changes=changes, **REFERENCE)
    return interquartile_mean(lengths(results, changes, statistic, setting) - reference)


def table(results: Results) -> Table:
    """Tabulate episode lengths, and gains over the reference, by statistic and setting."""
    changes = results.levels("changes")
    rows = []
    for statistic in SETTINGS:
        for setting in settings_of(results, statistic):
            row = [f"{statistic}: {name_of(setting)}"]
            for one in changes:
                row.append(short(interquartile(lengths(results, one, statistic, setting))))
                is_reference = setting == REFERENCE[statistic]
                row.append("" if is_reference else _signed(gain(results, one, statistic, setting)))
            rows.append(row)
    header = [f"{quantity} with {one}" for one in changes for quantity in ("episode length", "gain")]
    return Table(["setting of PPO", *header], rows)


def name_of(setting: str) -> str:
    """Return the name of a setting in tables and figures."""
    names = {NONE: "not normalized", NEVER: "never forget", JUMPS: "forget at jumps"}
    return names.get(setting, setting.replace("_", ","))


def _signed(one: Estimate) -> str:
    return f"{one.middle:+.0f} ({one.low:+.0f} to {one.high:+.0f})"


def effects(results: Results, statistic: str, setting: str) -> tuple[list[str], list[str]]:
    """Return the changes with significantly longer episodes, and those with significantly shorter episodes."""
    gains = {one: gain(results, one, statistic, setting) for one in results.levels("changes")}
    return [one for one in gains if gains[one].low > 0], [one for one in gains if gains[one].high < 0]


def summary(results: Results) -> tuple[str, list[str]]:
    """Return sentences on the significant effects of forgetting, and names of the helpful settings.

    A helpful setting significantly lengthens episodes with at least one change, and shortens them with none. The
    sentences and the names omit settings without a normalizer.
    """
    longer, shorter, helpful = [], [], []
    for statistic in SETTINGS:
        for setting in settings_of(results, statistic):
            if setting in (NONE, REFERENCE[statistic]):
                continue
            won, lost = effects(results, statistic, setting)
            name = _subject(statistic, setting)
            if won:
                longer.append(f"{name} (if the environment changes its {listed(won)})")
            if lost:
                shorter.append(f"{name} (if the environment changes its {listed(lost)})")
            if won and not lost:
                helpful.append(f"{name} (if the environment changes its {listed(won)})")
    sentence = (
        "Compared with the reference, PPO has significantly longer episodes with these settings: "
        f"{listed(longer) if longer else 'none'}. PPO has significantly shorter episodes with these settings: "
        f"{listed(shorter) if shorter else 'none'}. The two lists omit settings without a normalizer."
    )
    return sentence, helpful


def _subject(statistic: str, setting: str) -> str:
    """Return a statistic with its setting, such as ``moments of rewards with a half-life of 5,000 steps``."""
    subject = statistic if statistic == "RMSprop" else f"moments of {statistic}"
    return (
        f"{subject} that forget at jumps"
        if setting == JUMPS
        else f"{subject} with a half-life of {name_of(setting)}"
    )


def draw(results: Results, axes: Sequence[Any]) -> None:
    """Draw episode lengths over the settings, with one statistic in each of three axes."""
    for axis, statistic in zip(axes, SETTINGS, strict=True):
        settings = settings_of(results, statistic)
        for color, changes in zip(COLORS, results.levels("changes"), strict=False):
            estimates = [interquartile_mean(lengths(results, changes, statistic, setting)) for setting in settings]
            draw_band(axis, range(len(settings)), estimates, color=color, label=changes)
        axis.set_xticks(range(len(settings)), map(name_of, settings), rotation=45, ha="right", fontsize=7)
        axis.set_title(f"{statistic}: mean episode length of PPO")
    axes[-1].legend(loc="center")
