"""The training loop: collects rollouts, trains the policy, writes the log and calls the callbacks."""

import time
from collections.abc import Iterable
from functools import partial

import numpy as np
from torch import Tensor

from rl_rms.agents.acting import Actor
from rl_rms.agents.adaptation import AdaptationCallback
from rl_rms.agents.backends import Backend
from rl_rms.agents.callbacks import Callback, CallbackLike, as_callbacks
from rl_rms.agents.env_session import EnvSession
from rl_rms.agents.eval_callback import EvalCallback
from rl_rms.agents.interruption import STEPS_TO_INTERRUPT
from rl_rms.agents.learner import Learner
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.agents.rollout import Episode, Rollout, RolloutTotals
from rl_rms.agents.training_state import TrainingState

# Without a `log_interval`, the log gets about this many entries or more, unless there are fewer rollouts.
_FEWEST_ENTRIES = 100


class Trainer:
    """Trains an agent, alone or as one of several workers.

    Args:
        session: The environment and the episodes in progress.
        actor: Chooses the actions.
        learner: Takes the optimizer steps.
        training: The counters. The loop advances them.
        backend: Computes actions and gradients.
    """

    def __init__(
        self, session: EnvSession, actor: Actor, learner: Learner, training: TrainingState, backend: Backend
    ) -> None:
        self._session, self._actor, self._learner, self._training = session, actor, learner, training
        self.backend = backend
        self._workers = learner.workers

    def train(self, agent: TrainedAgent, callback: Callback, logger: Logger, log_interval: int | None) -> None:
        """Train until the target env steps, an interruption, or a callback that stops the training.

        Args:
            agent: The agent, for the callback.
            callback: Callback that is called after the updates on every rollout.
            logger: The log.
            log_interval: Rollouts between two entries of the log; see `Agent.learn` for None.
        """
        training, workers = self._training, self._workers
        began, first_step = time.perf_counter(), training.num_timesteps
        # Metrics cover all workers, so all workers compute them if any worker logs.
        logs = not workers.all_true(logger.folder is None)
        is_first, stops = True, False
        while training.num_timesteps < training.target_timesteps:
            # A single process always completes the first rollout, so that a run interrupted at its start has a
            # log.
            if workers.alone and not is_first and (stops or training.is_interrupted):
                return
            try:
                rollout, state = self.collect()
                before = training.num_timesteps
                totals = self._tally(rollout, stops=stops)
                if totals is None:
                    return
                is_last = training.num_timesteps >= training.target_timesteps
                is_due = logs and (is_first or is_last or self._is_due(log_interval, before))
                is_first = False
                metrics = self._learn(rollout, state, totals, logger, with_metrics=is_due)
            except BaseException:
                # A checkpoint that a callback saves after this error has no episodes in progress.
                self._session.abandon_episodes()
                raise
            if is_due:
                fps = (training.num_timesteps - first_step) / max(time.perf_counter() - began, 1e-9)
                self._log(logger, workers.mean(metrics, totals.share), fps)
            stops = callback.on_update(agent, logger) is False

    def _is_due(self, log_interval: int | None, before: int) -> bool:
        """Whether the log gets an entry after a rollout other than the first and the last.

        Args:
            log_interval: As for `train`.
            before: Env steps before the rollout.
        """
        training = self._training
        if log_interval is not None:
            return training.num_rollouts % log_interval == 0
        spacing = max(training.target_timesteps // _FEWEST_ENTRIES, 1)
        is_passed = training.num_timesteps // spacing > before // spacing
        return is_passed or training.num_rollouts % self._learner.config.default_log_interval == 0

    def start(self) -> None:
        """Reset the environment and restore its saved state, unless episodes are in progress."""
        if self._session.start(self._training.num_timesteps):
            self._learner.scaling.restart_returns()

    def collect(self) -> tuple[Rollout, Tensor | None]:
        """Collect one rollout, and return the rollout and the recurrent state before the first step."""
        self.start()
        collector = self._session.collector
        rollout_done = self._learner.rollout_done
        if self._learner.plays_whole_episodes:
            # The episodes in progress began before the last update, so they must not enter the rollout.
            collector.start(None)
            self._learner.scaling.restart_returns()
            rollout_done = self._all_done
        state = self._actor.state
        return collector.collect(partial(self._actor.act, self.backend), rollout_done), state

    def _all_done(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether the rollouts of all workers are complete.

        Raises:
            KeyboardInterrupt: If the training is interrupted while long episodes continue.
        """
        if self._workers.all_true(self._learner.rollout_done(num_steps, episodes)):
            return True
        self._session.collector.warn_of_long_episode()
        if num_steps and num_steps % STEPS_TO_INTERRUPT == 0:
            self._training.raise_if_interrupted(self._workers)
        return False

    def _tally(self, rollout: Rollout, *, stops: bool) -> RolloutTotals | None:
        """Add up the rollouts of all workers, and advance the counters.

        Args:
            rollout: This worker's rollout.
            stops: Whether this worker should stop.

        Returns:
            The totals; None if any of several workers should stop or was interrupted.
        """
        training, workers, collector = self._training, self._workers, self._session.collector
        env_steps, episodes = rollout.env_steps, rollout.episodes
        num_nonfinite = collector.pop_num_nonfinite()
        if workers.alone:
            is_unmasked = rollout.masked is None and env_steps > 0
            has_data = is_unmasked or bool(self._learner.loss_mask(rollout).any())
            totals = RolloutTotals(env_steps, has_data=has_data)
        else:
            in_loss = np.count_nonzero(self._learner.loss_mask(rollout))
            row = np.array([env_steps, in_loss, stops, training.is_interrupted, num_nonfinite], dtype=np.float64)
            rows, episodes = workers.gather_rollouts(row, episodes, rollout.valid.shape[1])
            training.is_interrupted = bool(rows[:, 3].any())
            if training.is_interrupted or rows[:, 2].any():
                self._session.set_clock(training.num_timesteps)  # without the env steps of this rollout
                return None
            share = in_loss / max(rows[:, 1].sum(), 1.0)
            totals = RolloutTotals(int(rows[:, 0].sum()), float(share), bool(rows[:, 1].any()))
            num_nonfinite = int(rows[:, 4].sum())
        training.num_nonfinite += num_nonfinite
        training.num_timesteps += totals.env_steps
        training.num_rollouts += 1
        training.new_episodes = episodes
        training.episodes.extend(episodes)
        if not workers.alone:
            self._session.set_clock(training.num_timesteps)
        return totals

    def _learn(
        self, rollout: Rollout, state: Tensor | None, totals: RolloutTotals, logger: Logger, *, with_metrics: bool
    ) -> dict[str, float]:
        """Respond to a change of regime, learn from a rollout, and return the metrics by TensorBoard tag."""
        training, learner, changing = self._training, self._learner, self._session.changing
        regime = self._session.regime()
        if regime is not None and learner.enter_regime(regime):
            logger.mark(training.num_timesteps, f"regime {regime}", learner.config.on_change)
        if changing is not None and changing.curriculum is not None:
            # A curriculum's timescale depends on the episodes.
            learner.set_timescale(changing.timescale)
        update = learner.update(
            self.backend, rollout, state, totals, training.num_timesteps, with_metrics=with_metrics
        )
        if update.has_jump:
            logger.mark(training.num_timesteps, "jump of observations", "forget")
        num_nonfinite = update.num_nonfinite
        if learner.sync == "local":
            # Each worker counts only its own gradients.
            num_nonfinite = int(self._workers.sum(np.array([num_nonfinite], dtype=np.float64))[0])
        training.num_nonfinite += num_nonfinite
        return update.metrics

    def _log(self, logger: Logger, metrics: dict[str, float], fps: float) -> None:
        training, learner = self._training, self._learner
        scalars = {**metrics, **training.scalars(), "time/fps": fps, "train/n_updates": float(learner.num_updates)}
        if learner.config.on_nonfinite != "raise":
            scalars["train/num_nonfinite"] = float(training.num_nonfinite)
        scalars.update(learner.scalars(training.num_timesteps))
        scalars.update(self._session.scalars())
        scalars.update(self._session.pop_info_means())
        logger.write(training.num_timesteps, scalars)


def training_callbacks(
    agent: TrainedAgent,
    callback: CallbackLike | Iterable[CallbackLike] | None,
    *,
    logs: bool,
    progress_bar: bool,
) -> list[Callback]:
    """The callbacks of a training run, in the order of their calls.

    Args:
        agent: The agent.
        callback: The user's callbacks, see `rl_rms.agents.agent.Agent.learn`.
        logs: Whether the training writes a log.
        progress_bar: Whether to show progress.
    """
    callbacks = as_callbacks(callback)
    logs_regimes = logs and agent.session.changing is not None
    if logs_regimes and not any(isinstance(one, AdaptationCallback) for one in callbacks):
        callbacks.insert(0, AdaptationCallback())  # before the user's callbacks, which may save the agent
    if progress_bar:
        from rl_rms.agents.progress import ProgressCallback

        evaluations = [one for one in callbacks if isinstance(one, EvalCallback)]
        callbacks.append(ProgressCallback(evaluations=evaluations))
    return callbacks
