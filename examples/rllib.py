"""Half-life RMSprop in RLlib's PPO and IMPALA (Ray 2.55 and later; RLlib has no A2C any more).

RLlib pins an older Gymnasium, so it gets a virtual environment of its own: ``make rllib`` builds it and runs this,
which takes some minutes. What it shows is the mixin; the rest is RLlib's.
"""

import logging
import math
import os
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

import rl_rms


class OwnOptimizer:
    """A learner that builds its optimizer from ``learner_config_dict["optimizer"]``: a class and its arguments.

    It stands left of RLlib's learner. The learning rate stays RLlib's, which sets it in the optimizer's groups,
    also by a schedule.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the optimizer of a module's parameters."""
        params = self.get_parameters(self._module[module_id])
        kind, arguments = config.learner_config_dict["optimizer"]
        optimizer = kind(params, lr=1e-3, **arguments)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
        )


class PPOLearner(OwnOptimizer, PPOTorchLearner):
    """PPO's, with an optimizer of one's own."""


class IMPALALearner(OwnOptimizer, IMPALATorchLearner):
    """IMPALA's."""


# A minibatch is an update. With 1,000 env steps an iteration, 5 epochs and 250 in a minibatch an update spans 50
# env steps, so that 10,000 env steps are a half-life of 200 updates.
MEMORY = {"half_life": "10_000 steps", "steps_per_update": 50.0, "bias_correction": True, "eps": 1e-5}


def ppo() -> PPOConfig:
    """PPO on CartPole."""
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .training(
            learner_class=PPOLearner,
            learner_config_dict={"optimizer": (rl_rms.RMSprop, MEMORY)},
            lr=2e-3,
            train_batch_size=1_000,
            num_epochs=5,
            minibatch_size=250,
        )
        .debugging(seed=0)
    )


def impala() -> IMPALAConfig:
    """IMPALA on CartPole: an update for every 500 env steps."""
    memory = {**MEMORY, "steps_per_update": 500.0, "half_life": "50_000 steps"}
    return (
        IMPALAConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .training(
            learner_class=IMPALALearner,
            learner_config_dict={"optimizer": (rl_rms.RMSprop, memory)},
            lr=2e-3,
            train_batch_size_per_learner=500,
        )
        .learners(num_learners=0)
        .reporting(min_time_s_per_iteration=1)
        .debugging(seed=0)
    )


def train(config: Any, env_steps: int) -> tuple[float, rl_rms.RMSprop]:
    """The mean return after so many env steps, and the optimizer that led there."""
    algorithm = config.build_algo()
    try:
        mean_return, lived = math.nan, 0
        while lived < env_steps:
            told = algorithm.train()["env_runners"]
            # An iteration in which no episode ended tells of none.
            mean_return = told.get("episode_return_mean", mean_return)
            lived = told.get("num_env_steps_sampled_lifetime", lived)
        ((_, optimizer),) = algorithm.learner_group._learner._named_optimizers.items()
        return float(mean_return), optimizer
    finally:
        algorithm.stop()


def main(env_steps: int = 15_000) -> None:
    """Train both, IMPALA four times as long, and print what came of it."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        for name, config, more in (("PPO", ppo(), 1), ("IMPALA", impala(), 4)):
            mean_return, optimizer = train(config, more * env_steps)
            told = optimizer.diagnostics()
            print(
                f"{name}: mean return {mean_return:.1f}; {type(optimizer).__module__}.{type(optimizer).__name__}, "
                f"half-life {told['half_life_updates']:.0f} updates = {told['half_life_steps']:.0f} env steps, "
                f"tracking ratio {told['tracking_ratio']:.2f}"
            )
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
