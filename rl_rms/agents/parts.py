"""Builds the parts of an agent from its configuration: environment, policy, optimizer, actor and learner."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import VectorEnv
from torch import nn
from torch.optim import Optimizer

from rl_rms.agents.acting import Actor
from rl_rms.agents.backends import choose_device
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.env_session import EnvSession
from rl_rms.agents.env_state import EnvLike, as_vector_env
from rl_rms.agents.learner import Learner
from rl_rms.agents.normalize import make_observation_normalizer
from rl_rms.agents.optimizers import OptimizerLike, make_optimizer
from rl_rms.agents.policies import make_policy
from rl_rms.agents.spaces import action_mask_size, space_to_dict


@dataclass(frozen=True)
class Parts:
    """The parts of an agent.

    Attributes:
        env: The vector environment; None for an agent that only predicts.
        session: The environment and its episodes in progress.
        observation_space: Observation space of one sub-environment.
        action_space: Action space of one sub-environment.
        device: The policy's device.
        policy: The torch module.
        optimizer: The torch optimizer.
        actor: Chooses the actions.
        learner: Takes the optimizer steps.
    """

    env: VectorEnv | None
    session: EnvSession
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    device: torch.device
    policy: nn.Module
    optimizer: Optimizer
    actor: Actor
    learner: Learner


def make_parts(
    config: AgentConfig,
    learner_class: type[Learner],
    *,
    env: EnvLike | None,
    policy: nn.Module | None,
    optimizer: OptimizerLike | None,
    seed: int,
    spaces: tuple[gym.Space[Any] | None, gym.Space[Any] | None],
) -> Parts:
    """Make the parts of an agent.

    Args:
        config: The hyperparameters.
        learner_class: The algorithm's learner.
        env: See `rl_rms.agents.agent.Agent`.
        policy: The user's policy. None makes a policy from the configuration.
        optimizer: See `rl_rms.agents.agent.Agent`.
        seed: Seed of initial weights, actions, minibatches and environment.
        spaces: Observation and action space of an agent without an environment; ignored if ``env`` is given.

    Raises:
        ValueError: If the environment, the spaces or the hyperparameters contradict each other.
    """
    vector_env = None if env is None else as_vector_env(env, restarts=config.on_env_error == "restart")
    observation_space, action_space = _checked_spaces(vector_env, spaces, config)
    module = make_policy(policy, observation_space, action_space, config.policy, seed=seed)
    device = choose_device(module, config)
    module.to(device)
    torch_optimizer = make_optimizer(module, config, optimizer)
    num_envs = None if vector_env is None else vector_env.num_envs
    normalizer = make_observation_normalizer(observation_space, config.normalize_observation)
    actor = Actor(
        module,
        observation_space,
        action_space,
        num_envs=num_envs or 1,
        normalizer=normalizer,
        mask_actions=config.mask_actions,
        seed=seed,
        device=device,
    )
    learner = learner_class(
        module,
        torch_optimizer,
        config,
        num_envs=num_envs,
        observation_normalizer=normalizer,
        generator=actor.generator,
    )
    if learner.transitions_per_update == 1 and config.policy.norm == "batch":
        raise ValueError(
            'norm="batch" needs more than one transition in an update; use more sub-environments, n_steps or '
            "batch_size"
        )
    session = EnvSession(vector_env, config, seed)
    if session.changing is not None:
        learner.set_timescale(session.changing.timescale)
    return Parts(
        vector_env, session, observation_space, action_space, device, module, torch_optimizer, actor, learner
    )


def _checked_spaces(
    env: VectorEnv | None, spaces: tuple[gym.Space[Any] | None, gym.Space[Any] | None], config: AgentConfig
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return the spaces of one sub-environment, and check that they can be saved and, if configured, masked."""
    if env is not None:
        spaces = env.single_observation_space, env.single_action_space
    observation_space, action_space = spaces
    if observation_space is None or action_space is None:
        raise ValueError("an agent needs env, or both observation_space and action_space, got env=None")
    space_to_dict(observation_space, "observation_space")
    space_to_dict(action_space, "action_space")
    if config.mask_actions:
        action_mask_size(action_space)
    return observation_space, action_space
