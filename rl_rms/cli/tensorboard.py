"""Writes a run's texts and images to TensorBoard."""

import platform
import shlex
import sys
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rl_rms.agents import files
from rl_rms.agents.callbacks import Callback
from rl_rms.agents.config_file import CONFIG
from rl_rms.agents.logger import Logger
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.config import RunConfig
from rl_rms.cli.runs import CURVE, read_run

if TYPE_CHECKING:
    from rl_rms.agents.protocols import TrainedAgent

_PACKAGES = ("rl_rms", "torch", "gymnasium", "numpy")


class RunPages(Callback):
    """Writes configuration, versions, command and schedule of a run, and the learning curve at the run's end."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def on_training_start(self, agent: "TrainedAgent", logger: Logger) -> None:
        """Write configuration, command and versions and, for a new run, a plot of the schedules."""
        logger.text(agent.num_timesteps, "run/config", as_code(self.config.to_yaml(), "yaml"))
        logger.text(
            agent.num_timesteps,
            "run/command",
            as_code(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "bash"),
        )
        rows = "".join(f"| {name} | {number} |\n" for name, number in versions().items())
        logger.text(agent.num_timesteps, "run/versions", f"| package | version |\n|---|---|\n{rows}")
        if agent.num_timesteps == 0 and self.config.env.schedules():
            logger.picture(0, "env/schedule", draw_changes(self.config))

    def on_update(self, agent: "TrainedAgent", logger: Logger) -> bool | None:
        """Write the configuration file again if it was deleted, so that the run can be resumed."""
        if agent.training.num_rollouts % self.config.rollouts_per_entry == 0:
            self._keep_config()
        return None

    def _keep_config(self) -> None:
        if not (self.folder / CONFIG).exists():
            with suppress(files.UnwritableError):  # the log warns about the folder
                files.write(self.folder / CONFIG, self.config.to_yaml())

    def on_training_end(self, agent: "TrainedAgent", logger: Logger) -> None:
        """Write the learning curve if the run logged any returns."""
        self._keep_config()
        if not (self.folder / CONFIG).exists():
            return
        from rl_rms.cli.groups import Group
        from rl_rms.cli.plots import learning_curve, save

        run = read_run(self.folder)
        if run.series(RETURN)[0]:
            path = self.folder / CURVE
            try:
                save(learning_curve([Group(self.folder.name, [run])]), path)
            except files.UnwritableError as error:
                mend = f"to draw the learning curve later, run rl-rms plot {self.folder}"
                warnings.warn(f"{error}; {mend}", stacklevel=2)
                return
            logger.picture(agent.num_timesteps, "run/learning_curve", path.read_bytes())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def as_code(text: str, language: str) -> str:
    """Format a text as a Markdown code block."""
    return f"```{language}\n{text.rstrip()}\n```"


def draw_changes(config: RunConfig) -> bytes:
    """Draw a PNG of all scheduled changes of a run's environment over the run's env steps, with their seed."""
    from rl_rms.cli.plot_schedule import drawn
    from rl_rms.studies.drawing import figure_bytes

    end = config.total_timesteps / config.pace
    figure = drawn(config.env.id, config.env.schedules(), end, [config.drift_seed])
    return figure_bytes(figure, "png", dpi=100)
