"""Adversarial observations: small changes that make the policy's most likely action less likely.

    x' = clip(x + strength * sign(d loss / d x), low, high),    loss = -log pi(argmax_a pi(a | x) | x)

This is the fast gradient sign method (Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial
examples", 2015). The label is the policy's most likely action (Huang et al., "Adversarial attacks on neural
network policies", 2017).
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

from rl_rms.agents.agent import Agent
from rl_rms.agents.env_state import find_changing
from rl_rms.agents.losses import distribution_of
from rl_rms.envs.checks import check_number
from rl_rms.envs.schedules import Constant, Key, Schedule, stream_of
from rl_rms.envs.spaces import is_float_box

Array = npt.NDArray[Any]
# The random numbers of a random strength do not depend on the random numbers of the environment's changes.
_STREAM = stream_of("attack.strength")


class FGSMAttack(VectorWrapper):
    """A vector environment whose observations are perturbed against the agent's policy.

    The attack moves each component of an observation by ``strength`` in the direction that makes the policy's most
    likely action less likely, and clips the result to the observation space. The attack always uses the agent's
    current policy. The attack does not change rewards, ends of episodes or the clock.

    Args:
        env: A vector environment of `rl_rms.envs.make_vec`, with or without wrappers. A schedule of the strength
            reads the environment's clock, so a resumed training run continues the schedule.
        strength: Size of the change of each component, in the observation's unit, >= 0: a number, or a schedule
            over the environment's clock, such as ``Constant(0.1).during(20_000, 22_000, rest=0)``.

    Raises:
        ValueError: If the environment has no clock, if its observations are not a Box of floats, if its actions
            are a Box, or if the strength can become negative.

    Examples:
        >>> from rl_rms.agents import A2C
        >>> from rl_rms.envs import make_vec
        >>> env = FGSMAttack(make_vec("CartPole-v1", 2, {}, seed=0), strength=0.1)
        >>> agent = A2C(env, seed=0)
        >>> env.aim(agent)
        >>> agent.learn(100).num_timesteps >= 100
        True
    """

    def __init__(self, env: VectorEnv, strength: float | Schedule) -> None:
        super().__init__(env)
        changing = find_changing(env)
        if changing is None:
            raise ValueError(
                f"env must be a vector environment with a clock, got {env}; make it with rl_rms.envs.make_vec"
            )
        _check_spaces(env.single_observation_space, env.single_action_space)
        if not isinstance(strength, Schedule):
            strength = Constant(check_number("strength", strength, least=0.0))
        self.strength = strength
        if not self.strength.bounds[0] >= 0:
            raise ValueError(
                f"strength must never be negative, got {strength!r}; limit the schedule with .clip(low=0.0)"
            )
        self._changing = changing
        self._agent: Agent | None = None

    def aim(self, agent: Agent) -> None:
        """Attack this agent's policy from now on.

        Args:
            agent: The agent that acts in the environment.

        Raises:
            ValueError: If the policy is recurrent, because its actions depend on more than the observation.
        """
        if getattr(agent.policy, "state_size", 0):
            raise ValueError(
                'FGSMAttack needs a policy without recurrent memory; build the agent with recurrent="none"'
            )
        self._agent = agent

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; the arguments go to the environment's reset."""
        observations, infos = self.env.reset(**kwargs)
        return self._moved(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take one vector step.

        Returns:
            The environment's transition, with perturbed observations and ``info["final_obs"]``.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            rows = np.flatnonzero(terminated | truncated)
            moved = infos["final_obs"].copy()
            for row, final in zip(rows, self._moved(np.stack(list(moved[rows]))), strict=True):
                moved[row] = final
            infos["final_obs"] = moved
        return self._moved(observations), rewards, terminated, truncated, infos

    def _moved(self, observations: Array) -> Array:
        key = Key(self._changing.drift_seed, _STREAM)
        strength = self.strength.value(self._changing.clock, key)
        if strength == 0:
            return observations
        if self._agent is None:
            raise RuntimeError(
                "FGSMAttack needs an agent to attack, got none; call aim(agent) before the agent learns"
            )
        space = self.single_observation_space
        assert isinstance(space, spaces.Box)
        step = strength * adversarial_direction(self._agent, observations)
        moved: Array = np.clip(observations + step, space.low, space.high).astype(space.dtype)
        return moved


def adversarial_direction(agent: Agent, observations: Array) -> Array:
    """The sign of the gradient of ``-log pi(a | x)`` with respect to x, for the most likely action a at x.

    The function differentiates with respect to the normalized observations. The normalizer divides by a positive
    standard deviation, which does not change the gradient's sign.

    Args:
        agent: The agent whose policy and observation normalizer are used.
        observations: A batch of unnormalized observations, shape ``(batch, *observation)``.

    Returns:
        -1, 0 or 1 for each component, in the shape of ``observations``.
    """
    policy: Any = agent.policy
    normalizer = agent.observation_normalizer
    normalized = observations if normalizer is None else normalizer(observations)
    with torch.enable_grad():
        x = torch.tensor(normalized, device=agent.device, requires_grad=True)
        features = policy.encode(x) if hasattr(policy, "encode") else x
        distribution = distribution_of(policy, features)
        loss = -distribution.log_prob(distribution.mode().detach()).sum()
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient.sign().cpu().numpy()


def _check_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    if not is_float_box(observation_space):
        raise ValueError(f"FGSMAttack needs observations that are a Box of floats, got {observation_space}")
    if isinstance(action_space, spaces.Box):
        raise ValueError(
            f"FGSMAttack needs discrete actions, got {action_space}; for continuous actions the gradient "
            "is 0, because the density of a normal distribution at its mean does not depend on the mean"
        )
