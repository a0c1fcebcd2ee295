"""Faults of environments: a sub-environment that raises, returns a wrong shape, hangs, or whose worker is killed.

One of four sub-environments fails at a random step of a training run, in this process (*sync*) or in forked or
spawned workers. The training must *raise* an error or *restart* the sub-environment. A fault counts as lost if

- the sub-environment does not fail,
- the error or warning does not have the index and the seed of the failed sub-environment,
- a training run that must raise does not end with `EnvError`,
- a training run that must restart does not reach its last env step with one restart, whole episodes and finite
  weights,
- or a worker is still alive after the environment is closed.
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
# Seconds that a worker may take for a step. Even on a busy machine, a step that does not hang takes far less.
TIMEOUT = 1.5
WAYS = ("sync", "fork", "spawn")


class Failing(gym.Env):
    """An environment with episodes of seven steps. The environment fails once, at step ``at``.

    The failure deletes the file ``ticket``. Without this file, the environment does not fail.
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how: str, at: int | None, ticket: Path) -> None:
        self.how, self.at, self.ticket = how, at, ticket
        self.num_steps = self.count = 0

    def reset(self, *, seed=None, options=None):
        """Start an episode."""
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.uniform(-1.0, 1.0, 4).astype(np.float32), {}

    def step(self, action):
        """Make a step, or fail."""
        self.count += 1
        self.num_steps += 1
        observation = self.np_random.uniform(-1.0, 1.0, 4).astype(np.float32)
        if self.num_steps == self.at and self.ticket.exists():
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
    """Make a sub-environment."""
    return Failing(how, at, ticket)


def vector(way: str, how: str, failing: int, at: int, ticket: Path) -> VectorEnv:
    """Make a vector environment with one failing sub-environment."""
    makers: list[Callable[[], gym.Env]] = [
        partial(make, how, at if index == failing else None, ticket) for index in range(ENVS)
    ]
    return ResilientSyncVectorEnv(makers) if way == "sync" else ResilientAsyncVectorEnv(makers, context=way)


def is_lost(way: str, mend: str, how: str, failing: int, at: int, ticket: Path) -> bool:
    """Train with one fault, and return whether the fault counts as lost."""
    ticket.touch()
    env = vector(way, how, failing, at, ticket)
    agent = A2C(env, seed=SEED, on_env_error=mend, env_timeout=None if way == "sync" else TIMEOUT)
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            agent.learn(STEPS)
        except EnvError as raised:
            error = raised
    env.close()
    workers = getattr(env, "processes", [])
    left_behind = any(worker.is_alive() for worker in workers)
    start = f"sub-environment {failing} (seed {SEED + failing}) failed"
    if mend == "raise":
        reported = error is not None and str(error).startswith(start)
    else:
        whole = {(episode.ret, episode.length) for episode in agent.episodes} == {(float(LENGTH), LENGTH)}
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in agent.policy.parameters())
        sentences = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
        reported = error is None and len(sentences) == 1 and sentences[0].startswith(start)
        reported = reported and whole and finite and agent.num_timesteps >= STEPS
    return left_behind or ticket.exists() or not reported


def trainings(folder: Path, way: str, mend: str, how: str, wanted: int, seed: int = 0) -> Count:
    """Train ``wanted`` times, each with one fault at a random step in a random sub-environment."""
    rng = random.Random(f"{way} {mend} {how} {seed}")
    lost = 0
    for _ in range(wanted):
        failing, at = rng.randrange(ENVS), rng.randrange(1, STEPS // ENVS // 2)
        lost += is_lost(way, mend, how, failing, at, folder / "ticket")
    where = "in this process" if way == "sync" else f"in a worker ({way})"
    return Count(f"environment, {where}: {how}, {mend}", wanted, lost)


def counts(folder: Path) -> Iterator[Count]:
    """Inject all faults of this module."""
    for way in WAYS:
        kinds = ("raises", "wrong shape") if way == "sync" else ("raises", "wrong shape", "hangs", "worker killed")
        for how in kinds:
            for mend in ("raise", "restart"):
                yield trainings(folder, way, mend, how, 3 if way == "spawn" else 50)
