"""Evaluation of an agent in whole episodes, without learning."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import SyncVectorEnv, VectorEnv

from rl_rms.agents.collector import Collector
from rl_rms.agents.env_state import as_vector_env, find_changing
from rl_rms.agents.interruption import STEPS_TO_INTERRUPT
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.agents.rollout import Episode
from rl_rms.envs import NonStationaryVector
from rl_rms.envs.checks import check_int
from rl_rms.envs.seeds import derive_seeds


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of evaluation episodes.

    Attributes:
        returns: Undiscounted return of each episode.
        lengths: Env steps of each episode.
        successes: Whether each episode was successful. Episodes without a reported success or failure are omitted.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    successes: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def success_rate(self) -> float:
        """Share of successful episodes; NaN if the environment reports neither success nor failure."""
        return float(self.successes.mean()) if len(self.successes) else math.nan

    @property
    def mean_reward(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std_reward(self) -> float:
        """Standard deviation of the returns."""
        return float(self.returns.std())

    @property
    def mean_ep_length(self) -> float:
        """Mean length in env steps."""
        return float(self.lengths.mean())


def evaluate(
    agent: TrainedAgent,
    env: str | gym.Env[Any, Any] | VectorEnv,
    episodes: int = 10,
    *,
    deterministic: bool = True,
    seed: int | None = None,
    clock: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate an agent in whole episodes, without learning.

    The numbers of episodes of the sub-environments differ by at most one, so that the result does not favor short
    episodes.

    Args:
        agent: The agent.
        env: A Gymnasium id, environment or vector environment. The environment is reset, and a changing
            environment's clock advances. The agent's own environment continues its episodes after the evaluation,
            or begins new episodes if the state within episodes cannot be restored. The clock of the agent's own
            `rl_rms.envs.NonStationaryVector` is frozen during the evaluation.
        episodes: Number of episodes, >= 1.
        deterministic: Whether to take the most likely actions instead of sampling them.
        seed: Seed of the environment; None continues its random generator.
        clock: Env step at which the clock of a changing environment starts. With None, the clock starts at 0 if
            ``seed`` is given, and otherwise continues. A `rl_rms.envs.NonStationaryVector` of the agent is frozen
            at ``clock``, or with None at its current reading.
        progress: Function that is called after each episode with the number of finished episodes and the number of
            all episodes; None for no function.

    Returns:
        The returns, lengths and successes of the episodes, in the order in which the episodes ended.

    Raises:
        ValueError: If ``episodes`` is not a whole number >= 1, or ``seed`` or ``clock`` not a whole number >= 0.

    Examples:
        >>> from rl_rms.agents import A2C
        >>> result = evaluate(A2C("CartPole-v1", seed=0), "CartPole-v1", episodes=3, seed=1)
        >>> result.lengths.shape
        (3,)
    """
    episodes = check_int("episodes", episodes, least=1)
    seed = None if seed is None else check_int("seed", seed, least=0)
    clock = None if clock is None else check_int("clock", clock, least=0)
    venv = as_vector_env(env)
    share = np.full(venv.num_envs, episodes // venv.num_envs)
    share[: episodes % venv.num_envs] += 1
    try:
        if agent.env is None or _bases(agent.env).isdisjoint(_bases(venv)):
            kept = _play(agent, venv, share, seed, clock, progress, deterministic=deterministic)
        else:
            is_frozen = isinstance(find_changing(agent.env), NonStationaryVector)
            with agent.session.lent(clock):
                first = None if is_frozen else clock
                kept = _play(agent, venv, share, seed, first, progress, deterministic=deterministic)
    finally:
        if isinstance(env, str):
            venv.close()
        elif venv is not env:
            venv.closed = True  # Gymnasium before 1.3 would close the user's environment when ``venv`` is deleted
    return Evaluation(
        returns=np.array([episode.ret for episode in kept]),
        lengths=np.array([episode.length for episode in kept]),
        successes=np.array([episode.success for episode in kept if episode.success is not None], dtype=np.bool_),
    )


def evaluation_seed(seed: int) -> int:
    """Derive an evaluation seed from a training seed, so that training and evaluation have different episodes."""
    return derive_seeds((seed, 1))[0]


def _bases(env: VectorEnv) -> set[int]:
    """Python's ``id`` of the unwrapped vector environment, and of its sub-environments in this process."""
    base = env.unwrapped
    subs = base.envs if isinstance(base, SyncVectorEnv) else ()
    return {id(base), *(id(sub.unwrapped) for sub in subs)}


def _play(
    agent: TrainedAgent,
    env: VectorEnv,
    share: npt.NDArray[np.int_],
    seed: int | None,
    clock: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    deterministic: bool,
) -> list[Episode]:
    """Play ``share[i]`` episodes in sub-environment i, and decrease ``share`` to 0."""
    collector = Collector(env, mask_actions=agent.config.mask_actions, on_nonfinite=agent.config.on_nonfinite)
    collector.start(seed, clock)
    kept: list[Episode] = []
    total = int(share.sum())
    state = None
    for step in itertools.count(1):
        if not share.any():
            break
        actions, state = agent.predict(
            collector.observations, state, collector.starts, deterministic, collector.action_masks
        )
        ended: list[Episode] = []
        collector.step(actions, ended)
        collector.keep_observations()
        collector.warn_of_long_episode()
        if step % STEPS_TO_INTERRUPT == 0 and agent.workers.alone:
            agent.training.raise_if_interrupted(agent.workers)
        for episode in ended:
            if share[episode.env_index] > 0:
                share[episode.env_index] -= 1
                kept.append(episode)
                if progress is not None:
                    progress(len(kept), total)
    return kept
