"""The callback that writes histograms of the optimizer's state to TensorBoard."""

from rl_rms.agents.callbacks import Periodic
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.optim.diagnostics import distributions
from rl_rms.optim.rmsprop import RMSprop


class HistogramCallback(Periodic):
    """Writes histograms of RMSprop's second moment and steps to TensorBoard at regular env steps.

    The tags are ``optim/log10_second_moment`` and ``optim/log10_step``, see
    `rl_rms.optim.diagnostics.distributions`. The callback writes nothing for agents with another optimizer.
    """

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Write both histograms."""
        if isinstance(agent.optimizer, RMSprop):
            for name, values in distributions(agent.optimizer).items():
                logger.histogram(agent.num_timesteps, f"optim/{name}", values)
        return None
