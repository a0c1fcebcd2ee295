"""Callbacks around an agent's updates: checkpoints, evaluation, stopping."""

import copy
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_rms.agents import files, storage
from rl_rms.agents.env_state import find_changing
from rl_rms.agents.evaluation import Evaluation, evaluate, evaluation_seed
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs import NonStationaryVector
from rl_rms.envs.checks import check_flag, check_int, check_number
from rl_rms.optim.diagnostics import distributions
from rl_rms.optim.rmsprop import RMSprop


class Callback:
    """Does something at the start, after each update and at the end of a training; the base does nothing."""

    def metrics(self) -> Iterable[str]:
        """Tags that it will log, for TensorBoard's Custom Scalars tab."""
        return ()

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called before the first rollout."""

    def on_update(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Called after each update; returning False stops the training."""
        return None

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Called at the end, also when an exception ends the training."""

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints: numbers, strings and None, in lists and dictionaries.

        A saved state holds updates up to the one before the save, so list a callback before those that save.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`. A loaded agent's first `learn` calls it before the training."""


CallbackLike = Callback | Callable[[Any], bool | None]


class _FunctionCallback(Callback):
    """A plain function of the agent, called after each update."""

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
    """Acts at the first update at or after each multiple of ``every`` env steps, and at the last if it is to.

    Args:
        every: Env steps between two of its acts.
        at_end: Whether it acts after the update that reaches the training's env steps, too.

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


def save_or_warn(agent: TrainedAgent, path: Path) -> Exception | None:
    """Save an agent during its training, which no error of saving may end.

    Returns:
        The error, of which a warning was given; the earlier file is unchanged then. None if the agent is saved.
    """
    try:
        agent.save(path)
    except Exception as error:
        said = error if isinstance(error, files.UnwritableError) else f"cannot save {path}: {error}"
        warnings.warn(f"{said}; training continues, and the next checkpoint is tried as usual", stacklevel=2)
        return error
    return None


class CheckpointCallback(Periodic):
    """Saves the agent at regular env steps and at the end, whatever ends the training.

    A checkpoint that cannot be saved gives a warning, and training continues. The last checkpoint is then saved
    to the system's folder for temporary files, if possible, and the warning names the file.

    Args:
        folder: Where ``step_<env steps>.safetensors`` and, at the end, ``final.safetensors`` go.
        every: Env steps between two checkpoints.
        keep: Number of the former that stay, those with the most env steps; None keeps all. Checkpoints with more
            env steps than the agent has when its training starts belong to another training and stay.

    Attributes:
        error: The error of the last checkpoint, if it is not in the folder.

    Raises:
        ValueError: If ``every`` or ``keep`` is not a whole number >= 1.
    """

    error: Exception | None = None

    def __init__(self, folder: str | Path, every: int, keep: int | None = 5) -> None:
        super().__init__(every)
        self.folder = Path(folder)
        self.keep = None if keep is None else check_int("keep", keep, least=1, unit="checkpoints")

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Check that the folder can be written to, and remove unfinished files of a killed process.

        Raises:
            UnwritableError: If the folder cannot be written to.
        """
        super().on_training_start(agent, logger)
        files.check_writable(self.folder)
        there = sorted(self.folder.glob(f"step_*{storage.SUFFIX}"))
        # Names order checkpoints by env steps.
        self._own = [path for path in there if agent.num_timesteps and path.name <= self._path(agent).name]
        if len(self._own) < len(there):
            warnings.warn(
                f"{self.folder} holds {len(there) - len(self._own)} checkpoints of another training, such as "
                f"{there[-1].name}, which stay; give each training its own folder",
                stacklevel=4,
            )
        for unfinished in self.folder.glob(f".*{storage.SUFFIX}.*{files.UNFINISHED}"):
            unfinished.unlink()

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Save one checkpoint."""
        path = self._path(agent)
        if save_or_warn(agent, path) is None and self.keep is not None:
            self._own = [one for one in self._own if one != path] + [path]
            while len(self._own) > self.keep:
                self._own.pop(0).unlink(missing_ok=True)  # a user who deletes the run's folder may be faster
        return None

    def _path(self, agent: TrainedAgent) -> Path:
        return self.folder / f"step_{agent.num_timesteps:010d}{storage.SUFFIX}"

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Save the last checkpoint, unless a step of the optimizer was interrupted."""
        if not agent.can_be_saved:
            return
        path = self.folder / f"final{storage.SUFFIX}"
        self.error = save_or_warn(agent, path)
        if not isinstance(self.error, OSError):
            return
        instead = Path(tempfile.mkdtemp(prefix="rl_rms-")) / path.name
        if save_or_warn(agent, instead) is None:
            where = f"{instead}: move it to {self.folder} to resume"
            said = f"the agent of env step {agent.num_timesteps:,} is in {where}"
            self.error.args = (f"{self.error}. {said}",)
            warnings.warn(said, stacklevel=2)


class Evaluated(NamedTuple):
    """An evaluation with its settings.

    Attributes:
        num_timesteps: Env steps that the agent had lived.
        clock: The clock that was asked for, None where it stood.
        deterministic: Whether the most likely actions were played.
        evaluation: The result.
    """

    num_timesteps: int
    clock: int | None
    deterministic: bool
    evaluation: Evaluation


class HistogramCallback(Periodic):
    """Writes histograms of v and of the steps over coordinates to TensorBoard at regular env steps.

    The tags are ``optim/log10_second_moment`` and ``optim/log10_step``, see
    `rl_rms.optim.diagnostics.distributions`. Agents with another optimizer have none.
    """

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Write both histograms."""
        if isinstance(agent.optimizer, RMSprop):
            for name, values in distributions(agent.optimizer).items():
                logger.histogram(agent.num_timesteps, f"optim/{name}", values)
        return None


class EvalCallback(Periodic):
    """Plays whole episodes at regular env steps and at the end, beside the training.

    It logs ``eval/mean_reward``, ``eval/mean_ep_length`` and, where the environment reports successes,
    ``eval/success_rate``. With ``deterministic="both"`` it logs the same for drawn actions under
    ``eval/stochastic/``.

    The training is not disturbed. Evaluations are played in an environment of their own, or in the agent's, which
    is frozen meanwhile and then continues its episodes; the agent's random generator is restored, too. If the
    state of a wrapper cannot be restored, they are played in a copy, or there is a warning.

    Args:
        env: Environment of its own, on a clock of its own; None for the agent's, which then has to be a
            `rl_rms.envs.NonStationaryVector`.
        every: Env steps between two evaluations.
        episodes: Episodes of each.
        deterministic: Whether to play the most likely actions, or drawn ones, or ``"both"``, one after the other,
            of which the former decide on the best agent and on stopping.
        clocks: Values of the environment's clock, in env steps, at which it is evaluated:
            ``eval/mean_reward/at_<clock>``. None evaluates where the clock stands.
        best_path: File that the agent is saved to whenever its mean return, over all clocks, is the best so far.
        stop_at: Mean return, over all clocks, with which the training stops.
        patience: Evaluations in a row without a better mean return after which the training stops, >= 1.
        at_end: Whether to evaluate at the end of the training too.
        seed: Seeds the environment at each evaluation, >= 0. None derives another seed from the agent's, so that
            evaluations do not repeat the training's episodes.

    Attributes:
        results: All evaluations so far.
        best_mean_reward: The best mean return, over all clocks; ``-inf`` before the first.

    Raises:
        ValueError: If an argument is out of its range. When the training starts, if the agent's environment cannot
            be frozen.
    """

    def __init__(
        self,
        env: VectorEnv | None = None,
        every: int = 10_000,
        episodes: int = 10,
        deterministic: bool | Literal["both"] = True,
        clocks: Sequence[int] | None = None,
        best_path: str | Path | None = None,
        stop_at: float | None = None,
        patience: int | None = None,
        at_end: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(every, at_end=at_end)
        self.seed = None if seed is None else check_int("seed", seed, least=0)
        self.patience = None if patience is None else check_int("patience", patience, least=1, unit="evaluations")
        self.env = env
        self.episodes = check_int("episodes", episodes, least=1)
        if deterministic != "both":
            check_flag("deterministic", deterministic)
        self.deterministic = deterministic
        self.clocks = None if clocks is None else tuple(check_int("clocks", one, least=0) for one in clocks)
        self.best_path = None if best_path is None else Path(best_path)
        self.stop_at = None if stop_at is None else check_number("stop_at", stop_at)
        self.results: list[Evaluated] = []
        self.best_mean_reward = -math.inf
        self._since_best = 0
        self._has_warned = False

    def state_dict(self) -> dict[str, Any]:
        """The best mean return, and the evaluations since."""
        return {"best_mean_reward": self.best_mean_reward, "since_best": self._since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        self.best_mean_reward, self._since_best = float(state["best_mean_reward"]), int(state["since_best"])

    def metrics(self) -> Iterable[str]:
        """Mean returns."""
        return [f"eval/mean_reward{_at(clock)}" for clock in self.clocks or (None,)]

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Look for the next multiple.

        Raises:
            ValueError: If there is no environment to evaluate in.
        """
        super().on_training_start(agent, logger)
        self._find_env(agent)

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Evaluate once, at each of the clocks."""
        scalars: dict[str, float] = {}
        returns = []
        ways = (True, False) if self.deterministic == "both" else (bool(self.deterministic),)
        with agent.undisturbed():
            for clock in self.clocks or (None,):
                for way in ways:
                    result = self._evaluate(agent, clock, way)
                    self.results.append(Evaluated(agent.num_timesteps, clock, way, result))
                    kind = "eval" if way is ways[0] else "eval/stochastic"
                    suffix = _at(clock)
                    scalars[f"{kind}/mean_reward{suffix}"] = result.mean_reward
                    scalars[f"{kind}/mean_ep_length{suffix}"] = result.mean_ep_length
                    if len(result.successes):
                        scalars[f"{kind}/success_rate{suffix}"] = result.success_rate
                    if way is ways[0]:
                        returns.append(result.mean_reward)
        logger.write(agent.num_timesteps, scalars)
        return False if self._is_enough(agent, fmean(returns)) else None

    def _is_enough(self, agent: TrainedAgent, mean_reward: float) -> bool:
        """Whether the training is to stop; keeps the best agent."""
        self._since_best += 1
        if mean_reward > self.best_mean_reward:
            self.best_mean_reward, self._since_best = mean_reward, 0
            if self.best_path is not None:
                save_or_warn(agent, self.best_path)
        reached = self.stop_at is not None and mean_reward >= self.stop_at
        return reached or (self.patience is not None and self._since_best >= self.patience)

    def _evaluate(self, agent: TrainedAgent, clock: int | None, deterministic: bool) -> Evaluation:
        seed = evaluation_seed(agent.seed) if self.seed is None else self.seed
        play = partial(evaluate, agent, episodes=self.episodes, deterministic=deterministic, seed=seed)
        env = self._find_env(agent)
        copied = None if env is self.env else self._copy(agent)
        if copied is None:
            return play(env, clock=clock)
        world = find_changing(copied)
        assert isinstance(world, NonStationaryVector)
        try:
            with ExitStack() as stack:
                with warnings.catch_warnings():
                    # The copy needs no way back.
                    warnings.simplefilter("ignore")
                    stack.enter_context(world.frozen(clock))
                return play(copied)
        finally:
            copied.close()

    def _find_env(self, agent: TrainedAgent) -> VectorEnv:
        """The environment to evaluate in.

        Raises:
            ValueError: If there is none.
        """
        if self.env is not None:
            return self.env
        if agent.env is None or not isinstance(find_changing(agent.env), NonStationaryVector):
            raise ValueError(
                "EvalCallback needs an environment of its own, or an agent whose environment can be frozen; "
                "give env=..., or make the agent's with rl_rms.envs.make_vec"
            )
        return agent.env

    def _copy(self, agent: TrainedAgent) -> VectorEnv | None:
        """A copy of the agent's environment, or None if it can be restored or cannot be copied."""
        lost = agent.lost_wrappers
        if not lost or self._has_warned:
            return None
        assert agent.env is not None
        try:
            if isinstance(agent.env.unwrapped, AsyncVectorEnv):
                raise TypeError("its workers are other processes")
            return copy.deepcopy(agent.env)
        except Exception as error:
            self._has_warned = True
            warnings.warn(
                f"evaluations in the agent's environment change its training, since the state of "
                f"{' and '.join(lost)} cannot be restored and the environment cannot be copied "
                f"({type(error).__name__}: {error}); give EvalCallback env=...",
                stacklevel=2,
            )
            return None


def _at(clock: int | None) -> str:
    return "" if clock is None else f"/at_{clock}"


def as_callback(callback: CallbackLike | Iterable[CallbackLike] | None) -> CallbackList:
    """One callback from none, one or several callbacks or functions."""
    if callback is None:
        return CallbackList([])
    if isinstance(callback, Callback):
        return CallbackList([callback])
    if callable(callback):
        return CallbackList([_FunctionCallback(callback)])
    return CallbackList([one if isinstance(one, Callback) else _FunctionCallback(one) for one in callback])
