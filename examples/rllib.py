"""Use RMSprop with a half-life in RLlib's PPO and IMPALA (Ray 2.55 and later).

RLlib pins an older Gymnasium, so it needs its own virtual environment. ``make rllib`` builds this environment and
runs this script, which takes some minutes.
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
    """A mixin for RLlib's learners that builds the optimizer from ``learner_config_dict["optimizer"]``.

    The entry is a pair of an optimizer class and its arguments. Among the base classes, the mixin must come before
    RLlib's learner. RLlib sets the optimizer's learning rate from ``lr``, which is a number or a schedule.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the optimizer for the parameters of a module."""
        params = self.get_parameters(self._module[module_id])
        kind, arguments = config.learner_config_dict["optimizer"]
        optimizer = kind(params, lr=1e-3, **arguments)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
        )


class PPOLearner(OwnOptimizer, PPOTorchLearner):
    """PPO's learner with the optimizer of the configuration."""


class IMPALALearner(OwnOptimizer, IMPALATorchLearner):
    """IMPALA's learner with the optimizer of the configuration."""


# In PPO, a minibatch is one update. An iteration of 1,000 env steps has 5 epochs of 4 minibatches, so one update
# spans 50 env steps. A half-life of 10,000 env steps is 200 updates.
OPTIMIZER_KWARGS = {"half_life": "10_000 steps", "steps_per_update": 50.0, "bias_correction": True, "eps": 1e-5}


def ppo() -> PPOConfig:
    """Configure PPO on CartPole."""
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .training(
            learner_class=PPOLearner,
            learner_config_dict={"optimizer": (rl_rms.RMSprop, OPTIMIZER_KWARGS)},
            lr=2e-3,
            train_batch_size=1_000,
            num_epochs=5,
            minibatch_size=250,
        )
        .debugging(seed=0)
    )


def impala() -> IMPALAConfig:
    """Configure IMPALA on CartPole, with one update per 500 env steps."""
    optimizer_kwargs = {**OPTIMIZER_KWARGS, "steps_per_update": 500.0, "half_life": "50_000 steps"}
    return (
        IMPALAConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .training(
            learner_class=IMPALALearner,
            learner_config_dict={"optimizer": (rl_rms.RMSprop, optimizer_kwargs)},
            lr=2e-3,
            train_batch_size_per_learner=500,
        )
        .learners(num_learners=0)
        .reporting(min_time_s_per_iteration=1)
        .debugging(seed=0)
    )


def train(config: Any, env_steps: int) -> tuple[float, rl_rms.RMSprop]:
    """Train for ``env_steps`` env steps and return the mean return and the optimizer."""
    algorithm = config.build_algo()
    try:
        mean_return, sampled = math.nan, 0
        while sampled < env_steps:
            metrics = algorithm.train()["env_runners"]
            # The metrics have no mean return if no episode ended in this iteration.
            mean_return = metrics.get("episode_return_mean", mean_return)
            sampled = metrics.get("num_env_steps_sampled_lifetime", sampled)
        ((_, optimizer),) = algorithm.learner_group._learner._named_optimizers.items()
        return float(mean_return), optimizer
    finally:
        algorithm.stop()


def main(env_steps: int = 15_000) -> None:
    """Train PPO, then train IMPALA for four times as many env steps, and print the results."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        for name, config, more in (("PPO", ppo(), 1), ("IMPALA", impala(), 4)):
            mean_return, optimizer = train(config, more * env_steps)
            diagnostics = optimizer.diagnostics()
            print(
                f"{name}: mean return {mean_return:.1f}; {type(optimizer).__module__}.{type(optimizer).__name__}, "
                f"half-life {diagnostics['half_life_updates']:.0f} updates = "
                f"{diagnostics['half_life_steps']:.0f} env steps, "
                f"tracking ratio {diagnostics['tracking_ratio']:.2f}"
            )
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
