"""REINFORCE, the Monte Carlo policy gradient: one optimizer step on whole episodes.

    G_t  = sum_k gamma^k r_{t+k}                        to the end of the episode
    A_t  = G_t - V(o_t)                                 with a baseline, else G_t
    loss = -mean(A_t log pi(a_t | o_t)) - ent_coef mean(H_t) + vf_coef mean((G_t - V(o_t))^2)

With a baseline, ``G_t`` of a truncated episode includes the discounted value of the final observation. Without a
baseline, the loss has no term for the values. Source: Williams, "Simple statistical gradient-following algorithms
for connectionist reinforcement learning", 1992.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.agents.agent import Agent
from rl_rms.agents.config import AgentConfig, ReinforceConfig
from rl_rms.agents.learner import Learner
from rl_rms.agents.losses import LossCoefficients
from rl_rms.agents.rollout import Episode, Rollout


class ReinforceLearner(Learner):
    """Takes one optimizer step on ``episodes_per_env`` whole episodes of every sub-environment."""

    plays_whole_episodes: ClassVar[bool] = True
    config: ReinforceConfig

    @property
    def transitions_per_update(self) -> int | None:
        """None, because the lengths of episodes vary."""
        return None

    def rollout_done(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether every sub-environment has finished ``episodes_per_env`` episodes."""
        num_envs, episodes_per_env = self.num_envs or 1, self.config.episodes_per_env
        if len(episodes) < num_envs * episodes_per_env:
            return False
        finished = np.bincount([episode.env_index for episode in episodes], minlength=num_envs)
        return bool(finished.min() >= episodes_per_env)

    def loss_mask(self, rollout: Rollout) -> npt.NDArray[np.bool_]:
        """See `whole_episodes`."""
        return whole_episodes(rollout, self.config.episodes_per_env)

    def coefficients(self, num_timesteps: int) -> LossCoefficients:
        """The coefficients of the configuration, with lambda = 1 for Monte Carlo returns."""
        return LossCoefficients.of(
            self.config, gae_lambda=1.0, ent_coef=self.ent_coef(num_timesteps), baseline=self.config.baseline
        )


def whole_episodes(rollout: Rollout, episodes_per_env: int) -> npt.NDArray[np.bool_]:
    """Select the transitions of the first ``episodes_per_env`` episodes of each sub-environment.

    Args:
        rollout: A rollout that begins with new episodes in every sub-environment.
        episodes_per_env: Episodes to keep of each sub-environment.

    Returns:
        Mask of shape ``(num_steps, num_envs)``, without transitions that contain imputed values.
    """
    # If a sub-environment fails, the transition before the failure ends its episode, so the failed step must not
    # count as another end.
    done = (rollout.done & rollout.valid).astype(np.int64)
    finished_before = np.cumsum(done, axis=0) - done
    return rollout.known & (finished_before < episodes_per_env)


class Reinforce(Agent):
    """Monte Carlo policy gradient with reward-to-go and an optional learned baseline.

    For one update, every sub-environment plays at least ``episodes_per_env`` whole episodes with the same policy.
    Sub-environments that finish early continue until the last one has finished. These further steps count as env
    steps, but the loss excludes them. Using the episodes that end first would favor short episodes.

    The arguments are the arguments of `rl_rms.agents.agent.Agent` and the fields of `ReinforceConfig`.

    Examples:
        >>> Reinforce("CartPole-v1", seed=0).learn(100).num_updates > 0
        True
    """

    algorithm: ClassVar[str] = "reinforce"
    config_class: ClassVar[type[AgentConfig]] = ReinforceConfig
    learner_class: ClassVar[type[Learner]] = ReinforceLearner
    config: ReinforceConfig
