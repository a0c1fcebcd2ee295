"""The interface of an agent that callbacks, evaluations and progress displays use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from torch import nn
from torch.optim import Optimizer

from rl_rms.agents.acting import Actor
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.env_session import EnvSession
from rl_rms.agents.learner import Learner
from rl_rms.agents.rollout import Episode
from rl_rms.agents.training_state import TrainingState
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import Workers

Array = npt.NDArray[Any]


class TrainedAgent(Protocol):
    """An agent during and after its training, see `rl_rms.agents.agent.Agent`."""

    algorithm: ClassVar[str]

    @property
    def env(self) -> VectorEnv | None:
        """The agent's vector environment; None for an agent without an environment."""
        ...

    @property
    def config(self) -> AgentConfig:
        """The agent's hyperparameters."""
        ...

    @property
    def policy(self) -> nn.Module:
        """The policy, a torch module."""
        ...

    @property
    def device(self) -> torch.device:
        """The torch device of the policy."""
        ...

    @property
    def optimizer(self) -> Optimizer:
        """The torch optimizer."""
        ...

    @property
    def seed(self) -> int:
        """The seed of initial weights, actions, minibatches and environment."""
        ...

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Observation space of one sub-environment."""
        ...

    @property
    def action_space(self) -> gym.Space[Any]:
        """Action space of one sub-environment."""
        ...

    @property
    def actor(self) -> Actor:
        """Chooses the actions."""
        ...

    @property
    def learner(self) -> Learner:
        """Takes the optimizer steps."""
        ...

    @property
    def session(self) -> EnvSession:
        """The environment and the episodes in progress."""
        ...

    @property
    def training(self) -> TrainingState:
        """The counters of the training."""
        ...

    @property
    def workers(self) -> Workers:
        """The processes that train the agent together."""
        ...

    @property
    def num_timesteps(self) -> int:
        """Env steps so far."""
        ...

    @property
    def num_updates(self) -> int:
        """Optimizer steps so far."""
        ...

    @property
    def episodes(self) -> Sequence[Episode]:
        """The last 100 finished episodes."""
        ...

    @property
    def new_episodes(self) -> Sequence[Episode]:
        """The episodes that finished in the last rollout."""
        ...

    def predict(
        self,
        observation: Tree | int,
        state: Array | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The policy's action for one observation or a batch of observations, and the next recurrent state."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write the agent to one file."""
        ...

    def describe_half_life(self) -> str | None:
        """A text with the half-lives of optimizer and normalizers; None if there are none."""
        ...
