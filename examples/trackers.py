"""Send the log of a training to Weights & Biases or MLflow, with one callback for each.

Copy the callback that you need into a module of your own, and name it in a configuration, as in
``callbacks: [{trackers:WandbCallback: {project: drift}}]``, or pass it to ``learn``. The training needs a
``log_dir``, which ``rl-rms train`` always has.

Run: python examples/trackers.py mlflow
"""

import sys
from typing import Any

from rl_rms.agents import A2C, Callback


class WandbCallback(Callback):
    """Sends each entry of the log to a run of Weights & Biases.

    Args:
        **options: Arguments of ``wandb.init``, such as ``project="drift"``.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def on_training_start(self, agent, logger) -> None:
        """Begin a run."""
        import wandb

        self.run = wandb.init(config=agent.config.to_dict(), **self.options)
        logger.add_output(lambda num_timesteps, scalars: self.run.log(scalars, step=num_timesteps))

    def on_training_end(self, agent, logger) -> None:
        """End the run."""
        self.run.finish()


class MLflowCallback(Callback):
    """Sends each entry of the log to a run of MLflow.

    Args:
        **options: Arguments of ``mlflow.start_run``, such as ``run_name="drift"``.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def on_training_start(self, agent, logger) -> None:
        """Begin a run."""
        import mlflow

        mlflow.start_run(**self.options)
        mlflow.log_params(agent.config.to_dict())
        logger.add_output(lambda num_timesteps, scalars: mlflow.log_metrics(scalars, step=num_timesteps))

    def on_training_end(self, agent, logger) -> None:
        """End the run."""
        import mlflow

        mlflow.end_run()


def main(tracker: str, total_timesteps: int = 20_000) -> None:
    """Train A2C, and send its log to a tracker."""
    callback = {"wandb": WandbCallback, "mlflow": MLflowCallback}[tracker]()
    A2C("CartPole-v1", seed=0).learn(total_timesteps, callback, log_dir="runs/trackers")


if __name__ == "__main__":
    main(sys.argv[1])
