"""PPO, proximal policy optimization: several epochs of minibatches on each rollout, with a clipped ratio.

    r_t  = pi(a_t | o_t) / pi_old(a_t | o_t)
    loss = -mean(min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t)) - ent_coef mean(H_t) + vf_coef mean((R_t - V(o_t))^2)

``A_t`` are generalized advantages and ``R_t`` are the critic's targets, both computed with the policy that
collected the rollout. ``H_t`` is the entropy of the policy's distribution, and c is ``clip_range``. Source:
Schulman et al., "Proximal policy optimization algorithms", 2017.
"""

import math
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from rl_rms.agents.a2c import A2CLearner
from rl_rms.agents.agent import Agent
from rl_rms.agents.backends import Backend
from rl_rms.agents.clipped_loss import Minibatch, Played
from rl_rms.agents.config import AgentConfig, PPOConfig, as_schedule
from rl_rms.agents.learner import NO_RANDOMNESS, Learner, Update
from rl_rms.agents.losses import Batch
from rl_rms.agents.minibatches import Minibatches, Part
from rl_rms.agents.returns import explained_variance
from rl_rms.agents.rollout import RolloutTotals
from rl_rms.agents.transfers import Scalars, to_floats

# The allowed multiple of target_kl, as in Stable-Baselines3.
_KL_TOLERANCE = 1.5
_KL = "train/approx_kl"

Log = list[tuple[Part, dict[str, Tensor | float]]]
"""The minibatches of a rollout with their metrics."""


class PPOLearner(A2CLearner):
    """Takes an optimizer step on each minibatch, in several epochs on each rollout of ``n_steps`` vector steps."""

    config: PPOConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        self._clip_range = as_schedule(config.clip_range)
        self._clip_range_vf = None if config.clip_range_vf is None else as_schedule(config.clip_range_vf)

    @property
    def transitions_per_update(self) -> int | None:
        """Transitions of a minibatch of full size; None for an agent without an environment."""
        transitions, config = super().transitions_per_update, self.config
        if transitions is None:
            return None
        size = config.batch_size
        if getattr(self.policy, "state_size", 0):
            size = max(1, size // self.n_steps) * self.n_steps
        return min(size, transitions)

    @property
    def steps_per_update(self) -> float | None:
        """Transitions of a full minibatch, divided by ``n_epochs``.

        All optimizer steps on a rollout together then span the rollout's env steps.
        """
        transitions = self.transitions_per_update
        return None if transitions is None else transitions / self.config.n_epochs

    def env_steps_per_update(self, totals: RolloutTotals) -> float:
        """Env steps per optimizer step on a minibatch of full size."""
        return self.steps_per_update or super().env_steps_per_update(totals)

    def _learn(
        self, backend: Backend, batch: Batch, totals: RolloutTotals, num_timesteps: int, *, with_metrics: bool
    ) -> Update:
        """Take one step per minibatch, for ``n_epochs`` epochs or until the KL divergence exceeds the limit."""
        config, workers = self.config, self.workers
        clip_range, clip_range_vf = self.clip_ranges(num_timesteps)
        minibatches = Minibatches(
            batch.loss_mask, config.batch_size, whole_rollouts=batch.state is not None, workers=workers
        )
        played = backend.evaluate(batch)
        log: Log = []
        num_nonfinite, env_steps = 0, totals.env_steps / config.n_epochs
        needs_metrics = with_metrics or config.target_kl is not None
        for part in minibatches.epochs(config.n_epochs, self.generator):
            minibatch = Minibatch.of(batch, played, part.rows, clip_range, clip_range_vf, workers)
            metrics = dict(backend.clipped_gradients(minibatch, with_metrics=needs_metrics))
            log.append((part, metrics))
            if self._is_too_far(part, metrics):
                break
            num_nonfinite += self._step(batch, env_steps * part.fraction, part.share, num_timesteps, metrics)
        # The last minibatch may be smaller, but the half-life is logged for minibatches of full size.
        self._set_span(self.env_steps_per_update(totals))
        if not with_metrics:
            return Update({}, num_nonfinite)
        variance = self._explained_variance(batch, played)
        return Update({"train/explained_variance": variance, **_means(log, totals.share)}, num_nonfinite)

    def _is_too_far(self, part: Part, metrics: Scalars) -> bool:
        """Whether the minibatch's approximate KL divergence, over all workers, exceeds ``1.5 * target_kl``."""
        target = self.config.target_kl
        if target is None:
            return False
        own = part.share * float(metrics[_KL]) if part.share else 0.0
        return bool(self.workers.sum(np.array([own]))[0] > _KL_TOLERANCE * target)

    def clip_ranges(self, num_timesteps: int) -> tuple[float, float | None]:
        """The clip ranges of the ratio and of the values after ``num_timesteps`` env steps."""
        value_schedule = self._clip_range_vf
        return (
            self._clip_range.value(num_timesteps, NO_RANDOMNESS),
            None if value_schedule is None else value_schedule.value(num_timesteps, NO_RANDOMNESS),
        )

    def scalars(self, num_timesteps: int) -> dict[str, float]:
        """The current hyperparameters and the optimizer's diagnostics, by TensorBoard tag."""
        clip_range, clip_range_vf = self.clip_ranges(num_timesteps)
        scalars = {**super().scalars(num_timesteps), "train/clip_range": clip_range}
        return scalars if clip_range_vf is None else {**scalars, "train/clip_range_vf": clip_range_vf}

    def _explained_variance(self, batch: Batch, played: Played) -> float:
        """The explained variance of the critic's targets over all workers; see `explained_variance`."""
        own = np.stack([played.values, played.returns, batch.loss_mask.reshape(-1)]).astype(np.float64)
        values, returns, in_loss = np.concatenate(self.workers.all_gather(own), axis=1)
        return explained_variance(values[in_loss > 0.0], returns[in_loss > 0.0])


def _means(log: Log, share: float) -> dict[str, float]:
    """Compute the means of a worker's metrics over the minibatches of a rollout.

    The mean of these metrics over all workers, weighted by ``share``, covers all transitions.

    Args:
        log: The minibatches with their metrics.
        share: This worker's share of the transitions in the loss.
    """
    parts = [part for part, _ in log]
    rows = list(zip(parts, to_floats([metrics for _, metrics in log]), strict=True))
    last_epoch = [(part, metrics) for part, metrics in rows if part.epoch == parts[-1].epoch]
    means = {}
    for name in rows[0][1]:
        chosen = {_KL: last_epoch, "train/loss": rows[-1:], "train/std": rows[-1:]}.get(name, rows)
        # No optimizer step follows a minibatch above the KL limit, so the minibatch has no gradient norm.
        logged = [(part, metrics) for part, metrics in chosen if name in metrics]
        total = sum(part.share * metrics[name] for part, metrics in logged if part.share)
        means[name] = total / (len(logged) * share) if share else math.nan
    return means


class PPO(Agent):
    """Proximal policy optimization with a half-life for the optimizer.

    After every ``n_steps`` vector steps the agent minimizes `rl_rms.agents.clipped_loss.clipped_loss` in
    ``n_epochs`` passes over minibatches of ``batch_size`` transitions. An update is one optimizer step on one
    minibatch. To convert a half-life or timescale in env steps, the rollout's env steps are divided among the
    updates: equally among the epochs, and within an epoch in proportion to the minibatches' transitions.

    The arguments are the arguments of `rl_rms.agents.agent.Agent` and the fields of `PPOConfig`.

    Examples:
        >>> agent = PPO("CartPole-v1", n_steps=128, n_epochs=4, half_life="2_000 steps", seed=0).learn(256)
        >>> agent.learner.steps_per_update, agent.optimizer.half_life
        (16.0, 125.0)
    """

    algorithm: ClassVar[str] = "ppo"
    config_class: ClassVar[type[AgentConfig]] = PPOConfig
    learner_class: ClassVar[type[Learner]] = PPOLearner
    config: PPOConfig
