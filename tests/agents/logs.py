"""Functions that write short logs and read their events."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents.logger import Logger

RETURN = "rollout/ep_rew_mean"


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "histograms": 0}).Reload()


def logged(folder, steps, **options):
    with Logger(folder, **options) as logger:
        for step in steps:
            logger.write(step, {RETURN: float(step)})


def charted(folder):
    return [event.step for event in events(folder).Scalars(RETURN)]
