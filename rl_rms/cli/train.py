"""``rl-rms train CONFIG``: trains a run in one process or several, and writes its folder."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.agents.config_file import CONFIG
from rl_rms.cli.build import build, check_video, make_env, make_rendered_env, print_cause
from rl_rms.cli.callbacks import make_named
from rl_rms.cli.config import RunConfig, find_config, parse_config
from rl_rms.cli.console import make_console, shown_return
from rl_rms.cli.errors import UserError
from rl_rms.cli.keys import help_of
from rl_rms.cli.runs import (
    CHECKPOINTS,
    best_checkpoint,
    find_unfinished,
    new_folder,
    newest_checkpoint,
    read_summary,
    require_checkpoint,
    wall_time,
    write_summary,
)
from rl_rms.cli.scale import process_group, require_ray_train, run_with_ray, was_restarted
from rl_rms.cli.seeds import check_one_process, parse_jobs, parse_seeds, take_options, train_seeds
from rl_rms.cli.signals import signals_interrupt, status_of
from rl_rms.cli.trust import see_working_folder
from rl_rms.cli.yaml_files import read_file

if TYPE_CHECKING:
    from rich.console import Console

    from rl_rms.agents.adaptation import AdaptationCallback
    from rl_rms.agents.agent import Agent
    from rl_rms.agents.callbacks import Callback
    from rl_rms.agents.workers import Workers

INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Train an agent with the arguments after ``rl-rms train``.

    Raises:
        UserError: If an argument or the configuration is wrong, or an error ends the training.
    """
    words = list(argv)
    config = words.pop(0) if words and not words[0].startswith("-") else None
    asked = help_of(config, words)
    if asked is not None:
        print(asked, end="")
        return 0
    if config is None:
        raise UserError(
            "rl-rms train needs a configuration: a YAML file or a packaged name; see rl-rms train --help"
        )
    see_working_folder()
    path = find_config(config)
    words, options = take_options(words)
    tree = read_file(path, config)
    if not options:
        return train(parse_config(tree, words), path.stem)
    if "--seeds" not in options:
        raise UserError("--jobs needs --seeds, such as --seeds 0-4")
    seeds, jobs = parse_seeds(options["--seeds"]), parse_jobs(options.get("--jobs"))
    parsed = parse_config(tree, words)
    check_one_process(parsed, words)
    command = [sys.executable, "-m", "rl_rms.cli.main", "train", config, *words]
    return train_seeds(parsed, command, seeds, jobs)


def train(config: RunConfig, name: str) -> int:
    """Train with a configuration in a new folder ``<runs_dir>/<name>/<date-time>-seed<seed>``.

    If torchrun restarted the workers, they continue the newest unfinished run of this configuration, if there is
    one.

    Returns:
        Exit status: 0, or 130 if the run was interrupted (143 by SIGTERM).

    Raises:
        UserError: If the environment does not support the configuration, or an error ends the training.
    """
    if config.scale.engine == "ray":
        require_ray_train()
        _try_first_worker(config)
        return train_with_ray(config, begin(config, name))
    with process_group(config.scale) as workers:
        if was_restarted():
            parent = Path(config.runs_dir) / name
            unfinished: Path | None = workers.broadcast(
                find_unfinished(parent, config) if workers.rank == 0 else None
            )
            if unfinished is not None:
                return continue_run(config, unfinished, can_begin=True)
        agent = build(config, make_env(config, workers), workers)
        check_video(config, agent)
        callbacks = make_named(config.callbacks)
        # The folder is made after all checks, so that a wrong configuration does not leave a folder.
        folder = workers.broadcast(begin(config, name) if workers.rank == 0 else None)
        with owned_by(workers, folder):
            return run(config, agent, folder, callbacks)


def _try_first_worker(config: RunConfig) -> None:
    """Build the environment, the agent and the callbacks of the first worker in this process.

    The command reports errors of this process in one sentence, but not errors of Ray's workers.
    """
    from rl_rms.agents.workers import Workers

    first_worker = Workers(0, config.scale.workers)
    env = make_env(config, first_worker)
    check_video(config, build(config, env, first_worker))
    make_named(config.callbacks)
    env.close()


def train_with_ray(config: RunConfig, folder: Path) -> int:
    """Start or resume a run in workers of Ray.

    Returns:
        Exit status: 0, or 130 if the run was interrupted.

    Raises:
        UserError: If Ray is not installed, or the workers failed.
    """
    from rl_rms.agents.progress import json_line

    where = "this machine" if config.scale.address is None else config.scale.address
    console = console_of(config)
    console.print(f"{config.scale.workers} workers of Ray on {where}; TensorBoard shows their progress")
    run_with_ray(config.scale, continue_run, folder=folder, config=config, can_begin=True)
    summary = read_summary(folder)
    if config.progress == "json":  # the workers' output is not shown here
        steps, seconds = summary["total_timesteps"], summary["wall_time_seconds"]
        progress = {"step": steps, "total": config.total_timesteps, "fps": round(steps / max(seconds, 1e-9), 1)}
        unknown = {"half_life": None, "regime": None}
        print(json_line("end", **progress, **{"return": summary["final_return"]}, **unknown, folder=folder))
    report(config, summary, folder)
    return INTERRUPTED if summary["interrupted"] else 0


def begin(config: RunConfig, name: str) -> Path:
    """Make a run's folder, with its configuration."""
    folder = new_folder(Path(config.runs_dir), name, config.seed)
    files.write(folder / CONFIG, config.to_yaml())
    return folder


def continue_run(config: RunConfig, folder: Path, *, can_begin: bool = False) -> int:
    """Resume a run from its newest checkpoint. With ``can_begin``, start a run that has no checkpoint.

    Returns:
        Exit status: 0, or 130 if the run was interrupted (143 by SIGTERM).

    Raises:
        UserError: If the run has no checkpoint and ``can_begin`` is False, its checkpoints cannot be read, another
            process trains in the folder, the run is complete, or an error ends the training.
    """
    with process_group(config.scale) as workers, owned_by(workers, folder):
        checkpoint = workers.broadcast(newest_checkpoint(folder))
        if not can_begin:
            require_checkpoint(folder)
        agent = build(config, make_env(config, workers), workers, checkpoint)
        if agent.num_timesteps >= config.total_timesteps:
            raise UserError(
                f"{folder} is complete with {agent.num_timesteps:,} env steps; give a larger --total_timesteps"
            )
        check_video(config, agent)
        callbacks = make_named(config.callbacks)
        if workers.rank == 0:
            files.write(folder / CONFIG, config.to_yaml())
        return run(config, agent, folder, callbacks)


@contextmanager
def owned_by(workers: "Workers", folder: Path) -> Iterator[None]:
    """Lock a run's folder for these workers.

    Raises:
        UserError: In all workers, if another process trains in the folder or the folder is not writable.
    """
    with ExitStack() as stack:
        refused = None
        if workers.rank == 0:
            try:
                stack.enter_context(files.owned(folder))
            except (files.TakenError, files.UnwritableError) as error:
                refused = str(error)
        refused = workers.broadcast(refused)
        if refused is not None:
            raise UserError(refused)
        yield


def run(config: RunConfig, agent: "Agent", folder: Path, named: "Sequence[Callback]") -> int:
    """Train an agent for the remaining env steps of a run. Every worker calls this function.

    Args:
        config: The configuration.
        agent: The agent.
        folder: The run's folder.
        named: The callbacks that the configuration names. Only the first worker calls them.

    Returns:
        Exit status: 0, or 130 if the run was interrupted (143 by SIGTERM).

    Raises:
        UserError: If the environment or other workers fail, a parameter leaves its bounds, or a reward, an
            observation or a gradient is not finite.
    """
    import torch

    from rl_rms.agents.adaptation import AdaptationCallback
    from rl_rms.agents.callbacks import Callback
    from rl_rms.agents.checkpoint_callback import CheckpointCallback

    torch.set_num_threads(config.num_threads)
    workers, env = agent.workers, agent.env
    assert env is not None
    console, adaptation = console_of(config, workers.rank), AdaptationCallback()
    callbacks: list[Callback] = []
    earlier = wall_time(folder)
    if workers.rank == 0:
        callbacks = [adaptation, *make_callbacks(config, folder, named)]
    together = "" if workers.alone else f" in {workers.size} workers"
    since = f", continued from env step {agent.num_timesteps:,}" if agent.num_timesteps else ""
    console.print(
        f"{agent.algorithm} on {config.env.id}, {config.env.num_envs} environments{together}, seed "
        f"{config.seed}{since}",
        soft_wrap=True,
    )
    status = 0
    began = time.perf_counter()
    try:
        with _as_user_errors(folder), signals_interrupt(agent):
            agent.learn(
                config.total_timesteps - agent.num_timesteps,
                callbacks,
                log_dir=folder if workers.rank == 0 else None,
                log_interval=config.log_interval,
            )
    except KeyboardInterrupt as interrupt:
        status = status_of(interrupt)
    finally:
        env.close()
    for one in callbacks:
        if isinstance(one, CheckpointCallback) and one.error is not None:
            raise one.error
    if workers.rank == 0:
        summary = summarize(agent, adaptation, earlier + time.perf_counter() - began, interrupted=status != 0)
        write_summary(folder, summary)
        report(config, summary, folder)
    return status


@contextmanager
def _as_user_errors(folder: Path) -> Iterator[None]:
    """Convert errors of a training to errors that name the mend.

    Args:
        folder: The run's folder.
    """
    from rl_rms.agents.workers import LostWorkersError
    from rl_rms.envs.faults import EnvError
    from rl_rms.envs.parameters import OutOfBoundsError

    try:
        yield
    except EnvError as error:
        print_cause(error)
        raise UserError(f"{error}; rl-rms resume {folder} continues, with new episodes") from error
    except LostWorkersError as error:
        raise UserError(f"{error}; rl-rms resume {folder} continues from the newest checkpoint") from error
    except OutOfBoundsError as error:
        raise UserError(f"env.changes or env.curriculum: {error}") from error
    except FloatingPointError as error:
        raise UserError(f"{error} (on the command line: --agent.on_nonfinite skip)") from error


def console_of(config: RunConfig, rank: int = 0) -> "Console":
    """Make the run's console; silent in all workers but the first, and with progress ``json`` or ``none``."""
    return make_console(quiet=rank > 0 or config.progress in ("json", "none"))


def make_callbacks(config: RunConfig, folder: Path, named: "Sequence[Callback]") -> "list[Callback]":
    """Make the callbacks of a run, including the callbacks that the configuration names."""
    from rl_rms.agents.checkpoint_callback import CheckpointCallback
    from rl_rms.agents.eval_callback import EvalCallback
    from rl_rms.agents.histogram_callback import HistogramCallback
    from rl_rms.agents.progress import ProgressCallback
    from rl_rms.agents.video import VideoCallback
    from rl_rms.cli.tensorboard import RunPages

    callbacks: list[Callback] = []
    if config.eval_every is not None:
        evaluation = EvalCallback(
            every=config.eval_every,
            episodes=config.eval_episodes,
            deterministic=config.eval_deterministic,
            clocks=config.eval_clocks,
            best_path=best_checkpoint(folder),
            stop_at=config.stop_at,
            patience=config.patience,
        )
        callbacks.append(evaluation)
    if config.video_every is not None:
        callbacks.append(VideoCallback(make_rendered_env(config), folder / "videos", config.video_every))
    if config.histogram_every is not None:
        callbacks.append(HistogramCallback(config.histogram_every))
    callbacks += named
    if config.progress != "none":
        evaluations = [one for one in callbacks if isinstance(one, EvalCallback)]
        every = config.rollouts_per_entry
        callbacks.append(ProgressCallback(make_console(), config.progress, every, evaluations))
    every = config.checkpoint_every or config.total_timesteps
    return [
        *callbacks,
        CheckpointCallback(folder / CHECKPOINTS, every, config.keep_checkpoints),
        RunPages(config, folder),
    ]


def summarize(
    agent: "Agent", adaptation: "AdaptationCallback", wall_time: float, *, interrupted: bool
) -> dict[str, Any]:
    """Make the content of a run's ``summary.json``. ``wall_time`` includes the time before the run was resumed."""
    from rl_rms.cli.tensorboard import versions

    returns = [episode.ret for episode in agent.episodes]
    return {
        "algorithm": agent.algorithm,
        "total_timesteps": agent.num_timesteps,
        "updates": agent.num_updates,
        "final_return": sum(returns) / len(returns) if returns else None,
        "final_return_episodes": len(returns),
        "regimes": [
            {name: value if math.isfinite(value) else None for name, value in asdict(regime).items()}
            for regime in adaptation.regimes
        ],
        "half_lives": agent.describe_half_life(),
        "seed": agent.seed,
        "wall_time_seconds": round(wall_time, 3),
        "interrupted": interrupted,
        "versions": versions(),
    }


def report(config: RunConfig, summary: dict[str, Any], folder: Path) -> None:
    """Print the result and the folder of a run; with progress ``none`` only the folder, with ``json`` nothing."""
    if config.progress == "none":
        print(folder)
        return
    console = console_of(config)
    final = None if summary["final_return"] is None else shown_return(summary["final_return"])
    seconds = summary["wall_time_seconds"]
    rows = {
        f"mean return, last {summary['final_return_episodes']} episodes": final,
        "env steps": f"{summary['total_timesteps']:,} in {seconds:.1f} s "
        f"({summary['total_timesteps'] / max(seconds, 1e-9):,.0f} per second)",
        "half-life": summary["half_lives"] and summary["half_lives"].removeprefix("half-life "),
        "run": str(folder),
        "TensorBoard": f"tensorboard --logdir {folder.parent}",
    }
    if summary["interrupted"]:
        console.print(
            f"interrupted, saved at env step {summary['total_timesteps']:,}; continue with rl-rms resume {folder}",
            soft_wrap=True,
        )
    width = max(map(len, rows))
    for key, value in rows.items():
        if value is not None:
            console.print(f"{key:<{width}}  {value}", soft_wrap=True)
