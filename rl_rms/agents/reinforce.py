"""REINFORCE, the Monte Carlo policy gradient: one optimizer step on whole episodes."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from rl_rms.agents.base import EnvLike, OnPolicyAgent, policy_config, policy_module
from rl_rms.agents.config import (
    DEFAULT_OPTIMIZER,
    AgentConfig,
    MetaConfig,
    OnChange,
    OnNonfinite,
    PolicyConfig,
    ReinforceConfig,
)
from rl_rms.agents.interruption import STEPS_TO_INTERRUPT
from rl_rms.agents.losses import LossTerms
from rl_rms.agents.optimizers import OptimizerLike, optimizer_path
from rl_rms.agents.rollout import Collector, Episode, Rollout
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.schedules import Schedule


class Reinforce(OnPolicyAgent):
    """Monte Carlo policy gradient with reward-to-go, and a learned baseline unless it is switched off.

    For one update every sub-environment plays ``episodes_per_env`` whole episodes from their start with the same
    policy. What faster sub-environments do while slower ones finish is lived (it counts as env steps) but not
    learned from, since keeping the first episodes to end would prefer short ones. The hyperparameters are those
    of `ReinforceConfig`, which documents them.

    Args:
        env: A Gymnasium id, environment or vector environment.
        learning_rate: A number, or a schedule over env steps such as `rl_rms.envs.schedules.Linear`. See
            `ReinforceConfig`, as for every argument up to ``on_nonfinite``.
        critic_learning_rate: The critic's own; None is the actor's.
        gamma: Discount per env step.
        episodes_per_env: Whole episodes of each sub-environment for one update.
        baseline: Whether a learned value is subtracted from the returns.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        max_grad_norm: Global gradient norm to clip at, None for no clipping.
        normalize_advantage: Whether to standardize each update's advantages.
        normalize_observation: Whether to scale observations by their running mean and deviation.
        normalize_reward: Whether to scale rewards by the running deviation of the discounted return.
        mask_actions: Whether to play only actions that the environment says are valid.
        on_env_error: ``"raise"`` where a sub-environment fails, or ``"restart"`` it.
        env_timeout: Seconds that a worker of an AsyncVectorEnv may take over a step or a reset; None for ever.
        half_life: ``69``, ``"69 updates"`` or ``"20_000 steps"``; None means 200 updates.
        on_change: What becomes of RMSprop's state at a change of regime: ``"keep"``, ``"reset"`` or ``"forget"``.
        forget_half_life: Half-life with which it then forgets, in updates.
        forget_updates: For how many updates.
        on_nonfinite: What to do about numbers that are nan or infinite: ``"raise"``, ``"skip"`` or ``"clip"``.
        meta: A `MetaConfig` of what adapts itself by meta-gradient.
        optimizer: Any ``torch.optim.Optimizer`` class, or its import path.
        optimizer_kwargs: Its further arguments.
        policy: A `PolicyConfig`, or a module with `ActorCriticPolicy`'s interface.
        seed: Seeds initial weights, actions and environment; None draws one.
        fused: Whether plain networks on a CPU are run without autograd, which is faster.
        device: torch device.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", 1992.

    Examples:
        >>> Reinforce("CartPole-v1", seed=0).learn(100).num_updates > 0
        True
    """

    algorithm: ClassVar[str] = "reinforce"
    config_class: ClassVar[type[AgentConfig]] = ReinforceConfig
    config: ReinforceConfig

    def __init__(
        self,
        env: EnvLike,
        *,
        learning_rate: float | Schedule = 2e-3,
        critic_learning_rate: float | Schedule | None = None,
        gamma: float = 0.99,
        episodes_per_env: int = 1,
        baseline: bool = True,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float | None = 0.5,
        normalize_advantage: bool = True,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        mask_actions: bool = False,
        on_env_error: OnEnvError = "raise",
        env_timeout: float | None = None,
        half_life: float | str | None = None,
        on_change: OnChange = "keep",
        forget_half_life: float = 10.0,
        forget_updates: int = 50,
        on_nonfinite: OnNonfinite = "raise",
        meta: MetaConfig | None = None,
        optimizer: OptimizerLike = DEFAULT_OPTIMIZER,
        optimizer_kwargs: dict[str, Any] | None = None,
        policy: PolicyConfig | nn.Module | None = None,
        seed: int | None = None,
        fused: bool = True,
        device: str = "auto",
    ) -> None:
        config = ReinforceConfig(
            learning_rate=learning_rate,  # type: ignore[arg-type]
            critic_learning_rate=critic_learning_rate,  # type: ignore[arg-type]
            gamma=gamma,
            episodes_per_env=episodes_per_env,
            baseline=baseline,
            ent_coef=ent_coef,  # type: ignore[arg-type]
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            normalize_advantage=normalize_advantage,
            normalize_observation=normalize_observation,
            normalize_reward=normalize_reward,
            mask_actions=mask_actions,
            on_env_error=on_env_error,
            env_timeout=env_timeout,
            half_life=half_life,
            on_change=on_change,
            forget_half_life=forget_half_life,
            forget_updates=forget_updates,
            on_nonfinite=on_nonfinite,
            meta=meta,
            optimizer=optimizer_path(optimizer),
            optimizer_kwargs=optimizer_kwargs or {},
            policy=policy_config(policy),
            fused=fused,
            device=device,
        )
        super().__init__(env, config, policy=policy_module(policy), optimizer=optimizer, seed=seed)

    def enough(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether every sub-environment has finished its episodes."""
        assert self.env is not None
        if len(episodes) < self.env.num_envs * self.config.episodes_per_env:
            return False
        finished = np.bincount([episode.env_index for episode in episodes], minlength=self.env.num_envs)
        return bool(finished.min() >= self.config.episodes_per_env)

    def _collect(self, collector: Collector) -> Rollout:
        """Whole episodes: those that the last update left unfinished were begun by another policy."""
        collector.start(None)
        if self.reward_normalizer is not None:
            self.reward_normalizer.restart()
        return super()._collect(collector)

    def _enough(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether the sub-environments of all workers have finished their episodes.

        Raises:
            KeyboardInterrupt: If the training was interrupted and the episodes are long.
        """
        if self.workers.every(self.enough(num_steps, episodes)):
            return True
        assert self._collector is not None
        self._collector.warn_of_long_episode()
        if num_steps and num_steps % STEPS_TO_INTERRUPT == 0:
            self.raise_if_interrupted()
        return False

    def used(self, rollout: Rollout) -> npt.NDArray[np.bool_]:
        """The first ``episodes_per_env`` whole episodes of each sub-environment."""
        return whole_episodes(rollout, self.config.episodes_per_env)

    def terms(self) -> LossTerms:
        """Those of the configuration, with undiminished (lambda = 1) returns."""
        return LossTerms.of(self.config, gae_lambda=1.0, ent_coef=self.ent_coef, baseline=self.config.baseline)


def whole_episodes(rollout: Rollout, episodes_per_env: int) -> npt.NDArray[np.bool_]:
    """Which transitions belong to each sub-environment's first ``episodes_per_env`` episodes.

    Args:
        rollout: Begins with new episodes in every sub-environment.
        episodes_per_env: Episodes to keep of each.

    Returns:
        Mask of shape ``(num_steps, num_envs)``.
    """
    # An episode that ended since its sub-environment failed ends with the transition before.
    done = (rollout.done & rollout.valid).astype(np.int64)
    finished_before = np.cumsum(done, axis=0) - done
    return rollout.known & (finished_before < episodes_per_env)
