"""Agents without normalizers, and the returns of their episodes during training, for studies."""

from typing import Any

from rl_rms.agents.agent import Agent

NOT_NORMALIZED: dict[str, Any] = {"normalize_observation": False, "normalize_reward": False}
"""Arguments of an agent whose gradients the normalizers of observations and rewards do not change."""


def episode_returns(agent: Agent, life: int, since: float = 0.0) -> list[float]:
    """Train an agent for ``life`` env steps; the returns of its episodes that end after ``since``, in order."""
    returns: list[float] = []

    def collect(trained: Agent) -> None:
        returns.extend(one.ret for one in trained.new_episodes if one.num_timesteps > since)

    agent.learn(life, collect, log_interval=life)
    return returns
