"""A2C, synchronous advantage actor-critic: one optimizer step on each short rollout of all sub-environments."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from rl_rms.agents.base import EnvLike, OnPolicyAgent, policy_config, policy_module
from rl_rms.agents.config import (
    DEFAULT_OPTIMIZER,
    A2CConfig,
    AgentConfig,
    MetaConfig,
    OnChange,
    OnNonfinite,
    PolicyConfig,
)
from rl_rms.agents.losses import LossTerms
from rl_rms.agents.optimizers import OptimizerLike, optimizer_path
from rl_rms.agents.rollout import Episode, Rollout
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.schedules import Schedule


class A2C(OnPolicyAgent):
    """Advantage actor-critic whose optimizer forgets at a stated half-life.

    Every ``n_steps`` vector steps it minimizes the `actor_critic_loss` of the ``num_envs * n_steps`` transitions
    with generalized advantages. A truncated episode bootstraps from the value of its true final observation, a
    terminated one from 0. The hyperparameters are those of `A2CConfig`, which documents them.

    Args:
        env: A Gymnasium id, environment or vector environment.
        learning_rate: A number, or a schedule over env steps such as `rl_rms.envs.schedules.Linear`. See
            `A2CConfig`, as for every argument up to ``on_nonfinite``.
        n_steps: Vector steps between two updates.
        critic_learning_rate: The critic's own; None is the actor's.
        gamma: Discount per env step.
        gae_lambda: 1 is the n-step return.
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

    Source: Mnih et al., "Asynchronous methods for deep reinforcement learning", 2016.

    Examples:
        >>> agent = A2C("CartPole-v1", half_life="2_000 steps", seed=0).learn(500)
        >>> agent.num_timesteps >= 500
        True
    """

    algorithm: ClassVar[str] = "a2c"
    config_class: ClassVar[type[AgentConfig]] = A2CConfig
    config: A2CConfig

    def __init__(
        self,
        env: EnvLike,
        *,
        learning_rate: float | Schedule = 7e-4,
        n_steps: int = 5,
        critic_learning_rate: float | Schedule | None = None,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float | None = 0.5,
        normalize_advantage: bool = False,
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
        config = A2CConfig(
            learning_rate=learning_rate,  # type: ignore[arg-type]
            critic_learning_rate=critic_learning_rate,  # type: ignore[arg-type]
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
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

    @property
    def steps_per_update(self) -> int | None:
        """``num_envs * n_steps``, of all workers; reset frames make an update span a few less."""
        return None if self.env is None else self.env.num_envs * self.config.n_steps * self.workers.size

    def enough(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether ``n_steps`` vector steps were taken."""
        return num_steps >= self.config.n_steps

    def used(self, rollout: Rollout) -> npt.NDArray[np.bool_]:
        """All true transitions whose numbers are known."""
        return rollout.known

    def terms(self) -> LossTerms:
        """Those of the configuration."""
        return LossTerms.of(self.config, gae_lambda=self.config.gae_lambda, ent_coef=self.ent_coef)
