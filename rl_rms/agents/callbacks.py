"""The base classes of callbacks, and a list of callbacks that is a callback itself."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs.checks import check_flag, check_int


class Callback:
    """Base class of callbacks.

    `Agent.learn` calls a callback at the start, after the updates on each rollout, and at the end.
    """

    def metrics(self) -> Iterable[str]:
        """The tags that the callback logs, for TensorBoard's Custom Scalars tab."""
        return ()

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called before the first rollout."""

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Called after the updates on each rollout; returning False stops the training."""
        return None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called at the end of the training, also after an exception."""

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints: numbers, strings and None, in lists and dictionaries.

        A checkpoint contains the newest state of a callback only if this callback is listed before the callback
        that saves the checkpoint.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`. A loaded agent's first `learn` calls this method."""


CallbackLike = Callback | Callable[[Any], bool | None]


class _FunctionCallback(Callback):
    """A plain function of the agent, called after the updates on each rollout."""

    def __init__(self, function: Callable[[Any], bool | None]) -> None:
        self._function = function

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        return self._function(agent)


def is_false(answer: object) -> bool:
    """Whether a callback's return value is ``False`` or ``np.False_``, which stops the training."""
    return isinstance(answer, (bool, np.bool_)) and not answer


class CallbackList(Callback):
    """Several callbacks, called in order. All callbacks are called, even if one of them stops the training."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)

    def state_dict(self) -> dict[str, Any]:
        """The callbacks' states by class name. Each class has a list of states, in the callbacks' order."""
        states: dict[str, Any] = {}
        for callback in self._callbacks:
            states.setdefault(type(callback).__name__, []).append(callback.state_dict())
        return {name: of_class for name, of_class in states.items() if any(of_class)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load each callback's state, by class name and, within a class, in the callbacks' order.

        A callback without a saved state keeps its initial state.

        Raises:
            ValueError: If a callback cannot load its state.
        """
        left = {name: list(of_class) for name, of_class in state.items()}
        for callback in self._callbacks:
            name = type(callback).__name__
            own = left[name].pop(0) if left.get(name) else None
            if own:
                try:
                    callback.load_state_dict(own)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise ValueError(f"the checkpoint's state of {name} is damaged: {error!r}") from error

    def metrics(self) -> Iterable[str]:
        """The tags of all callbacks."""
        return [tag for callback in self._callbacks for tag in callback.metrics()]

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Start all callbacks."""
        for callback in self._callbacks:
            callback.on_training_start(agent, logger)

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Call all callbacks. The result is False if any callback stops the training."""
        answers = [callback.on_update(agent, logger) for callback in self._callbacks]
        return False if any(is_false(answer) for answer in answers) else None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Call ``on_training_end`` of all callbacks, even if one of them raises an error."""
        errors = []
        for callback in self._callbacks:
            try:
                callback.on_training_end(agent, logger)
            except Exception as error:  # noqa: PERF203 - once a training run
                errors.append(error)
        if errors:
            raise errors[0]


class Periodic(Callback):
    """A callback that acts after each rollout that reaches or passes a multiple of ``every`` env steps.

    Args:
        every: Env steps between two actions of the callback.
        at_end: Whether to act also after the rollout that reaches the ``total_timesteps`` of `Agent.learn`.

    Raises:
        ValueError: If ``every`` is not a whole number >= 1, or ``at_end`` is neither True nor False.
    """

    def __init__(self, every: int, *, at_end: bool = False) -> None:
        self.every = check_int("every", every, least=1, unit="env steps")
        self.at_end = check_flag("at_end", at_end)

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Compute the env steps at which the callback acts next."""
        # Multiples count from the agent's first step, so a resumed training run has the same multiples.
        self._next = self.every * (1 + agent.num_timesteps // self.every)

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Act if a multiple of ``every`` was reached, or at the end with ``at_end``."""
        if agent.num_timesteps >= self._next:
            self._next += self.every * (1 + (agent.num_timesteps - self._next) // self.every)
            return self.act(agent, logger)
        if self.at_end and agent.num_timesteps >= agent.training.target_timesteps:
            return self.act(agent, logger)
        return None

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Perform the callback's action. Returning False stops the training."""
        raise NotImplementedError


def as_callbacks(callback: CallbackLike | Iterable[CallbackLike] | None) -> list[Callback]:
    """Make a list of callbacks from one or several callbacks or functions; None gives an empty list."""
    if callback is None:
        return []
    parts = [callback] if isinstance(callback, Callback) or callable(callback) else callback
    return [part if isinstance(part, Callback) else _FunctionCallback(part) for part in parts]
