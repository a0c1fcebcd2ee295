"""``rl-rms sweep SWEEP``: searches hyperparameters with Optuna, in several processes on one or more machines."""

import csv
import io
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.agents.interruption import signals_deferred
from rl_rms.cli.config import packaged_configs
from rl_rms.cli.console import Counter, make_console
from rl_rms.cli.errors import UserError
from rl_rms.cli.parser import Parser
from rl_rms.cli.scale import require_ray
from rl_rms.cli.search import STRETCHES, Engine, Search, read_search
from rl_rms.cli.signals import sigterm_raises, status_of
from rl_rms.cli.trials import counted, open_study, results, retry_stale, work
from rl_rms.cli.trust import see_working_folder

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_SHOWN = 10
_LOOK_EVERY = 0.5


def main(argv: Sequence[str]) -> int:
    """Run a sweep with the arguments after ``rl-rms sweep``.

    Raises:
        UserError: If the sweep or an option is wrong, or the storage cannot be opened.
    """
    parser = Parser(
        prog="rl-rms sweep",
        usage="rl-rms sweep SWEEP [--OPTION VALUE ...]",
        description=(
            "Search hyperparameters. SWEEP is a YAML file or the name of a packaged sweep. The same command "
            "continues a stopped sweep. To divide the work, run it on several machines that share a storage."
        ),
        examples=[
            "rl-rms sweep half_life_cartpole",
            "rl-rms sweep half_life_cartpole --trials 20 --workers 4",
            "rl-rms sweep half_life_cartpole --storage sqlite:///half_life.db",
        ],
    )
    parser.add_name(
        "sweep",
        packaged_configs("sweep"),
        "yaml",
        metavar="SWEEP",
        help="YAML file, or the name of a packaged sweep.",
    )
    parser.add_argument(
        "--trials",
        type=int | None,
        default=None,
        help="Number of trials; by default the number in the file.",
    )
    parser.add_argument("--workers", type=int, default=2, help="Processes that train at the same time, >= 1.")
    parser.add_argument(
        "--storage",
        type=str | None,
        default=None,
        help="SQLite file, or URL of a database that several machines share; by default study.db in the sweep's "
        "folder.",
    )
    parser.add_argument("--sweeps_dir", type=str, default="sweeps", help="Parent folder of the sweeps' folders.")
    parser.add_argument(
        "--engine", type=Engine, default="local", help="local (processes) or ray (tasks of a Ray cluster)."
    )
    arguments = parser.parse_args(list(argv))
    if arguments.workers < 1:
        raise UserError(f"--workers must be >= 1, got {arguments.workers}")
    see_working_folder()
    search = read_search(arguments.sweep, {} if arguments.trials is None else {"trials": arguments.trials})
    folder = Path(arguments.sweeps_dir) / search.name
    storage = arguments.storage or str((folder / "study.db").absolute())
    return sweep(search, folder, storage, arguments.workers, arguments.engine)


def sweep(search: Search, folder: Path, storage: str, workers: int, engine: Engine = "local") -> int:
    """Run or continue a sweep, and report its results."""
    console = make_console()
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(search, storage)
    console.print(
        f"sweep {search.name}: {search.sweep.num_trials} trials of {len(search.sweep.seeds)} seeds over "
        f"{', '.join(search.sweep.vary)}, {workers} {'worker' if workers == 1 else 'workers'}",
        soft_wrap=True,
    )
    status = 0
    try:
        pool = LocalWorkers(search, storage) if engine == "local" else _Ray(search, storage)
        with pool, Counter(console, "training runs") as counter:
            _supervise(study, search, pool, workers, console, counter)
    except KeyboardInterrupt as interrupt:
        status = status_of(interrupt)
    report(study, search, folder, console)
    if status:
        console.print("interrupted; resume with the same command")
    return status


def _supervise(
    study: "optuna.Study",
    search: Search,
    pool: "LocalWorkers | _Ray",
    workers: int,
    console: Any,
    counter: Counter,
) -> None:
    """Keep workers running until all trials have ended."""
    from optuna.trial import TrialState

    shown: set[int] = set()
    while True:
        retry_stale(study)
        trials = counted(study.get_trials(deepcopy=False))
        ended = [one for one in trials if one.state.is_finished()]
        for trial in ended:
            if trial.number not in shown:
                shown.add(trial.number)
                value = "" if trial.state is not TrialState.COMPLETE else f" {trial.value:.1f}"
                console.print(
                    f"[{len(shown)}/{search.sweep.num_trials}] trial {trial.number}, "
                    f"{', '.join(f'{_last(key)} {_short(one)}' for key, one in trial.params.items())}: "
                    f"{trial.state.name.lower()}{value}",
                    soft_wrap=True,
                )
        if len(ended) >= search.sweep.num_trials:
            return
        counter.show(*_trainings(ended, trials, search))
        begun = sum(one.state is not TrialState.WAITING for one in trials)
        pool.keep(min(workers, pool.busy() + search.sweep.num_trials - begun))
        time.sleep(_LOOK_EVERY)


def _trainings(ended: "Sequence[FrozenTrial]", trials: "Sequence[FrozenTrial]", search: Search) -> tuple[int, int]:
    """Return the numbers of finished and of all training runs. A trial has one training run for each seed."""
    of_trial = len(search.sweep.seeds)
    running = sum(
        (one.last_step + 1) // STRETCHES for one in trials if one not in ended and one.last_step is not None
    )
    return len(ended) * of_trial + running, search.sweep.num_trials * of_trial


class LocalWorkers:
    """Workers that are processes of this machine."""

    def __init__(self, search: Search, storage: str) -> None:
        self._given = (search, storage, os.getpid())
        # Processes are not forked, because threads of torch and Optuna do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []

    def busy(self) -> int:
        """Return the number of running workers.

        Raises:
            RuntimeError: If a worker ended with an error. A killed worker raises nothing.
        """
        if any((one.exitcode or 0) > 0 for one in self._processes):
            raise RuntimeError("a worker of the sweep ended with an error, which is printed above")
        self._processes = [one for one in self._processes if one.is_alive()]
        return len(self._processes)

    def keep(self, number: int) -> None:
        """Start workers until ``number`` workers run."""
        for _ in range(number - self.busy()):
            process = self._context.Process(target=_work_until_terminated, args=self._given)
            with signals_deferred():
                process.start()
                self._processes.append(process)

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(self, *raised: Any) -> None:
        for process in self._processes:
            if raised[0] is not None:
                process.terminate()
            process.join()


def _work_until_terminated(search: Search, storage: str, parent: int) -> None:
    """Train trials, and ignore Ctrl-C, which would make the trial fail. After Ctrl-C, the parent sends SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(search, storage, parent)


class _Ray:
    """Workers that are tasks of a Ray cluster, whose machines share the storage.

    Raises:
        UserError: If Ray is not installed.
    """

    def __init__(self, search: Search, storage: str) -> None:
        require_ray("ray", "--engine ray needs Ray", "ray")
        import ray

        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(work)
        self._given = (search, storage)
        self._running: list[Any] = []

    def busy(self) -> int:
        """Return the number of running workers."""
        if self._running:
            ended, self._running = self._ray.wait(self._running, num_returns=len(self._running), timeout=0)
            self._ray.get(ended)  # ray.get raises the worker's error
        return len(self._running)

    def keep(self, number: int) -> None:
        """Start workers until ``number`` workers run."""
        for _ in range(number - self.busy()):
            self._running.append(self._task.remote(*self._given))

    def __enter__(self) -> "_Ray":
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False)
        self._signals = sigterm_raises()  # Ray's own SIGTERM handler would abort the process
        self._signals.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            if raised[0] is None:
                # A worker may have begun a trial that the sweep does not need. The wait lets it end the trial.
                self._ray.get(self._running)
        finally:
            self._signals.__exit__(None, None, None)
            self._ray.shutdown()


# -- reporting --------------------------------------------------------------------------------------------


def report(study: "optuna.Study", search: Search, folder: Path, console: Any) -> None:
    """Write ``trials.csv``, ``best.yaml`` and the plots, and print the best trials."""
    from rich.table import Table

    rows = results(study.get_trials(deepcopy=False), search)
    done = [row for row in rows if row["value"] is not None]
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
        files.write(folder / "trials.csv", text.getvalue())
    if done:
        columns = ["trial", "value", *search.sweep.vary, *(f"seed {seed}" for seed in search.sweep.seeds)]
        table = Table(*map(_last, columns))
        for row in done[:_SHOWN]:
            table.add_row(*(_short(row[column]) for column in columns))
        console.print(table)
    failed = [row for row in rows if row["error"] is not None]
    if failed:
        console.print(f"failed trials: {len(failed)}. The first error is: {failed[0]['error']}")
    if not done:
        return
    best = max(study.best_trials, key=lambda one: one.value or -math.inf)
    chosen = {key: one.suggest(best, key) for key, one in search.sweep.distributions.items()}
    files.write(folder / "best.yaml", search.run_config(chosen, search.sweep.seeds[0]).to_yaml())
    lines = {"best": f"rl-rms train {folder / 'best.yaml'}", "trials": folder / "trials.csv"}
    if len(done) > 1:
        importances = _importances(study)
        if importances:
            lines["importances"] = ", ".join(f"{_last(key)} {share:.2f}" for key, share in importances.items())
        _draw(study, search, folder, importances)
        lines["plots"] = folder / "*.png"
    for key, value in lines.items():
        console.print(f"{key:<12} {value}", soft_wrap=True)


def _importances(study: "optuna.Study") -> dict[str, float]:
    """Compute the fANOVA importances of the hyperparameters, which sum to 1.

    The result is empty if all values are equal, or if fewer than two hyperparameters vary.
    """
    import optuna

    values = {
        trial.value for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    }
    if len(values) < 2 or len(study.best_params) < 2:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=_evaluator())


def _evaluator() -> Any:
    """Make the fANOVA evaluator for the printed importances and their plot."""
    import optuna

    return optuna.importance.FanovaImportanceEvaluator(seed=0)


def _draw(study: "optuna.Study", search: Search, folder: Path, importances: dict[str, float]) -> None:
    """Draw Optuna's standard plots."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import optuna.visualization.matplotlib as draw

    from rl_rms.cli.plots import space_ticks
    from rl_rms.cli.samplers import experimental
    from rl_rms.studies.drawing import figure_bytes

    keys = list(search.sweep.vary)
    plots: dict[str, Any] = {
        "history": lambda: draw.plot_optimization_history(study),
        "slices": lambda: draw.plot_slice(study),
    }
    if importances:
        plots["importances"] = lambda: draw.plot_param_importances(study, evaluator=_evaluator())
    if len(keys) > 1:
        plots["contour"] = lambda: draw.plot_contour(study, params=keys[:2])
    if search.sweep.pruner != "none":
        plots["on_the_way"] = lambda: draw.plot_intermediate_values(study)
    for name, make in plots.items():
        with experimental():
            make()
        figure = plt.gcf()
        if name == "slices":
            figure.set_size_inches(max(3.2 * len(keys), 6.4), 4.8)
        space_ticks(figure)
        for axes in figure.axes:
            if axes.get_ylabel() == "Objective Value":
                axes.set_ylabel(f"return, {search.sweep.metric.replace('_', ' ')}")
        files.write(folder / f"{name}.png", figure_bytes(figure, "png", dpi=110, bbox_inches="tight"))
        plt.close("all")


def _last(key: str) -> str:
    """Return the last word of a dotted key."""
    return key.rsplit(".", 1)[-1]


def _short(value: Any) -> str:
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
