"""Faults of disks and processes: signals, full disks, deleted folders, second writers.

- *signals*: a run receives SIGINT and SIGTERM in turn, each at a random moment. After each signal, ``rl-rms
  resume`` continues the run, or ``rl-rms train`` starts the run again if the run has no checkpoint. A signal
  counts as a loss if the newest checkpoint after the signal has fewer env steps than after the previous signal.
  The last checkpoint must be bit-identical to the last checkpoint of an uninterrupted run.
- *full disks*: writes of a checkpoint or a log fail after a random number of bytes. A checkpoint counts as lost if
  no `UnwritableError` is raised, if the earlier checkpoint changes, or if a partial file remains. A log counts as
  lost if ``metrics.csv`` or the TensorBoard file lacks entries from before or after the full disk. The first entry
  after the full disk may be missing.
- *deleted folders*: a run's folder is deleted at a random moment. A run counts as lost if its exit status is not
  0, or if its newest checkpoint has fewer env steps than the whole run.
- *second writers*: a second process resumes a run while the first process trains. A third process resumes the run
  after the first process is killed. A run counts as lost if the second process does not end with status 2, or the
  third process does not end with status 0.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from faults.checkpoints import begin
from faults.count import Count
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, files
from rl_rms.agents.logger import Logger
from rl_rms.agents.metrics import METRICS
from rl_rms.cli.main import main
from rl_rms.cli.runs import newest_checkpoint

WORDS = ("--env.num_envs=8", "--agent.n_steps=16", "--agent.policy.hidden_sizes=[16]", "--progress=none")
TAG = "rollout/ep_rew_mean"


def in_a_child(*words: str) -> int:
    """Run ``rl-rms`` in a child process without output, and return its process id."""
    # A background process of a shell ignores SIGINT. The child must not inherit this setting.
    earlier = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        status = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            warnings.simplefilter("default")
            status = main(words)
        finally:
            os._exit(status)
    signal.signal(signal.SIGINT, earlier)
    return process


def train(folder: Path, env_steps: int) -> tuple[str, ...]:
    """Return the arguments of ``rl-rms`` that train a run in a folder."""
    return ("train", "drifting_cartpole", f"--runs_dir={folder}", f"--total_timesteps={env_steps}", *WORDS)


def run_under(folder: Path) -> Path | None:
    """Return the folder of a run with a checkpoint below ``folder``, or None if there is none."""
    return next((path.parents[1] for path in folder.glob("drifting_cartpole/*/checkpoints/*.safetensors")), None)


def steps_saved(run: Path | None) -> int:
    """Return the env steps of a run's newest checkpoint, or 0 if there is none."""
    newest = None if run is None else newest_checkpoint(run)
    return 0 if newest is None else A2C.load(newest).num_timesteps


def signals(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Send an even number of signals to a run, let it end, and compare it with an uninterrupted run."""
    rng = random.Random(seed)
    done, lost, saved = 0, 0, 0
    for number in (signal.SIGINT, signal.SIGTERM) * (wanted // 2):
        run = run_under(folder / "run")
        words = ("resume", str(run), "--progress=none") if run else train(folder / "run", 10**9)
        process = in_a_child(*words)
        time.sleep(rng.uniform(0.0, 0.8))
        os.kill(process, number)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        # If the process has no signal handler yet, the signal ends the process, and the exit status is -number.
        if status not in (128 + number, -number):
            raise RuntimeError(f"the run failed with status {status} after {done} signals: see {folder}")
        done += 1
        before, saved = saved, steps_saved(run_under(folder / "run"))
        lost += saved < before
    run = run_under(folder / "run")
    end = f"--total_timesteps={saved + 5_000}"
    words = ("resume", str(run), end, "--progress=none") if run else train(folder / "run", saved + 5_000)
    if main(words) != 0 or main(train(folder / "whole", saved + 5_000)) != 0:
        raise RuntimeError(f"the run failed after {done} signals, or the uninterrupted run failed: see {folder}")
    ends = [
        newest_checkpoint(run) for run in map(run_under, (folder / "run", folder / "whole")) if run is not None
    ]
    if len({end.read_bytes() for end in ends if end is not None}) != 1:
        raise RuntimeError(
            f"after {done} signals, the last checkpoint differs from the uninterrupted run's: see {folder}"
        )
    return Count("SIGINT and SIGTERM while training", done, lost)


@contextlib.contextmanager
def room_for(length: int) -> Iterator[None]:
    """Limit the size of files that this process writes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disks(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Write checkpoints to a disk that becomes full."""
    agent = begin()
    earlier = agent.save(folder / "agent").read_bytes()
    rng = random.Random(seed)
    lost = 0
    for _ in range(wanted):
        refused = False
        with room_for(rng.randrange(len(earlier))):
            try:
                agent.save(folder / "agent")
            except files.UnwritableError:
                refused = True
        left = {path.name: path.read_bytes() for path in folder.iterdir()}
        lost += not refused or left != {"agent.safetensors": earlier}
    return Count("a disk full while a checkpoint is written", wanted, lost)


def full_logs(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Write logs to a disk that becomes full, and later has space again."""
    rng = random.Random(seed)
    lost = 0
    for number in range(wanted):
        place = folder / str(number)
        with warnings.catch_warnings(), Logger(place) as logger:
            warnings.simplefilter("ignore")
            for step in range(1, 51):
                logger.write(step, {TAG: 1.0})
            now = min(path.stat().st_size for path in (place / METRICS, *place.glob("events*")))
            with room_for(now + rng.randrange(400)):
                for step in range(51, 101):
                    logger.write(step, {TAG: 1.0})
            for step in range(101, 151):
                logger.write(step, {TAG: 1.0})
        wanted_steps = {*range(1, 51), *range(102, 151)}
        rows = {int(line.split(",")[0]) for line in files.whole_lines(place / METRICS)[1:]}
        shown = {event.step for event in EventAccumulator(str(place)).Reload().Scalars(TAG)}
        lost += not (wanted_steps <= rows and wanted_steps <= shown)
    return Count("a disk full while a log is written", wanted, lost)


def deleted_folders(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Delete the folders of runs during training."""
    rng = random.Random(seed)
    lost = 0
    for number in range(wanted):
        place = folder / str(number)
        process = in_a_child(*train(place, 20_000), "--checkpoint_every=500", "--log_interval=1")
        while (run := run_under(place)) is None or not list(run.glob("checkpoints/*.safetensors")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        # The run may write files to the folder during the deletion.
        while not is_deleted(run):
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        lost += status != 0 or steps_saved(run_under(place)) < 20_000
    return Count("a run's folder deleted while training", wanted, lost)


def is_deleted(folder: Path) -> bool:
    """Try to delete a folder, and return whether this succeeded."""
    try:
        shutil.rmtree(folder)
    except OSError:
        return False
    return True


def second_writers(folder: Path, wanted: int) -> Count:
    """Resume runs in another process, during training and after the training is killed."""
    lost = 0
    for number in range(wanted):
        place = folder / str(number)
        first = in_a_child(*train(place, 10**9), "--checkpoint_every=500")
        while (run := run_under(place)) is None or not list(run.glob("checkpoints/*.safetensors")):
            time.sleep(0.01)
        # Without a lock, the second process would train to this number of env steps and end with status 0.
        words = ("resume", str(run), f"--total_timesteps={steps_saved(run) + 200_000}", "--progress=none")
        second = os.waitstatus_to_exitcode(os.waitpid(in_a_child(*words), 0)[1])
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        more = f"--total_timesteps={steps_saved(run) + 100}"
        words = ("resume", str(run), more, "--progress=none")
        third = os.waitstatus_to_exitcode(os.waitpid(in_a_child(*words), 0)[1])
        lost += (second, third) != (2, 0)
    return Count("a second process that resumes a run", wanted, lost)


def counts(folder: Path) -> Iterator[Count]:
    """Inject all faults of this module."""
    yield signals(folder / "signals", 60)
    yield full_disks(folder / "full", 2_000)
    yield full_logs(folder / "logs", 100)
    yield deleted_folders(folder / "deleted", 20)
    yield second_writers(folder / "second", 20)
