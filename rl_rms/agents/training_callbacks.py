"""The callbacks of a training: the user's, and the callbacks that a log and a progress bar need."""

from collections.abc import Iterable

from rl_rms.agents.adaptation import AdaptationCallback, regime_number
from rl_rms.agents.callbacks import CallbackLike, CallbackList, as_callback
from rl_rms.agents.eval_callback import EvalCallback
from rl_rms.agents.protocols import TrainedAgent


def training_callbacks(
    agent: TrainedAgent,
    callback: CallbackLike | Iterable[CallbackLike] | None,
    *,
    logs: bool,
    progress_bar: bool,
) -> CallbackList:
    """The callbacks of a training, in the order of their calls.

    Args:
        agent: The agent.
        callback: The user's callbacks, see `rl_rms.agents.agent.Agent.learn`.
        logs: Whether the training writes a log.
        progress_bar: Whether to show progress.
    """
    callbacks = as_callback(callback)
    logs_regimes = logs and regime_number(agent) is not None
    if logs_regimes and not any(isinstance(one, AdaptationCallback) for one in callbacks):
        callbacks.add_first(AdaptationCallback())  # before the user's callbacks, which may save the agent
    if progress_bar:
        from rl_rms.agents.progress import ProgressCallback

        callbacks.add(ProgressCallback(evaluations=[one for one in callbacks if isinstance(one, EvalCallback)]))
    return callbacks
