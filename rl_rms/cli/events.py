"""Reads Stable-Baselines3 and CleanRL runs from their TensorBoard events."""

import math
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from rl_rms.agents.event_file import PATTERN
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import Log

_EPISODE = "charts/episodic_return"
# Stable-Baselines3, by default, and the agents of this library average returns over 100 episodes.
_WINDOW = 100


@dataclass(frozen=True)
class EventLog(Log):
    """The episode returns that another library logged.

    Attributes:
        library: ``Stable-Baselines3`` or ``CleanRL``.
        name: A name that is equal for all seeds: a part of the folder's name, or the parent's name.
        env_id: Environment id; None if the folder's name does not contain it.
        seed: Seed; None if neither the folder's name nor its parent's name contains it.
    """

    library: str
    name: str
    env_id: str | None
    seed: int | None


def has_events(folder: Path) -> bool:
    """Whether a folder itself contains TensorBoard events."""
    return any(folder.glob(PATTERN))


def read_events(folder: Path) -> EventLog:
    """Read the returns of a Stable-Baselines3 or CleanRL run.

    Stable-Baselines3 logs ``rollout/ep_rew_mean``, by default the mean of the last 100 episodes. CleanRL logs each
    episode as ``charts/episodic_return``; for CleanRL, this function computes the mean of the last 100 episodes.

    Raises:
        UserError: If the events contain no episode returns, or only NaN.
    """
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    tags = events.Tags()["scalars"]
    if RETURN in tags:
        library, scalars = "Stable-Baselines3", events.Scalars(RETURN)
        by_step = {float(event.step): float(event.value) for event in scalars}
    elif _EPISODE in tags:
        library, scalars = "CleanRL", events.Scalars(_EPISODE)
        last: deque[float] = deque(maxlen=_WINDOW)
        by_step = {}
        for event in scalars:
            last.append(float(event.value))
            by_step[float(event.step)] = sum(last) / len(last)
    else:
        raise UserError(
            f"{folder} has TensorBoard events without episode returns; the events must have {RETURN}, which "
            f"Stable-Baselines3 logs, or {_EPISODE}, which CleanRL logs"
        )
    if all(map(math.isnan, by_step.values())):
        raise UserError(f"all episode returns of {folder} are NaN; leave the run out")
    steps = sorted(by_step)
    name, env_id = _name(folder)
    return EventLog(
        folder, {RETURN: [by_step[step] for step in steps]}, steps, library, name, env_id, _seed(folder)
    )


def without_seed(name: str) -> str:
    """Remove the seed or run number from the end of a folder's name. The result may be empty."""
    return re.sub(r"(^|[-_]|[-_]?seed[-_=]?)\d+$", "", name)


def _name(folder: Path) -> tuple[str, str | None]:
    """Return a name of the run that is equal for all seeds, and the environment's id or None.

    The name is the folder's name without the seed; if nothing is left, the parent's name.

    CleanRL names folders ``ENV__EXPERIMENT__SEED__TIME``; Stable-Baselines3 numbers its folders, ``A2C_1``,
    ``A2C_2``.
    """
    parts = folder.name.split("__")
    if len(parts) == 4:
        return parts[1], parts[0]
    return without_seed(folder.name) or folder.resolve().parent.name, None


def _seed(folder: Path) -> int | None:
    """Return the seed in the name of a folder or of its parent, or None.

    The seed is the third part of CleanRL's ``ENV__EXPERIMENT__SEED__TIME``, or the number in ``seed3`` at the end
    of a name. The numbers of ``A2C_1`` and ``A2C_2`` are not seeds.
    """
    parts = folder.name.split("__")
    if len(parts) == 4 and parts[2].isdecimal():
        return int(parts[2])
    for name in (folder.name, folder.resolve().parent.name):
        found = re.search(r"seed[-_=]?(\d+)$", name)
        if found is not None:
            return int(found[1])
    return None
