"""Trains the trials of a sweep in worker processes that share an Optuna storage.

Optuna's heartbeats show which workers are alive. If the worker of a trial dies, a new trial with the same
parameters replaces the trial. The new trial keeps the scores of finished seeds, which are not trained again.
"""

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.cli.config import RunConfig
from rl_rms.cli.errors import UserError, require
from rl_rms.cli.search import STRETCHES, Metric, Search

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

# Seconds between two heartbeats, and seconds without a heartbeat after which another worker takes the trial.
HEARTBEAT, GRACE = 5, 30
# Names of a trial's user attributes.
BEGUN, ERROR = "begun", "error"
# These exceptions end only the trial. Other exceptions end the sweep.
_FAILURES = (UserError, ValueError, RuntimeError, FloatingPointError)


class _SuperfluousError(Exception):
    """Raised if this trial is a second copy of a retried trial, or if the sweep has enough trials."""


def open_study(search: Search, storage: str) -> "optuna.Study":
    """Open the study of a sweep, or create it.

    Args:
        search: The sweep.
        storage: Path of an SQLite file, or the URL of a database.

    Raises:
        UserError: If the storage cannot be opened, is a link, is damaged, or has another sweep of the same name.
    """
    require("sweep", "sweeps need Optuna", "optuna")
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    from rl_rms.cli.samplers import experimental, make_pruner, make_sampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_file = "://" not in storage
    if is_file and Path(storage).is_symlink():
        raise UserError(
            f"--storage {storage} must not be a link, because links are not followed; give the link's target"
        )
    try:
        if is_file:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{storage}" if is_file else storage
        with experimental():
            database = optuna.storages.RDBStorage(
                url,
                engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
        study = optuna.create_study(
            study_name=search.name,
            storage=database,
            sampler=make_sampler(search),
            pruner=make_pruner(search),
            direction="maximize",
            load_if_exists=True,
        )
    except OSError as error:
        raise UserError(f"cannot open the sweep's storage {storage}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OptunaError, SQLAlchemyError) as error:
        raise UserError(
            f"the sweep's storage {storage} is damaged or unusable: {' '.join(str(error).split())}; put back a "
            "copy, or give another --storage"
        ) from error
    now = search.question()
    then = study.user_attrs.get("sweep")
    if then is None:
        study.set_user_attr("sweep", now)
    else:
        _check_same(storage, search, {**then, **then.get("values", now["values"])}, {**now, **now["values"]})
    return study


def _check_same(storage: str, search: Search, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the sweep in a storage has the settings of a search.

    Raises:
        UserError: If a setting differs.
    """
    for key in {**now, **then}:
        old, new = (one.get(key, "not set") for one in (then, now))
        if old != new and key != "values":
            raise UserError(
                f"{storage} has a sweep {search.name!r} whose {key} is {old!r}, not {new!r}; give another "
                "--storage, or rename the sweep's file"
            )


def retry_stale(study: "optuna.Study") -> None:
    """Add a new trial for each trial whose worker died, with the same parameters and finished seeds."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
    from optuna.trial import TrialState

    from rl_rms.cli.samplers import experimental

    with experimental():
        fail_stale_trials(study)
        oldest = datetime.now() - timedelta(seconds=GRACE)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Optuna does not detect a worker that died before its first heartbeat.
            if trial.user_attrs.get(BEGUN) != trial.number and trial.datetime_start < oldest:  # type: ignore[operator]
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                RetryHeartbeatStaleTrialCallback()(study, trial)


def counted(trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
    """Leave out trials that the sweep does not need, trials whose worker died, and copies of retried trials."""
    kept = []
    retried = set[tuple[int, ...]]()
    for trial in trials:
        history = tuple(trial.system_attrs.get("retry_history", ()))
        # Two processes may retry one trial at the same time, because SQLite does not lock rows.
        is_copy = bool(history) and history in retried
        retried.add(history)
        if not is_copy and (trial.state.name != "FAIL" or ERROR in trial.user_attrs):
            kept.append(trial)
    return kept


def is_orphan(parent: int | None) -> bool:
    """Whether the parent process has ended."""
    return parent is not None and os.getppid() != parent


def work(search: Search, storage: str, parent: int | None = None) -> None:
    """Train trials until the sweep has enough trials.

    Args:
        search: The sweep.
        storage: See `open_study`.
        parent: Process id of the parent; None for no parent. If the parent ends, work stops after the current
            trial.
    """
    study = open_study(search, storage)

    def train_one(trial: "Trial") -> float:
        numbers = [one.number for one in counted(study.get_trials(deepcopy=False)) if one.number <= trial.number]
        if len(numbers) > search.sweep.num_trials:
            study.stop()
            raise _SuperfluousError
        if trial.number not in numbers:
            raise _SuperfluousError
        trial.set_user_attr(BEGUN, trial.number)
        try:
            return objective(trial, search)
        except _FAILURES as error:
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
            raise
        finally:
            if is_orphan(parent):
                study.stop()

    if not is_orphan(parent):
        study.optimize(train_one, catch=(*_FAILURES, _SuperfluousError))


def objective(trial: "Trial", search: Search) -> float:
    """Train one agent for each unfinished seed of a trial, and report intermediate returns.

    Returns:
        The median of the scores over seeds.
    """
    from optuna import TrialPruned

    sweep = search.sweep
    values = {key: one.suggest(trial, key) for key, one in sweep.distributions.items()}
    scores: list[float] = []
    for index, seed in enumerate(sweep.seeds):

        def report(stretch: int, so_far: float, index: int = index) -> None:
            trial.report(statistics.fmean([*scores, so_far]), index * STRETCHES + stretch)
            if trial.should_prune():
                raise TrialPruned

        done = trial.user_attrs.get(f"seed {seed}")
        if done is None:
            done = train(search.run_config(values, seed), sweep.metric, report)
            trial.set_user_attr(f"seed {seed}", done)
        scores.append(done["score"])
    return statistics.median(scores)


def train(config: RunConfig, metric: Metric, report: Callable[[int, float], None]) -> dict[str, Any]:
    """Train one agent without writing files, and report the return so far after each twentieth of the env steps.

    Args:
        config: Configuration of the run.
        metric: Return that is the score; see `rl_rms.cli.search.SweepConfig`.
        report: Function of the index of the twentieth, from 0, and the mean over the twentieths so far.

    Returns:
        ``score``, and ``stretches``: the mean return of the episodes that ended in each twentieth of the env
        steps. A twentieth without episodes has the mean of the previous twentieth. Twentieths before the end of
        the first episode have the mean of the first twentieth in which an episode ends.
    """
    import torch

    from rl_rms.agents.adaptation import AdaptationCallback
    from rl_rms.agents.agent import Agent
    from rl_rms.cli.build import build, make_env

    torch.set_num_threads(config.num_threads)
    env = make_env(config)
    agent = build(config, env)
    adaptation = AdaptationCallback()
    means: list[float] = []
    inside: list[float] = []

    def follow(trained: Agent) -> None:
        inside.extend(episode.ret for episode in trained.new_episodes)
        reached = min(trained.num_timesteps * STRETCHES // config.total_timesteps, STRETCHES)
        while len(means) < reached:
            if inside or means:
                means.append(statistics.fmean(inside) if inside else means[-1])
                report(len(means) - 1, statistics.fmean(means))
            else:
                break  # no episode has ended yet
            inside.clear()

    try:
        agent.learn(config.total_timesteps, [follow, adaptation], log_interval=config.log_interval)
    finally:
        env.close()
    if not agent.episodes:
        raise ValueError("no episode ended in the whole training run; increase total_timesteps")
    scores = {
        "whole_run": statistics.fmean(means),
        "final": statistics.fmean(episode.ret for episode in agent.episodes),
        "worst_regime": adaptation.worst.mean,
    }
    return {"score": scores[metric], "stretches": means}


def results(trials: "Sequence[FrozenTrial]", search: Search) -> list[dict[str, Any]]:
    """Return the trials as rows. The best trial is the first row, and trials without a value are the last rows."""
    rows = []
    for trial in counted(trials):
        scores = {
            f"seed {seed}": trial.user_attrs.get(f"seed {seed}", {}).get("score") for seed in search.sweep.seeds
        }
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state.name == "COMPLETE" else None,
                **{key: trial.params.get(key) for key in search.sweep.vary},
                **scores,
                "error": trial.user_attrs.get(ERROR),
            }
        )
    return sorted(rows, key=lambda row: -math.inf if row["value"] is None else row["value"], reverse=True)
