"""A sweep's trials: trained by worker processes that share nothing but an Optuna storage.

A worker writes into its trial who it is, that it is alive, and the returns of each seed that it has finished. Who
starts the sweep again, here or on another machine, finds trials whose worker died and gives their point to a new
trial; no seed is trained twice.
"""

import math
import os
import socket
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.cli.config import RunConfig
from rl_rms.cli.errors import UserError
from rl_rms.cli.search import STRETCHES, Metric, Search

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

# Seconds between two signs of life of a worker, and after which one without any is taken for dead.
PULSE, PATIENCE = 15, 120
# What a trial's user attributes are called.
WORKER, ALIVE, CONTINUES, EVICTED, WITHDRAWN, ERROR = (
    "worker",
    "alive",
    "continues",
    "evicted",
    "withdrawn",
    "error",
)


def require_optuna() -> Any:
    """The module optuna, told to speak up only where something is wrong.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "sweeps need Optuna, which is not installed; install it with pip install 'rl_rms[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


# -- the storage ------------------------------------------------------------------------------------------


def open_study(search: Search, storage: str) -> "optuna.Study":
    """A sweep's study, made if it is not there yet.

    Args:
        search: The sweep.
        storage: Path of a journal file, which several machines may share, or an RDB's URL.

    Raises:
        UserError: If the storage cannot be opened, is damaged, or holds another sweep of the same name.
    """
    optuna = require_optuna()
    from optuna.exceptions import OptunaError
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from sqlalchemy.exc import SQLAlchemyError

    from rl_rms.cli.samplers import make_pruner, make_sampler

    sampler, pruner = make_sampler(search), make_pruner(search)
    if Path(storage).is_symlink():
        raise UserError(f"--storage {storage} is a link, which is not followed; give the file that it links to")
    try:
        if "://" in storage:
            opened: Any = storage
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            lock = JournalFileSymlinkLock(storage)
            backend = JournalFileBackend(storage, lock_obj=lock)
            cut_torn_line(Path(storage), lock)
            opened = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(
            study_name=search.name,
            storage=opened,
            sampler=sampler,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
    except OSError as error:
        raise UserError(f"cannot open the sweep's storage {storage}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OptunaError, SQLAlchemyError) as error:
        raise UserError(
            f"the sweep's storage {storage} is damaged: {error}; put back a copy, or give another --storage"
        ) from error
    now = search.question()
    then = study.user_attrs.get("sweep")
    if then is None:
        study.set_user_attr("sweep", now)
    elif then != now:
        key = next(key for key in now if then.get(key) != now[key])
        raise UserError(
            f"{storage} holds a sweep {search.name!r} with another {key}: {then.get(key)!r}, not {now[key]!r}; "
            "give this one another --storage, or rename its file"
        )
    return study  # type: ignore[no-any-return]


def cut_torn_line(path: Path, lock: Any) -> None:
    """Cut off a journal's last line if a crash tore it, or Optuna would append to it. A copy and a message remain.

    Args:
        path: The journal.
        lock: Optuna's lock for it, which keeps other processes from writing meanwhile.
    """
    lock.acquire()
    try:
        with path.open("r+b") as file:
            content = file.read()
            end = content.rfind(b"\n") + 1
            if end == len(content):
                return
            torn = path.with_name(f"{path.name}.torn")
            files.write(torn, content[end:])
            file.truncate(end)
    finally:
        lock.release()
    print(
        f"{path}: the last line was cut off by a crash; it is now in {torn}, and all others are used",
        file=sys.stderr,
    )


# -- who is alive -----------------------------------------------------------------------------------------


def me() -> str:
    """This process, told from every other on every machine, also from later ones with its number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process of this machine was started, in a unit of the system's; empty where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def is_dead(worker: str) -> bool | None:
    """Whether a worker is dead; None for one of another machine, which only its pulse tells."""
    host, pid, started = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(pid)) != started


class Watch:
    """Knows which workers of other machines have stopped giving signs of life.

    Args:
        clock: Seconds, for their patience.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_dead(self, trial: "FrozenTrial") -> bool:
        """Whether a running trial's worker is dead."""
        dead = is_dead(trial.user_attrs[WORKER]) if WORKER in trial.user_attrs else None
        if dead is not None:
            return dead
        pulse, now = trial.user_attrs.get(ALIVE), self._clock()
        if trial.number not in self._seen or self._seen[trial.number][0] != pulse:
            self._seen[trial.number] = pulse, now
        return now - self._seen[trial.number][1] > PATIENCE  # type: ignore[no-any-return]


def reclaim(study: "optuna.Study", watch: Watch) -> list[int]:
    """Give the points of trials whose worker died to new trials, with the seeds that were finished.

    Returns:
        The numbers of these trials.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state is TrialState.RUNNING and watch.is_dead(trial):
            study._storage.set_trial_user_attr(trial._trial_id, EVICTED, True)
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    continued = {trial.user_attrs.get(CONTINUES) for trial in trials}
    taken_over = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        # Also one whose evictor died before it could do this.
        if trial.user_attrs.get(EVICTED) and trial.number not in continued:
            kept = {key: value for key, value in trial.user_attrs.items() if key.startswith("seed ")}
            study.enqueue_trial(trial.params, {**kept, CONTINUES: trial.number})
            taken_over.append(trial.number)
    return taken_over


def counted(trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
    """The trials that count for a sweep's number of them: those that were neither taken over nor withdrawn."""
    return [one for one in trials if not one.user_attrs.get(EVICTED) and not one.user_attrs.get(WITHDRAWN)]


# -- working ----------------------------------------------------------------------------------------------


def is_orphan(parent: int | None) -> bool:
    """Whether the process that was to wait for this one is gone."""
    return parent is not None and os.getppid() != parent


def work(search: Search, storage: str, parent: int | None = None) -> None:
    """Train trials until the sweep has enough of them.

    Args:
        search: The sweep.
        storage: See `open_study`.
        parent: Process without which there is to be no more work; None for none.
    """
    from optuna.trial import TrialState

    study = open_study(search, storage)
    while not is_orphan(parent):
        trial = study.ask()
        earlier = [one for one in counted(study.get_trials(deepcopy=False)) if one.number < trial.number]
        if len(earlier) >= search.sweep.num_trials:
            # Another worker was faster.
            trial.set_user_attr(WITHDRAWN, True)
            study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr(WORKER, me())
        with _pulse(trial, parent):
            _do(study, trial, search)


def _do(study: "optuna.Study", trial: "Trial", search: Search) -> None:
    """Train one trial and tell its value."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    try:
        value = objective(trial, search)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (UserError, ValueError, RuntimeError, FloatingPointError) as error:
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)


def objective(trial: "Trial", search: Search) -> float:
    """Train a point with every seed, and report its return on the way.

    Args:
        trial: Optuna's trial.
        search: The sweep.

    Returns:
        The median over seeds.
    """
    from optuna import TrialPruned

    sweep = search.sweep
    values = {key: one.suggest(trial, key) for key, one in sweep.distributions.items()}
    by_seed = sweep.pruner == "wilcoxon"
    scores: list[float] = []
    for index, seed in enumerate(sweep.seeds):
        key = f"seed {seed}"

        def report(stretch: int, so_far: float, index: int = index) -> None:
            if not by_seed and sweep.pruner != "none":
                trial.report(statistics.fmean([*scores, so_far]), index * STRETCHES + stretch)
                if trial.should_prune():
                    raise TrialPruned

        done = trial.user_attrs.get(key)
        if done is None:
            done = train(search.run_config(values, seed), sweep.metric, report)
            trial.set_user_attr(key, done)
        scores.append(done["score"])
        if by_seed:
            trial.report(done["score"], index)
            if trial.should_prune():
                raise TrialPruned
    return statistics.median(scores)


def train(config: RunConfig, metric: Metric, report: Any) -> dict[str, Any]:
    """One training.

    Args:
        config: The run; nothing is written.
        metric: See `rl_rms.cli.search.SweepConfig`.
        report: Called after each stretch with its number and the mean return of the stretches so far.

    Returns:
        ``score``, and ``stretches``: the mean return of the episodes that ended in each twentieth of the env
        steps; in one without any, that of the stretch before.
    """
    import torch

    from rl_rms.agents.adaptation import AdaptationCallback
    from rl_rms.agents.agent import Agent
    from rl_rms.cli.train import build, make_env

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
        raise ValueError("no episode ended in the whole training; take more total_timesteps")
    scores = {
        "life": statistics.fmean(means),
        "final": statistics.fmean(episode.ret for episode in agent.episodes),
        "worst_regime": adaptation.worst.mean,
    }
    return {"score": scores[metric], "stretches": means}


@contextmanager
def _pulse(trial: "Trial", parent: int | None) -> Iterator[None]:
    """Give signs of life while a trial is trained, and end where the process that started this one is gone."""
    over = threading.Event()

    def beat() -> None:
        seconds = 0
        while not over.wait(1.0 if seconds else 0.0):
            if is_orphan(parent):
                os._exit(1)  # whoever goes on with the sweep finds this trial and its finished seeds
            if seconds % PULSE == 0:
                trial.set_user_attr(ALIVE, seconds)
            seconds += 1

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def results(trials: "Sequence[FrozenTrial]", search: Search) -> list[dict[str, Any]]:
    """The trials as rows, best first, and those without a value last."""
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
