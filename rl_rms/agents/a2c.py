"""A2C, synchronous advantage actor-critic: one optimizer step on each short rollout of all sub-environments.

    delta_t = r_t + gamma V(o_{t+1}) - V(o_t)           V is 0 after a termination
    A_t     = sum_l (gamma lambda)^l delta_{t+l}        to the end of the episode or the rollout
    loss    = -mean(A_t log pi(a_t | o_t)) - ent_coef mean(H_t) + vf_coef mean((A_t + V(o_t) - V(o_t))^2)

``H_t`` is the entropy of ``pi(. | o_t)``. In the last term only the second ``V(o_t)`` has a gradient. Source: Mnih
et al., "Asynchronous methods for deep reinforcement learning", 2016.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.agents.agent import Agent
from rl_rms.agents.config import A2CConfig, AgentConfig, RolloutConfig
from rl_rms.agents.learner import Learner
from rl_rms.agents.losses import LossCoefficients
from rl_rms.agents.rollout import Episode, Rollout


class A2CLearner(Learner):
    """Takes one optimizer step on each rollout of ``n_steps`` vector steps."""

    config: RolloutConfig

    @property
    def n_steps(self) -> int:
        """Vector steps of a rollout."""
        return self.config.rollout_length((self.num_envs or 1) * self.workers.size)

    @property
    def transitions_per_update(self) -> int | None:
        """Maximum number of transitions of an update, over all workers; None without an environment."""
        return None if self.num_envs is None else self.num_envs * self.workers.size * self.n_steps

    def rollout_done(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether the rollout has ``n_steps`` vector steps."""
        return num_steps >= self.n_steps

    def loss_mask(self, rollout: Rollout) -> npt.NDArray[np.bool_]:
        """A mask of the transitions in the loss: all transitions without imputed values."""
        return rollout.known

    def coefficients(self, num_timesteps: int) -> LossCoefficients:
        """The coefficients of the loss after ``num_timesteps`` env steps."""
        return LossCoefficients.of(
            self.config, gae_lambda=self.config.gae_lambda, ent_coef=self.ent_coef(num_timesteps)
        )


class A2C(Agent):
    """Advantage actor-critic with a half-life for RMSprop's second moment.

    After every ``n_steps`` vector steps the agent takes one optimizer step to decrease
    `rl_rms.agents.losses.actor_critic_loss` on the transitions of these steps, with generalized advantages. A
    truncated episode bootstraps from the value of its final observation. A terminated episode does not bootstrap.

    The arguments are the arguments of `rl_rms.agents.agent.Agent` and the fields of `A2CConfig`.

    Examples:
        >>> agent = A2C("CartPole-v1", half_life="2_000 steps", seed=0).learn(500)
        >>> agent.num_timesteps >= 500
        True
    """

    algorithm: ClassVar[str] = "a2c"
    config_class: ClassVar[type[AgentConfig]] = A2CConfig
    learner_class: ClassVar[type[Learner]] = A2CLearner
    config: A2CConfig
