"""Learning from a rollout: scaled rewards, advantages, loss, gradient and optimizer step.

`A2CLearner` and `ReinforceLearner` define when a rollout is complete, which transitions the loss uses, and the
loss's coefficients. `PPOLearner` takes several optimizer steps on each rollout.
"""

from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.optim import Optimizer

from rl_rms.agents.averaging import Sync, average_step
from rl_rms.agents.backends import Backend
from rl_rms.agents.checkpoint_checks import check_like, check_optimizer
from rl_rms.agents.clipping import clip_gradients
from rl_rms.agents.config import AgentConfig, as_schedule
from rl_rms.agents.config_parts import reward_half_life
from rl_rms.agents.losses import Batch, LossCoefficients, first_nonfinite
from rl_rms.agents.meta import MetaGradient
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer
from rl_rms.agents.optimizers import group_rates
from rl_rms.agents.regime_change import RegimeChangeHandler
from rl_rms.agents.rollout import Episode, Rollout, RolloutTotals
from rl_rms.agents.rollout_scaling import RolloutScaling
from rl_rms.agents.workers import ALONE, Workers
from rl_rms.envs.checks import check_number
from rl_rms.envs.schedules import Constant, Key, Schedule
from rl_rms.half_life import Timescale
from rl_rms.optim.clipping import describe_nonfinite
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.optim.torch_private import foreach_zero_

Bools = npt.NDArray[np.bool_]
# Schedules of hyperparameters are not random, so the key has no effect.
NO_RANDOMNESS = Key(0)


@dataclass
class Update:
    """The result of `Learner.update`.

    Attributes:
        metrics: The metrics of the loss and the gradient by TensorBoard tag.
        num_nonfinite: Number of updates with non-finite gradients.
        has_jump: Whether the observation normalizer detected a jump and forgot earlier values.
    """

    metrics: dict[str, float]
    num_nonfinite: int = 0
    has_jump: bool = False


class Learner(ABC):
    """Trains a policy on rollouts.

    Args:
        policy: The policy.
        optimizer: The optimizer of the policy's parameters.
        config: Hyperparameters.
        num_envs: Number of sub-environments; None for an agent without an environment.
        observation_normalizer: Standardizes observations; None leaves them unchanged.
        generator: The agent's random generator.

    Attributes:
        reward_normalizer: Scales rewards; None leaves them unchanged.
        scaling: Applies and updates both normalizers.
        meta: Adapts the optimizer's hyperparameters; None leaves them unchanged.
        workers: The processes that train the policy together.
        sync: Whether workers clip and normalize the mean gradient (``"global"``) or their own gradients
            (``"local"``).
        num_updates: Optimizer steps so far.
        is_half_stepped: Whether an error interrupted an optimizer step, so that only some weights may have
            changed.
    """

    plays_whole_episodes: ClassVar[bool] = False
    """Whether rollouts begin with new episodes and end only after whole episodes."""

    def __init__(
        self,
        policy: nn.Module,
        optimizer: Optimizer,
        config: AgentConfig,
        *,
        num_envs: int | None,
        observation_normalizer: ObservationNormalizer | None,
        generator: np.random.Generator,
    ) -> None:
        self.policy, self.optimizer, self.config, self.num_envs = policy, optimizer, config, num_envs
        self.observation_normalizer, self.generator = observation_normalizer, generator
        half_life = reward_half_life(config.normalize_reward)
        self.reward_normalizer = None if half_life is None else RewardNormalizer(num_envs, config.gamma, half_life)
        self.scaling = RolloutScaling(observation_normalizer, self.reward_normalizer)
        self.meta = None if config.meta is None else MetaGradient(policy, optimizer, config.meta)
        self.workers: Workers = ALONE
        self.sync: Sync = "global"
        self.num_updates = 0
        self.is_half_stepped = False
        # Env steps of earlier rollouts since the last optimizer step.
        self._pending_env_steps: float = 0
        self._regime_changes = RegimeChangeHandler(config, optimizer)
        self._ent_coef = as_schedule(config.ent_coef)
        # The learning rate schedule of each parameter group, or None for a constant rate, which the user may
        # change in the optimizer.
        rates = [as_schedule(rate) for rate in group_rates(config)]
        self._rates: list[Schedule | None] = [None if isinstance(rate, Constant) else rate for rate in rates]
        # A timescale that the user has set is kept.
        self._takes_timescale = isinstance(optimizer, RMSprop) and optimizer.timescale is None

    @property
    @abstractmethod
    def transitions_per_update(self) -> int | None:
        """Maximum number of transitions in the loss of an optimizer step, over all workers.

        None if the number depends on the episodes, or for an agent without an environment.
        """

    @property
    def steps_per_update(self) -> float | None:
        """Env steps between two optimizer steps, over all workers; None as for `transitions_per_update`."""
        return self.transitions_per_update

    @abstractmethod
    def rollout_done(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether a rollout of ``num_steps`` vector steps with the finished ``episodes`` is complete."""

    @abstractmethod
    def loss_mask(self, rollout: Rollout) -> Bools:
        """The transitions that the loss averages over, shape ``(num_steps, num_envs)``."""

    @abstractmethod
    def coefficients(self, num_timesteps: int) -> LossCoefficients:
        """The discounts and weights of the loss after ``num_timesteps`` env steps."""

    def update(
        self,
        backend: Backend,
        rollout: Rollout,
        state: Tensor | None,
        totals: RolloutTotals,
        num_timesteps: int,
        *,
        with_metrics: bool,
    ) -> Update:
        """Learn from a rollout, and update the normalizers.

        Args:
            backend: The policy's backend, which drew the rollout's actions.
            rollout: This worker's transitions, not normalized.
            state: Recurrent state before the rollout; None unless the policy is recurrent.
            totals: Totals over the rollouts of all workers.
            num_timesteps: Env steps so far, for schedules and errors.
            with_metrics: Whether to compute metrics.

        Raises:
            FloatingPointError: If a gradient is not finite and ``on_nonfinite`` is ``"raise"``.
        """
        if not totals.env_steps:
            # The rollouts contain only reset frames and failed steps, which change no statistics.
            self.scaling.end_returns(rollout.done)
            return Update({})
        self.scaling.set_span(self.env_steps_per_update(totals))
        batch = self.batch(rollout, state, num_timesteps)
        if totals.has_data:
            result = self._learn(backend, batch, totals, num_timesteps, with_metrics=with_metrics)
        else:
            result = self._wait(totals)
        result.has_jump = self.scaling.update(rollout, self.workers)
        return result

    def _learn(
        self, backend: Backend, batch: Batch, totals: RolloutTotals, num_timesteps: int, *, with_metrics: bool
    ) -> Update:
        """Take one optimizer step on the batch, unless the meta-gradient uses the batch only for evaluation."""
        if self.meta is not None:
            # The bounds of an adapted half-life in env steps need the env steps of the next update.
            self._set_span(self._pending_env_steps + totals.env_steps)
            if not self.meta.learns_from(batch.copied()):
                return self._wait(totals)
        metrics = backend.gradients(batch, self.workers, with_metrics=with_metrics)
        return Update(metrics, self._step(batch, totals.env_steps, totals.share, num_timesteps, metrics))

    def _wait(self, totals: RolloutTotals) -> Update:
        """Take no optimizer step on the rollouts, so that the next step also spans their env steps."""
        self._pending_env_steps += totals.env_steps
        return Update({})

    def env_steps_per_update(self, totals: RolloutTotals) -> float:
        """Env steps of all workers per optimizer step on the current rollouts."""
        return totals.env_steps

    def batch(self, rollout: Rollout, state: Tensor | None, num_timesteps: int) -> Batch:
        """Make a batch of the normalized rollout. The rollout's rewards update the reward normalizer."""
        rollout = self.scaling.scaled(rollout, self.workers)
        return Batch(rollout, self.loss_mask(rollout), self.coefficients(num_timesteps), state)

    def ent_coef(self, num_timesteps: int) -> float:
        """The weight of the entropy bonus after ``num_timesteps`` env steps."""
        return self._ent_coef.value(num_timesteps, NO_RANDOMNESS)

    def join(self, workers: Workers, sync: Sync) -> None:
        """Join the other processes that train the same policy.

        Args:
            workers: The processes.
            sync: See `rl_rms.agents.agent.Agent.join`.

        Raises:
            ValueError: If there are several workers, and meta or batch normalization is set.
        """
        if not workers.alone and self.meta is not None:
            raise ValueError("meta uses the rollouts of one process; leave meta out, or train in one process")
        if not workers.alone and self.config.policy.norm == "batch":
            raise ValueError(
                'norm="batch" uses the batch of one process; use norm="layer", or train in one process'
            )
        self.workers, self.sync = workers, "global" if workers.alone else sync

    def enter_regime(self, regime: int) -> bool:
        """Apply ``on_change`` to the optimizer if the regime changed, and return whether the regime changed."""
        is_change = self._regime_changes.enter(regime)
        if is_change and self.config.on_change == "reset" and self.meta is not None:
            self.meta.restart()
        return is_change

    def set_timescale(self, timescale: float) -> None:
        """Set the timescale of the environment's change, for ``half_life="match"``, unless the user has set one.

        Args:
            timescale: The timescale in env steps.
        """
        if self._takes_timescale and isinstance(self.optimizer, RMSprop):
            self.optimizer.timescale = Timescale(timescale, "steps")

    def scalars(self, num_timesteps: int) -> dict[str, float]:
        """The current hyperparameters and the optimizer's diagnostics, by TensorBoard tag."""
        scalars = {"train/learning_rate": float(self.optimizer.param_groups[0]["lr"])}
        if self.config.critic_learning_rate is not None:
            scalars["train/critic_learning_rate"] = float(self.optimizer.param_groups[1]["lr"])
        if not isinstance(self._ent_coef, Constant):
            scalars["train/ent_coef"] = self.ent_coef(num_timesteps)
        if isinstance(self.optimizer, RMSprop):
            diagnostics = self.optimizer.diagnostics()
            scalars.update({f"optim/{name}": value for name, value in diagnostics.items()})
        scalars.update(self.scaling.scalars())
        if self.meta is not None:
            scalars.update(self.meta.scalars)
        return scalars

    # -- the optimizer step -------------------------------------------------------------------------------

    def _step(
        self,
        batch: Batch,
        env_steps: float,
        share: float,
        num_timesteps: int,
        metrics: MutableMapping[str, Any],
    ) -> int:
        """Take one optimizer step with the current gradients.

        Args:
            batch: The batch from which the gradients were computed.
            env_steps: Env steps that the batch adds to the pending env steps.
            share: This worker's share of the transitions in the loss.
            num_timesteps: Env steps so far.
            metrics: Metrics by TensorBoard tag. The step adds the gradient's norm, unless the optimizer is
                `RMSprop`, which logs the norm itself.

        Returns:
            1 if the gradients were not finite, else 0.
        """
        if share == 0.0:
            # This worker has no transitions, so its gradients may be nan.
            foreach_zero_(self._grads())
        env_steps += self._pending_env_steps
        self._set_span(env_steps)
        # An error before the optimizer's step leaves all weights unchanged.
        if self.sync == "global" and not self.workers.alone:
            self.workers.average(self._grads(), share)
        self._set_rates(num_timesteps)
        if self.meta is not None:
            self.meta.before_step()
        try:
            num_nonfinite = self._guarded_step(share, metrics)
            self._pending_env_steps = env_steps if num_nonfinite else 0
            self._regime_changes.after_update()
            self.num_updates += 1
        except FloatingPointError as error:  # raised before any weight changes
            raise FloatingPointError(self._name_cause(batch, num_timesteps, str(error))) from None
        except BaseException:
            self.is_half_stepped = True
            raise
        return num_nonfinite

    def _grads(self) -> list[Tensor]:
        return [param.grad for param in self.policy.parameters() if param.grad is not None]

    def _set_span(self, env_steps: float) -> None:
        if isinstance(self.optimizer, RMSprop):
            self.optimizer.steps_per_update = env_steps

    def _set_rates(self, num_timesteps: int) -> None:
        for i, (rate, group) in enumerate(zip(self._rates, self.optimizer.param_groups, strict=True)):
            if rate is not None:
                group["lr"] = rate.value(num_timesteps, NO_RANDOMNESS)
                if self.meta is not None:
                    self.meta.state_rate(i, group["lr"])

    def _guarded_step(self, share: float, metrics: MutableMapping[str, Any]) -> int:
        """Clip gradients, and take an optimizer step; return 1 if gradients were not finite, else 0."""
        if isinstance(self.optimizer, RMSprop):
            before = self.optimizer.guard.num_nonfinite
            self._synced_step(share)
            found = self.optimizer.guard.num_nonfinite - before
            if found and self.meta is not None:
                # The meta-gradient cannot repeat a skipped update.
                self.meta.restart()
            return found
        params = [param for param in self.policy.parameters() if param.grad is not None]
        norm = clip_gradients(params, self.config.max_grad_norm, self.config.on_nonfinite)
        metrics["optim/gradient_norm"] = norm
        if np.isfinite(norm):
            self._synced_step(share)
            return 0
        if self.sync == "local":
            # The other workers wait for this worker's part of the mean.
            average_step(self.policy, None, share, self.workers)
        return 1

    def _synced_step(self, share: float) -> None:
        """Take the optimizer's step; with ``sync="local"``, take the mean of all workers' steps instead."""
        if self.sync == "global":
            self.optimizer.step()
        else:
            average_step(self.policy, self.optimizer, share, self.workers)

    def _name_cause(self, batch: Batch, num_timesteps: int, message: str) -> str:
        """An error message about non-finite gradients that names the first non-finite part of the loss."""
        message = describe_nonfinite(self.policy.named_parameters()) or message
        cause = first_nonfinite(self.policy, batch, self.workers.rank * batch.loss_mask.shape[1])
        when = f"in update {self.num_updates + 1:,}, after {num_timesteps:,} env steps, "
        return when + message + (cause and f". There {cause}")

    # -- saving -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The weights, the number of updates, and the state of everything else that an update changes.

        Raises:
            RuntimeError: If an optimizer step was interrupted, so that only some weights may have changed.
        """
        if self.is_half_stepped:
            raise RuntimeError(
                "the agent was interrupted within an optimizer step, so only some weights may have changed; load "
                "its last checkpoint"
            )
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "changes": self._regime_changes.state_dict(),
            "meta": None if self.meta is None else self.meta.state_dict(),
            "num_updates": self.num_updates,
            "pending_env_steps": self._pending_env_steps,
            "normalizers": self.scaling.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`.

        Raises:
            ValueError: If a part cannot be loaded. The policy is then unchanged.
        """
        check_like("policy", state["policy"], dict(self.policy.state_dict()))
        self.scaling.check_state(state["normalizers"])
        # Checkpoints of earlier versions have no pending env steps.
        pending_env_steps = state.get("pending_env_steps", 0)
        check_number("pending_env_steps", pending_env_steps, least=0.0)
        check_optimizer(state["optimizer"], self.optimizer)
        self.optimizer.load_state_dict(state["optimizer"])
        self._regime_changes.load_state_dict(state["changes"])
        if self.meta is not None:
            self.meta.load_state_dict(state["meta"])
        self.scaling.load_state_dict(state["normalizers"])
        self.num_updates = state["num_updates"]
        self._pending_env_steps = pending_env_steps
        self.policy.load_state_dict(state["policy"])
