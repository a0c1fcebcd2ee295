"""Faults of checkpoints: trainings killed while they save, files cut off, bits changed.

- *kills*: a training that saves every few updates is killed by SIGKILL at a random moment, again and again, and
  each time another process goes on from the newest checkpoint. Lost is a kill after which a checkpoint that had
  been reported as saved could not be read. In the end the last checkpoint must be that of a training that was
  never killed, to the bit: weights, optimizer, generators, world, episodes.
- *cuts*: a checkpoint is cut off at every byte of its header and at random ones of the rest. Lost is a cut file
  that is read all the same.
- *flips*: one bit of it is changed at random. Lost is a file that is read all the same and gives anything else.
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

# Env steps of an update, and updates between two checkpoints.
ENVS, STEPS, EVERY = 8, 16, 4


def world() -> NonStationaryVector:
    """CartPole in which gravity swings."""
    swing = Sinusoid(mean=9.8, amplitude=4.0, period=20_000)
    return make_vec("CartPole-v1", ENVS, {"gravity": swing}, seed=0)


def begin() -> A2C:
    """An agent that has not learned yet."""
    return A2C(world(), n_steps=STEPS, policy=PolicyConfig(hidden_sizes=(16,)), half_life=200, seed=0)


class Reported(CheckpointCallback):
    """Writes the env steps of each checkpoint, once it is saved, into a pipe."""

    def __init__(self, folder: Path, pipe: int) -> None:
        super().__init__(folder, EVERY * ENVS * STEPS)
        self.pipe = pipe

    def act(self, agent, logger):
        """Save, then tell."""
        super().act(agent, logger)
        os.write(self.pipe, f"{agent.num_timesteps}\n".encode())


def go_on(run: Path, updates: int, pipe: int) -> None:
    """Train from the newest checkpoint, or from the beginning, to the end."""
    torch.set_num_threads(1)
    checkpoint = newest_checkpoint(run)
    agent = begin() if checkpoint is None else A2C.load(checkpoint, world())
    agent.learn(updates * ENVS * STEPS - agent.num_timesteps, Reported(run / CHECKPOINTS, pipe))


@contextmanager
def another_process(run: Path, updates: int) -> Iterator[tuple[int, int]]:
    """A process that goes on, by its number, and the pipe that it reports into."""
    heard, told = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            go_on(run, updates, told)
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    try:
        yield process, heard
    finally:
        os.close(heard)


def kills(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Kill a training ``wanted`` times, then let it end, and compare it with one that was never killed."""
    updates = 100 * wanted
    whole = begin()
    whole.learn(updates * ENVS * STEPS)
    rng = random.Random(seed)
    run = folder / "run"
    saved, done, lost = 0, 0, 0
    while True:
        with another_process(run, updates) as (process, heard):
            if done < wanted:
                # From before its first save to some saves later.
                time.sleep(rng.uniform(0.0, 0.15))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            with os.fdopen(os.dup(heard)) as reports:
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
        raise RuntimeError(f"after {done} kills the last checkpoint is another than without: see {folder}")
    return Count("SIGKILL while training and saving", done, lost)


def cuts(folder: Path, wanted: int, seed: int = 0) -> Count:
    """Cut a checkpoint off."""
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
    """Whether a file is read all the same, and as something else than the original."""
    path.write_bytes(content)
    try:
        contents = storage.read(path)
    except ValueError:
        return False
    return original is None or storage.write(path, contents).read_bytes() != original


def counts(folder: Path) -> Iterator[Count]:
    """All of them, in full."""
    yield kills(folder, 100)
    yield cuts(folder, 2_000)
    yield flips(folder, 20_000)
