"""Half-lives in env steps for Stable-Baselines3: env steps per update, and a callback that sets the half-life.

Stable-Baselines3 does not tell the optimizer the number of env steps between two updates. This module computes the
number from the algorithm's arguments. Source: ``train`` and ``learn`` of each algorithm in ``stable_baselines3``.
"""

import math
from collections.abc import Mapping
from typing import Literal, cast, get_args

from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv
from torch.optim import Optimizer

from rl_rms.envs.checks import check_int, check_one_of
from rl_rms.half_life import HalfLife, Timescale, parse_half_life
from rl_rms.optim.rmsprop import RMSprop

OptimizerName = Literal["policy", "actor", "critic", "ent_coef"]

_KNOWN = "A2C, PPO, DQN, SAC, TD3 and DDPG"
# Diagnostics that depend on the current gradients. They would be wrong for the critic: after the critic's step,
# the backward pass of the actor's loss runs through the critic and adds to the critic's gradients.
_OF_GRADIENTS = (
    "effective_step",
    "step_over_lr",
    "tracking_ratio",
    "containment_margin",
    "gradient_norm",
    "squared_gradient",
)
_OF_OTHER_GRADIENTS: Mapping[str, frozenset[str]] = {"critic": frozenset(_OF_GRADIENTS)}


def env_steps_per_update(
    model: BaseAlgorithm, optimizer: OptimizerName = "policy", *, rollout_steps: int | None = None
) -> float:
    """The mean number of env steps between two steps of a model's optimizer, summed over all environments.

    | algorithm           | env steps per update                                                    |
    |---------------------|-------------------------------------------------------------------------|
    | A2C                 | ``n_steps * n_envs``                                                    |
    | PPO                 | ``n_steps * n_envs / (n_epochs * ceil(n_steps * n_envs / batch_size))`` |
    | DQN, SAC, TD3, DDPG | ``train_freq * n_envs / gradient_steps``                                |

    For the algorithms of the last row, ``rollout_steps`` replaces ``train_freq * n_envs`` if ``train_freq`` counts
    episodes. With ``gradient_steps=-1``, an update spans 1 env step. An update of TD3's actor spans
    ``policy_delay`` times as many env steps as in the table. If PPO's ``target_kl`` ends epochs early, updates
    span more env steps than in the table.

    Args:
        model: A model of one of these algorithms or of a subclass.
        optimizer: Name of the model's optimizer: ``"policy"``, ``"actor"``, ``"critic"``, or ``"ent_coef"`` for
            SAC's entropy coefficient.
        rollout_steps: Env steps of the last rollout; needed if ``train_freq`` counts episodes and
            ``gradient_steps`` is not -1, otherwise unused.

    Returns:
        Env steps per update, > 0.

    Raises:
        ValueError: If the algorithm is not in the table or never updates (``gradient_steps=0``), if ``optimizer``
            is unknown, or if ``rollout_steps`` is needed and missing.
    """
    check_one_of("optimizer", optimizer, get_args(OptimizerName))
    if isinstance(model, A2C):
        return float(model.n_steps * model.n_envs)
    if isinstance(model, PPO):
        collected = model.n_steps * model.n_envs
        return collected / (model.n_epochs * math.ceil(collected / model.batch_size))
    if isinstance(model, (DQN, SAC, TD3)):
        delay = model.policy_delay if isinstance(model, TD3) and optimizer == "actor" else 1
        return delay * _env_steps_per_gradient_step(model, rollout_steps)
    raise ValueError(
        f"model must be one of {_KNOWN}, got {type(model).__name__}; for other algorithms set "
        "optimizer.steps_per_update to the env steps between two updates"
    )


def _env_steps_per_gradient_step(model: OffPolicyAlgorithm, rollout_steps: int | None) -> float:
    if model.gradient_steps == 0:
        raise ValueError("gradient_steps must be -1 or above 0 for a half-life, got 0, which disables updates")
    if model.gradient_steps < 0:
        return 1.0
    if not _counts_episodes(model):
        rollout_steps = _train_freq(model).frequency * model.n_envs
    if rollout_steps is None:
        raise ValueError(
            f"train_freq={_train_freq(model).frequency} counts episodes and needs rollout_steps, got "
            "rollout_steps=None; give the env steps of the last rollout"
        )
    return rollout_steps / model.gradient_steps


def _counts_episodes(model: BaseAlgorithm) -> bool:
    return isinstance(model, OffPolicyAlgorithm) and _train_freq(model).unit == TrainFrequencyUnit.EPISODE


def _train_freq(model: OffPolicyAlgorithm) -> TrainFreq:
    # Stable-Baselines3 annotates the constructor's argument, but a model's attribute is always a TrainFreq.
    return cast(TrainFreq, model.train_freq)


class HalfLifeCallback(BaseCallback):
    """Sets the half-life of a model's `rl_rms.RMSprop`, for example in env steps, and logs its diagnostics.

    A half-life in env steps has the same meaning for any number of environments, epochs or minibatches. The
    callback sets the half-life whenever training starts, also in a loaded model. Without the argument
    ``timescale``, ``"match"`` uses the shortest timescale of the environments. The timescale of separate
    `rl_rms.envs.NonStationary` environments is multiplied by their number, because each has its own clock.

    The model's logger gets the diagnostics under ``optim/``, such as ``optim/half_life_updates``. With separate
    optimizers, the names begin with ``optim/actor/``, ``optim/critic/`` or ``optim/ent_coef/``.
    `rl_rms.optim.diagnostics.diagnostics` explains the diagnostics. Diagnostics of the critic's gradient are not
    logged, because the actor's loss adds to this gradient.

    Args:
        half_life: ``"20_000 steps"`` (env steps), ``69`` or ``"69 updates"``, a `HalfLife`, ``"match"`` or
            ``"auto"``; None keeps the half-life of each optimizer.
        log_interval: Least number of updates between two records of the diagnostics, >= 1. The diagnostics are
            recorded at the end of a rollout, and written when the model next writes its log.
        verbose: 1 prints the half-lives when training starts, if the env steps per update are known.
        timescale: As in `rl_rms.RMSprop`; None uses the timescale of the environments if they have one.

    Raises:
        ValueError: If an argument is out of its range. During training, if the algorithm is unknown or never
            updates, or if the model has no `rl_rms.RMSprop` optimizer.

    Examples:
        >>> import rl_rms
        >>> from stable_baselines3 import A2C
        >>> from rl_rms.sb3 import HalfLifeCallback
        >>> model = A2C("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": rl_rms.RMSprop})
        >>> model = model.learn(10, callback=HalfLifeCallback("4_000 steps"))
        >>> model.policy.optimizer.half_life
        800.0
    """

    def __init__(
        self,
        half_life: float | str | HalfLife | None = None,
        log_interval: int = 100,
        verbose: int = 0,
        timescale: float | str | Timescale | None = None,
    ) -> None:
        super().__init__(verbose)
        self.log_interval = check_int("log_interval", log_interval, least=1, unit="updates")
        self.half_life = None if half_life is None else parse_half_life(half_life)
        self.timescale = None if timescale is None else Timescale.parse(timescale)
        self._optimizers: dict[OptimizerName, RMSprop] = {}
        self._rollout_began = 0
        self._updates_since_record = 0.0
        self._updates_timescale = False

    def _on_training_start(self) -> None:
        self._optimizers = _find_optimizers(self.model)
        self._updates_since_record = 0.0
        # If train_freq counts episodes, the callback reads the env steps at the end of a rollout, before any
        # update.
        if not _counts_episodes(self.model):
            self._set_span(rollout_steps=None)
        found = None if self.timescale is not None else _find_timescale(self.training_env)
        self._updates_timescale = found is not None
        self._set_timescale(self.timescale or found)
        for name, optimizer in self._optimizers.items():
            if self.half_life is not None:
                optimizer.half_life = self.half_life
            if self.verbose >= 1 and optimizer.steps_per_update is not None:
                in_steps = optimizer.half_life * optimizer.steps_per_update
                print(
                    f"half-life of the {name}'s optimizer: {optimizer.half_life:g} updates, {in_steps:g} env steps"
                )

    def _on_rollout_start(self) -> None:
        self._rollout_began = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        rollout_steps = self.model.num_timesteps - self._rollout_began
        self._set_span(rollout_steps)
        if self._updates_timescale:
            # The timescale of a curriculum changes during the training.
            self._set_timescale(_find_timescale(self.training_env))
        if isinstance(self.model, OffPolicyAlgorithm) and self.model.num_timesteps <= self.model.learning_starts:
            return  # no update follows
        spans = [optimizer.steps_per_update for optimizer in self._optimizers.values()]
        self._updates_since_record += rollout_steps / min(span for span in spans if span is not None)
        if self._updates_since_record >= self.log_interval:
            self._updates_since_record = 0.0
            self._record()

    def _set_timescale(self, timescale: Timescale | None) -> None:
        if timescale is not None:
            for optimizer in self._optimizers.values():
                optimizer.timescale = timescale

    def _set_span(self, rollout_steps: int | None) -> None:
        for name, optimizer in self._optimizers.items():
            optimizer.steps_per_update = env_steps_per_update(self.model, name, rollout_steps=rollout_steps)

    def _record(self) -> None:
        for name, optimizer in self._optimizers.items():
            prefix = "optim" if name == "policy" else f"optim/{name}"
            for key, value in optimizer.diagnostics().items():
                if key not in _OF_OTHER_GRADIENTS.get(name, ()):
                    self.logger.record(f"{prefix}/{key}", value)


def _find_timescale(env: VecEnv) -> Timescale | None:
    """Return the environments' shortest timescale, in env steps of all environments together; None without one."""
    # A worker of SubprocVecEnv ends when a missing attribute is read.
    if not env.has_attr("timescale"):
        return None
    return Timescale(min(env.get_attr("timescale")) * env.num_envs, "steps")


def _find_optimizers(model: BaseAlgorithm) -> dict[OptimizerName, RMSprop]:
    """A model's `rl_rms.RMSprop` optimizers by name."""
    candidates: dict[OptimizerName, Optimizer | None] = {
        "policy": getattr(model.policy, "optimizer", None),
        "actor": getattr(getattr(model, "actor", None), "optimizer", None),
        "critic": getattr(getattr(model, "critic", None), "optimizer", None),
        "ent_coef": getattr(model, "ent_coef_optimizer", None),
    }
    ours: dict[OptimizerName, RMSprop] = {
        name: optimizer for name, optimizer in candidates.items() if isinstance(optimizer, RMSprop)
    }
    if not ours:
        found = {name: type(optimizer).__name__ for name, optimizer in candidates.items() if optimizer is not None}
        listed = ", ".join(f"{kind} ({name})" for name, kind in found.items())
        raise ValueError(
            f"HalfLifeCallback needs a model that learns with rl_rms.RMSprop, got {listed}; build the model with "
            'policy_kwargs={"optimizer_class": rl_rms.RMSprop}'
        )
    return ours
