"""Callbacks that send the log of a training run to Weights & Biases or MLflow."""

from importlib import import_module
from typing import Any

from rl_rms.agents.callbacks import Callback
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent


class WandbCallback(Callback):
    """Sends each entry of the log to a run of Weights & Biases, with the agent's configuration.

    The training needs a ``log_dir``, which ``rl-rms train`` always has.

    Args:
        **options: Arguments of ``wandb.init``, such as ``project="drift"``.

    Raises:
        ImportError: If the extra ``wandb`` is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self._wandb, self._options = _import("wandb", "WandbCallback"), options

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Begin a run."""
        self._run = self._wandb.init(config=agent.config.to_dict(), **self._options)
        logger.add_output(lambda num_timesteps, scalars: self._run.log(scalars, step=num_timesteps))

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """End the run."""
        self._run.finish()


class MLflowCallback(Callback):
    """Sends each entry of the log to a run of MLflow, with the agent's configuration as parameters.

    The training needs a ``log_dir``, which ``rl-rms train`` always has.

    Args:
        **options: Arguments of ``mlflow.start_run``, such as ``run_name="drift"``.

    Raises:
        ImportError: If the extra ``mlflow`` is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self._mlflow, self._options = _import("mlflow", "MLflowCallback"), options

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Begin a run."""
        self._mlflow.start_run(**self._options)
        self._mlflow.log_params(agent.config.to_dict())
        logger.add_output(lambda num_timesteps, scalars: self._mlflow.log_metrics(scalars, step=num_timesteps))

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """End the run."""
        self._mlflow.end_run()


def _import(module: str, name: str) -> Any:
    """Import a tracker's package. The extra of rl_rms has the name of the package."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{name} needs {module}; install it with pip install 'rl_rms[{module}]'") from error
