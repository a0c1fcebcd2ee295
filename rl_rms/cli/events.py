"""Reads trainings of Stable-Baselines3 and CleanRL from their TensorBoard events."""

import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import RETURN, Log

EVENTS = "events.out.tfevents.*"
_EPISODE = "charts/episodic_return"
# As many episodes as Stable-Baselines3 and the agents here take the mean of.
_WINDOW = 100


@dataclass(frozen=True)
class EventLog(Log):
    """The returns of a training that another library logged.

    Attributes:
        library: ``Stable-Baselines3`` or ``CleanRL``.
        name: The part of the folder's name that all seeds share.
        env_id: Its environment, None if the folder's name does not have it.
    """

    library: str
    name: str
    env_id: str | None


def has_events(folder: Path) -> bool:
    """Whether TensorBoard's events lie in a folder itself."""
    return any(folder.glob(EVENTS))


def read_events(folder: Path) -> EventLog:
    """Read the returns of a training of Stable-Baselines3 or CleanRL.

    Of Stable-Baselines3 they are ``rollout/ep_rew_mean``, the mean of the last 100 episodes. CleanRL logs each
    episode by itself, ``charts/episodic_return``; here the mean of the last 100 is taken, so that both compare.

    Raises:
        UserError: If neither was logged.
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
            f"{folder} holds TensorBoard events without episode returns: neither {RETURN}, as Stable-Baselines3 "
            f"logs them, nor {_EPISODE}, as CleanRL does"
        )
    steps = sorted(by_step)
    name, env_id = _name(folder.name)
    return EventLog(folder, {RETURN: [by_step[step] for step in steps]}, steps, library, name, env_id)


def _name(folder: str) -> tuple[str, str | None]:
    """The part of a folder's name that all seeds share, and the environment.

    CleanRL's are ``ENV__EXPERIMENT__SEED__TIME``; Stable-Baselines3 numbers them, ``A2C_1``, ``A2C_2``.
    """
    parts = folder.split("__")
    if len(parts) == 4:
        return parts[1], parts[0]
    return re.sub(r"([-_]|[-_]?seed[-_=]?)\d+$", "", folder) or folder, None
