"""A TensorBoard event file that writes synchronously and raises its errors in the caller.

`torch.utils.tensorboard.SummaryWriter` writes in a thread, so only a later call raises an error. This is the only
module that uses TensorBoard's record format and messages.
"""

import os
import re
import secrets
import socket
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files

if TYPE_CHECKING:
    from torch import Tensor

PATTERN = "events.out.tfevents.*"
_SECOND = re.compile(r"events\.out\.tfevents\.(\d+)\.")
_BINS = 100


class EventFile:
    """A new event file. TensorBoard reads the new file after the folder's earlier event files.

    TensorBoard reads a folder's event files in the order of their names. The name of an event file contains a time
    in seconds. The new file's time is later than the time of every earlier file, even if the system clock was set
    back.

    Args:
        folder: Folder of the file.
        purge_step: Env step from which TensorBoard hides entries of earlier files; None hides none.

    Attributes:
        path: The file.

    Raises:
        UnwritableError: If the constructor or a method cannot write the file.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        seconds = [int(found[1]) for file in folder.glob(PATTERN) if (found := _SECOND.match(file.name))]
        second = max(int(time.time()), max(seconds, default=0) + 1)
        # The name ends with random characters, so that no other process can place a link at this path.
        end = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(8)}"
        self.path = folder / f"events.out.tfevents.{second:010d}.{end}"
        self._append(file_version="brain.Event:2")
        if purge_step is not None:
            self._append(purge_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add scalars by tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._add([Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()], step)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Add a text to the Text tab."""
        from torch.utils.tensorboard.summary import text

        self._add(text(tag, markdown).value, step)  # type: ignore[no-untyped-call]

    def picture(self, step: int, tag: str, encoded: bytes) -> None:
        """Add a PNG or a GIF to the Images tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._add([Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=encoded))], step)

    def histogram(self, step: int, tag: str, values: "Tensor") -> None:
        """Add a histogram of the finite values. Add nothing without finite values."""
        from torch.utils.tensorboard.summary import histogram

        finite = values[values.isfinite()].cpu().numpy()
        if finite.size:
            self._add(histogram(tag, finite, bins=_BINS).value, step)  # type: ignore[no-untyped-call]

    def layout(self, headings: Mapping[str, Any]) -> None:
        """Arrange the Custom Scalars tab, as `torch.utils.tensorboard.SummaryWriter.add_custom_scalars` does."""
        from torch.utils.tensorboard.summary import custom_scalars

        self._add(custom_scalars(headings).value, 0)  # type: ignore[no-untyped-call]

    def hyperparameters(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Add a run's hyperparameters to the HParams tab."""
        from torch.utils.tensorboard.summary import hparams

        _, start, _ = hparams(dict(values), {})  # type: ignore[no-untyped-call]
        self._add(start.value)

    def results(
        self, values: Mapping[str, bool | int | float | str], tags: list[str], first: tuple[str, ...]
    ) -> None:
        """Declare the columns of the HParams tab, once per file.

        Args:
            values: The hyperparameters.
            tags: Tags of the results.
            first: Hyperparameters whose columns come first.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import (
            HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from torch.utils.tensorboard.summary import hparams

        summary, _, _ = hparams(dict(values), dict.fromkeys(tags, 0.0))  # type: ignore[no-untyped-call]
        plugin = summary.value[0].metadata.plugin_data
        data = HParamsPluginData.FromString(plugin.content)
        for hparam in data.experiment.hparam_infos:
            hparam.differs = hparam.name in first  # TensorBoard shows these columns first
        plugin.content = data.SerializeToString()
        self._add(summary.value)

    def _add(self, values: Any, step: int | None = None) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._append(step, summary=Summary(value=values))

    def _append(self, step: int | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
        files.append(self.path, record.getvalue())
