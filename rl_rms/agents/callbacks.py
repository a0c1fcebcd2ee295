"""The interface of callbacks, which act around an agent's updates, and the list of them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs.checks import check_flag, check_int


class Callback:
    """Acts at the start, after the updates on each rollout and at the end of a training; the base does nothing."""

    def metrics(self) -> Iterable[str]:
        """Tags that it will log, for TensorBoard's Custom Scalars tab."""
        return ()

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called before the first rollout."""

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Called after the updates on each rollout; returning False stops the training."""
        return None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called at the end, also when an exception ends the training."""

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints: numbers, strings and None, in lists and dictionaries.

        A saved state holds the calls up to the one before the save, so list a callback before those that save.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`. A loaded agent's first `learn` calls it before the training."""


CallbackLike = Callback | Callable[[Any], bool | None]


class _FunctionCallback(Callback):
    """A plain function of the agent, called after the updates on each rollout."""

    def __init__(self, function: Callable[[Any], bool | None]) -> None:
        self._function = function

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        return self._function(agent)


def is_false(answer: object) -> bool:
    """Whether a callback's answer stops the training: only ``False`` and ``np.False_`` do; 0 and arrays do not."""
    return isinstance(answer, (bool, np.bool_)) and not answer


class CallbackList(Callback):
    """Several callbacks, called in order. Each is called even if one before it stops the training."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)

    def add(self, callback: Callback) -> None:
        """Append a callback."""
        self._callbacks.append(callback)

    def state_dict(self) -> dict[str, Any]:
        """The states of all by class name, a list for each class in the callbacks' order."""
        states: dict[str, Any] = {}
        for callback in self._callbacks:
            states.setdefault(type(callback).__name__, []).append(callback.state_dict())
        return {name: those for name, those in states.items() if any(those)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each callback the state of its class and position. A callback without one starts fresh.

        Raises:
            ValueError: If a state is none of its class.
        """
        left = {name: list(those) for name, those in state.items()}
        for callback in self._callbacks:
            name = type(callback).__name__
            own = left[name].pop(0) if left.get(name) else None
            if own:
                try:
                    callback.load_state_dict(own)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise ValueError(f"the checkpoint's state of {name} is damaged: {error!r}") from error

    def metrics(self) -> Iterable[str]:
        """Those of all."""
        return [tag for callback in self._callbacks for tag in callback.metrics()]

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Start all."""
        for callback in self._callbacks:
            callback.on_training_start(agent, logger)

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Call all. The result is False if any of them stops the training."""
        answers = [callback.on_update(agent, logger) for callback in self._callbacks]
        return False if any(is_false(answer) for answer in answers) else None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """End all, also those behind one that fails."""
        errors = []
        for callback in self._callbacks:
            try:
                callback.on_training_end(agent, logger)
            except Exception as error:  # noqa: PERF203 - once a training
                errors.append(error)
        if errors:
            raise errors[0]


class Periodic(Callback):
    """Acts after the first rollout that reaches each multiple of ``every`` env steps, and after the last if asked.

    Args:
        every: Env steps between two of its acts.
        at_end: Whether it acts after the rollout that reaches the training's env steps, too.

    Raises:
        ValueError: If ``every`` is below 1.
    """

    def __init__(self, every: int, *, at_end: bool = False) -> None:
        self.every = check_int("every", every, least=1, unit="env steps")
        self.at_end = check_flag("at_end", at_end)

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Look for the next multiple."""
        # Of multiples from the agent's first step on, so that a resumed training acts where it would have.
        self._next = self.every * (1 + agent.num_timesteps // self.every)

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Act if it is time."""
        if agent.num_timesteps >= self._next:
            self._next += self.every * (1 + (agent.num_timesteps - self._next) // self.every)
            return self.act(agent, logger)
        if self.at_end and agent.num_timesteps >= agent.target_timesteps:
            return self.act(agent, logger)
        return None

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Act; returning False stops the training."""
        raise NotImplementedError


def as_callback(callback: CallbackLike | Iterable[CallbackLike] | None) -> CallbackList:
    """One callback from none, one or several callbacks or functions."""
    if callback is None:
        return CallbackList([])
    if isinstance(callback, Callback):
        return CallbackList([callback])
    if callable(callback):
        return CallbackList([_FunctionCallback(callback)])
    return CallbackList([one if isinstance(one, Callback) else _FunctionCallback(one) for one in callback])
