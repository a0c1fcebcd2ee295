"""Faults of checkpoints: training runs killed while they save, truncated files, changed bits.

- *kills*: A training run saves every four updates. SIGKILL ends the training at a random moment, and another
  process continues from the newest checkpoint. After the last kill, a process finishes the training. A kill counts
  as lost if the newest readable checkpoint has fewer env steps than the last checkpoint that was reported as
  saved. The last checkpoint must be bit-identical to the checkpoint of an uninterrupted training run.
- *cuts*: A checkpoint is truncated at every byte of its header and at random bytes of the rest. A truncated file
  that can be read counts as lost.
- *flips*: One random bit of a checkpoint is changed. A changed file that can be read with other contents counts as
  lost.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from faults.count import Count

from rl_rms.agents import A2C, CheckpointCallback, PolicyConfig, storage
from rl_rms.cli.runs import CHECKPOINTS, newest_checkpoint
from rl_rms.envs import NonStationaryVector, make_vec
from rl_rms.envs.schedules import Sinusoid

# Environments, vector steps per rollout, and updates between two checkpoints.
ENVS, STEPS, EVERY = 8, 16, 4


def make_env() -> NonStationaryVector:
    """Make CartPole with oscillating gravity."""
    gravity = Sinusoid(mean=9.8, amplitude=4.0, period=20_000)
    return make_vec("CartPole-v1", ENVS, {"gravity": gravity}, seed=0)


def begin() -> A2C:
    """Make an untrained agent."""
    return A2C(make_env(), n_steps=STEPS, policy=PolicyConfig(hidden_sizes=(16,)), half_life=200, seed=0)


class Reported(CheckpointCallback):
    """Write the env steps of each saved checkpoint into a pipe."""

    def __init__(self, folder: Path, pipe: int) -> None:
        super().__init__(folder, EVERY * ENVS * STEPS)
        self.pipe = pipe

    def act(self, agent, logger):
        """Save, then report."""
        super().act(agent, logger)
        os.write(self.pipe, f"{agent.num_timesteps}\n".encode())


def continue_training(run: Path, updates: int, pipe: int) -> None:
    """Train to the end, from the newest checkpoint or from the start."""
    torch.set_num_threads(1)
    checkpoint = newest_checkpoint(run)
    agent = begin() if checkpoint is None else A2C.load(checkpoint, make_env())
    agent.learn(updates * ENVS * STEPS - agent.num_timesteps, Reported(run / CHECKPOINTS, pipe))


@contextmanager
def another_process(run: Path, updates: int) -> Iterator[tuple[int, int]]:
    """Continue the training in a child process. Yield the child's process id and a pipe with its reports."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            continue_training(run, updates, writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    try:
        yield process, reader
    finally:
        os.close(reader)


def kills(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Kill a training run ``wanted`` times, let it end, and compare it with an uninterrupted training run."""
    updates = 100 * wanted
    whole = begin()
    whole.learn(updates * ENVS * STEPS)
    rng = random.Random(seed)
    run = folder / "run"
    saved, done, lost = 0, 0, 0
    while True:
        with another_process(run, updates) as (process, reader):
            if done < wanted:
                # Some delays end before the process saves. Other delays end after several saves.
                time.sleep(rng.uniform(0.0, 0.15))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            with os.fdopen(os.dup(reader)) as reports:
                saved = max([saved, *(int(line) for line in reports if line.endswith("\n"))])
        if not os.WIFSIGNALED(status):
            break
        done += 1
        newest = newest_checkpoint(run)
        lost += newest is None and saved > 0
        lost += newest is not None and A2C.load(newest).num_timesteps < saved
    if status != 0:
        raise RuntimeError(f"the training failed after {done} kills")
    last = newest_checkpoint(run)
    assert last is not None
    if last.read_bytes() != whole.save(folder / "whole").read_bytes():
        raise RuntimeError(
            f"after {done} kills, the last checkpoint differs from the uninterrupted training run's: see {folder}"
        )
    return Count("SIGKILL while training and saving", done, lost)


def cuts(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Truncate a checkpoint."""
    content = begin().save(folder / "whole").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(seed)
    places = [*range(header), *(rng.randrange(header, len(content)) for _ in range(wanted))]
    lost = sum(is_read(folder / "cut.safetensors", content[:length]) for length in places)
    return Count("a checkpoint cut off", len(places), lost)


def flips(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Change one bit of a checkpoint."""
    path = begin().save(folder / "whole")
    content = path.read_bytes()
    rng = random.Random(seed)
    lost = 0
    for _ in range(wanted):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        lost += is_read(folder / "flipped.safetensors", bytes(changed), content)
    return Count("a bit of a checkpoint changed", wanted, lost)


def is_read(path: Path, content: bytes, original: bytes | None = None) -> bool:
    """Write a file, and return whether it can be read although its contents differ from the original.

    Args:
        path: The file.
        content: The bytes of the file.
        original: The bytes before a change; None if every readable file counts.
    """
    path.write_bytes(content)
    try:
        contents = storage.read(path)
    except ValueError:
        return False
    return original is None or storage.write(path, contents).read_bytes() != original


def counts(folder: Path) -> Iterator[Count]:
    """Inject all faults of this module."""
    yield kills(folder, 100)
    yield cuts(folder, 2_000)
    yield flips(folder, 20_000)
