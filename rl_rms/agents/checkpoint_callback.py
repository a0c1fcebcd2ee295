"""The callback that saves an agent during its training."""

import tempfile
import warnings
from pathlib import Path

from rl_rms.agents import files, storage
from rl_rms.agents.callbacks import Periodic
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs.checks import check_int


def save_or_warn(agent: TrainedAgent, path: Path) -> Exception | None:
    """Save an agent during its training. If saving fails, warn instead of raising an error.

    Returns:
        None if the agent was saved, else the error. After an error an earlier file is unchanged.
    """
    try:
        agent.save(path)
    except Exception as error:
        reason = error if isinstance(error, files.UnwritableError) else f"cannot save {path}: {error}"
        warnings.warn(f"{reason}. This does not end the training, but this checkpoint is missing", stacklevel=2)
        return error
    return None


class CheckpointCallback(Periodic):
    """Saves the agent at regular env steps and at the end of the training, also after an error.

    If the callback cannot save a checkpoint, it warns and training continues. If the callback cannot write the
    last checkpoint to the folder, it writes this checkpoint to the system's temporary folder, and a warning names
    the file.

    Args:
        folder: Folder of the files ``step_<env steps>.safetensors`` and ``final.safetensors``.
        every: Env steps between two checkpoints.
        keep: Number of the newest ``step_...`` files to keep; None keeps all. Files with more env steps than the
            agent has at the start count as files of another training run, and are kept. For a new agent, all
            existing files are kept.

    Attributes:
        error: The error of the checkpoint at the end of the training; None without an error.

    Raises:
        ValueError: If ``every`` or ``keep`` is not a whole number >= 1.
    """

    error: Exception | None = None

    def __init__(self, folder: str | Path, every: int, keep: int | None = 5) -> None:
        super().__init__(every)
        self.folder = Path(folder)
        self.keep = None if keep is None else check_int("keep", keep, least=1, unit="checkpoints")

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Check that the folder can be written to, and remove unfinished files of a killed process.

        Raises:
            UnwritableError: If the folder cannot be written to.
        """
        super().on_training_start(agent, logger)
        files.check_writable(self.folder)
        existing = sorted(self.folder.glob(f"step_*{storage.SUFFIX}"))
        # Sorted names are in the order of their env steps.
        self._own = [path for path in existing if agent.num_timesteps and path.name <= self._path(agent).name]
        if len(self._own) < len(existing):
            warnings.warn(
                f"{self.folder} has {len(existing) - len(self._own)} checkpoints of another training run, such as "
                f"{existing[-1].name}, which are kept; give each training run its own folder",
                stacklevel=4,
            )
        for unfinished in self.folder.glob(f".*{storage.SUFFIX}.*{files.UNFINISHED}"):
            unfinished.unlink()

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Save a checkpoint, and delete the oldest checkpoints beyond ``keep``."""
        path = self._path(agent)
        if save_or_warn(agent, path) is None and self.keep is not None:
            self._own = [own for own in self._own if own != path] + [path]
            while len(self._own) > self.keep:
                self._own.pop(0).unlink(missing_ok=True)  # a user may have deleted the run's folder
        return None

    def _path(self, agent: TrainedAgent) -> Path:
        return self.folder / f"step_{agent.num_timesteps:010d}{storage.SUFFIX}"

    def on_training_end(self, agent: TrainedAgent, logger: Logger) -> None:
        """Save the last checkpoint, unless an optimizer step was interrupted."""
        if agent.learner.is_half_stepped:
            return
        path = self.folder / f"final{storage.SUFFIX}"
        self.error = save_or_warn(agent, path)
        if not isinstance(self.error, OSError):
            return
        instead = Path(tempfile.mkdtemp(prefix="rl_rms-")) / path.name
        if save_or_warn(agent, instead) is None:
            message = (
                f"The agent at env step {agent.num_timesteps:,} is saved in {instead}. To resume, move this file "
                f"to {self.folder}"
            )
            self.error.args = (f"{self.error}. {message}",)
            warnings.warn(message, stacklevel=2)
