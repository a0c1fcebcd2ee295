"""Files that are written whole or not at all, and folders that can be written to and belong to one process.

The only place where the library writes a file that is to be read again.
"""

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".part"
LOCK, OWNER = ".lock", ".owner"
# What a folder has to have room for before a training begins, or a log is taken up again, in bytes.
_ROOM = 4096
_MENDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on its disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that can be written to"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "choose a path on which no file is in the way"),
}


class UnwritableError(OSError):
    """A file or folder that cannot be written; the sentence names it, the cause and the mend."""

    def __init__(self, path: Path, error: OSError) -> None:
        mend = _MENDS.get(error.errno or 0, "see to its disk, or choose another folder")
        super().__init__(f"cannot write {path}: {error.strerror or error}; {mend}")


class TakenError(RuntimeError):
    """A folder that another process writes to; the sentence names both."""


def write(path: Path, content: bytes | str) -> None:
    """Write beside, flush to the disk and rename into place: whenever it is cut off, the earlier file stands.

    Args:
        path: Where to; its folder is made.
        content: Bytes, or text that is encoded as UTF-8.

    Raises:
        UnwritableError: If that fails, with nothing left behind.
    """
    beside = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise UnwritableError(path, error) from error


def whole_lines(path: Path) -> list[str]:
    """The lines of a text file to which lines are appended, without a last one that was cut off.

    Args:
        path: The file; one that is not there has none.
    """
    if not path.is_file():
        return []
    return path.read_text(errors="replace").rpartition("\n")[0].splitlines()


def check_writable(folder: Path) -> None:
    """Make a folder, and a file in it that is removed again.

    Raises:
        UnwritableError: If that fails.
    """
    probe = folder / f".{os.getpid()}"
    write(probe, bytes(_ROOM))
    with suppress(OSError):
        probe.unlink()


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Have a folder to oneself, as long as it lasts and this process lives; again and again within one process.

    The system drops the lock with the process, however that ends. Where its file system has no locks, such as some
    network file systems, there is none, and a warning.

    Args:
        folder: The folder, which is made.

    Raises:
        TakenError: If another process has it.
        UnwritableError: If it cannot be written to.
    """
    from filelock import FileLock, Timeout  # slow to import

    check_writable(folder)
    folder = folder.resolve()
    lock = FileLock(folder / LOCK, blocking=False, is_singleton=True, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        owner = folder / OWNER
        who = owner.read_text() if owner.is_file() else "another process"
        raise TakenError(
            f"{folder} is being written by {who}; wait until it has ended, stop it, or choose another folder"
        ) from error
    except OSError as error:
        warnings.warn(
            f"{folder} cannot be locked ({error.strerror or error}); see to it that no other process writes to it",
            stacklevel=3,
        )
    try:
        write(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def _flush_folder(folder: Path) -> None:
    """Have the disk know the new name, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
