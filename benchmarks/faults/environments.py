"""Faults of environments: a sub-environment that raises, returns a wrong shape, hangs, or whose worker is killed.

One of four sub-environments fails at a random step of a training, in this process (*sync*) or in workers that were
forked or spawned; the training is to *raise*, or to *restart* the sub-environment. Lost is a fault

- that is reported with another number or seed than the failed one's, or not at all,
- after which the training does not end as it should: with `EnvError`, or, restarted, at its last env step with as
  many restarts as faults, every episode that it tells of whole and every weight finite,
- or after which a worker is left behind when the training is over and its environment closed.
"""

import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from faults.count import Count
from gymnasium.vector import VectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import EnvError, ResilientAsyncVectorEnv, ResilientSyncVectorEnv

ENVS, STEPS, LENGTH, SEED = 4, 600, 7, 11
# Seconds that a worker may take: far more than any step of this one takes, also where the machine is busy.
TIMEOUT = 1.5
WAYS = ("sync", "fork", "spawn")


class Failing(gym.Env):
    """Episodes of seven steps; fails once, in a given step of its life, in the process that has the ticket."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how: str, at: int | None, ticket: Path) -> None:
        self.how, self.at, self.ticket = how, at, ticket
        self.lived = self.count = 0

    def reset(self, *, seed=None, options=None):
        """Begin an episode."""
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.uniform(-1.0, 1.0, 4).astype(np.float32), {}

    def step(self, action):
        """Make a transition, or fail."""
        self.count += 1
        self.lived += 1
        observation = self.np_random.uniform(-1.0, 1.0, 4).astype(np.float32)
        if self.lived == self.at and self.ticket.exists():
            self.ticket.unlink()
            if self.how == "raises":
                raise RuntimeError("the motor burnt")
            if self.how == "hangs":
                time.sleep(3600)
            if self.how == "worker killed":
                os.kill(os.getpid(), signal.SIGKILL)
            observation = observation[:1]
        return observation, 1.0, self.count == LENGTH, False, {}


def make(how: str, at: int | None, ticket: Path) -> gym.Env:
    """A sub-environment."""
    return Failing(how, at, ticket)


def vector(way: str, how: str, failing: int, at: int, ticket: Path) -> VectorEnv:
    """Sub-environments of which one fails."""
    makers: list[Callable[[], gym.Env]] = [
        partial(make, how, at if index == failing else None, ticket) for index in range(ENVS)
    ]
    return ResilientSyncVectorEnv(makers) if way == "sync" else ResilientAsyncVectorEnv(makers, context=way)


def is_lost(way: str, mend: str, how: str, failing: int, at: int, ticket: Path) -> bool:
    """Have one training meet a fault."""
    ticket.touch()
    env = vector(way, how, failing, at, ticket)
    agent = A2C(env, seed=SEED, on_env_error=mend, env_timeout=None if way == "sync" else TIMEOUT)
    error = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            agent.learn(STEPS)
        except EnvError as one:
            error = one
    env.close()
    workers = getattr(env, "processes", [])
    left_behind = any(worker.is_alive() for worker in workers)
    who = f"sub-environment {failing} (seed {SEED + failing}) failed"
    if mend == "raise":
        reported = error is not None and str(error).startswith(who)
    else:
        whole = {(one.ret, one.length) for one in agent.episodes} == {(float(LENGTH), LENGTH)}
        finite = all(bool(torch.isfinite(one).all()) for one in agent.policy.parameters())
        sentences = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
        reported = error is None and len(sentences) == 1 and sentences[0].startswith(who)
        reported = reported and whole and finite and agent.num_timesteps >= STEPS
    return left_behind or ticket.exists() or not reported


def trainings(folder: Path, way: str, mend: str, how: str, wanted: int, seed: int = 0) -> Count:
    """So many trainings, each with one fault at another moment in another sub-environment."""
    rng = random.Random(f"{way} {mend} {how} {seed}")
    lost = 0
    for _ in range(wanted):
        failing, at = rng.randrange(ENVS), rng.randrange(1, STEPS // ENVS // 2)
        lost += is_lost(way, mend, how, failing, at, folder / "ticket")
    where = "in this process" if way == "sync" else f"in a worker ({way})"
    return Count(f"environment, {where}: {how}, {mend}", wanted, lost)


def counts(folder: Path) -> Iterator[Count]:
    """All of them, in full."""
    for way in WAYS:
        kinds = ("raises", "wrong shape") if way == "sync" else ("raises", "wrong shape", "hangs", "worker killed")
        for how in kinds:
            for mend in ("raise", "restart"):
                yield trainings(folder, way, mend, how, 3 if way == "spawn" else 50)
