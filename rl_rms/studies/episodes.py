"""Arguments of the studies' agents, and the returns of the episodes during a training run."""

from typing import Any

from rl_rms.agents.agent import Agent

NOT_NORMALIZED: dict[str, Any] = {"normalize_observation": False, "normalize_reward": False}
"""Arguments that disable an agent's normalization of observations and rewards."""


def episode_returns(agent: Agent, num_steps: int, since: float = 0.0) -> list[float]:
    """Train for ``num_steps`` env steps, and return the returns of the episodes that end after step ``since``."""
    returns: list[float] = []

    def collect(trained: Agent) -> None:
        returns.extend(one.ret for one in trained.new_episodes if one.num_timesteps > since)

    agent.learn(num_steps, collect, log_interval=num_steps)
    return returns
