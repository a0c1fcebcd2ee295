"""Atomic writes of files, checks that a folder is writable, and locks that reserve a folder for one process."""

import errno
import os
import secrets
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".part"
LOCK, OWNER = ".lock", ".owner"
# A training run or a log begins only if the folder's disk has this many free bytes.
_ROOM = 4096
# Flags that prevent following links, translating line ends and passing the file to child programs. A flag that the
# system lacks is 0.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_MENDS = {
    errno.ELOOP: "remove the link at this path",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on its disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that can be written to"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "choose a path whose folders are not files"),
}


class UnwritableError(OSError):
    """A file or folder that cannot be written; the message names the path, the cause and the fix."""

    def __init__(self, path: Path, error: OSError) -> None:
        mend = _MENDS.get(error.errno or 0, "check its disk, or choose another folder")
        super().__init__(f"cannot write {path}: {error.strerror or error}; {mend}")


class TakenError(RuntimeError):
    """A folder that another process writes to; the message names the folder and, if known, the process."""


def write(path: Path, content: bytes | str) -> None:
    """Write a file atomically: write a new file in the same folder, flush it to the disk, and rename it.

    An earlier file stays complete until the new file is renamed. The new file has a random name and is created
    with ``O_EXCL``, so no link is followed, and two processes that write one path do not mix their contents.

    Args:
        path: Path of the file; its folder is made. A link at this path is replaced, not followed.
        content: Bytes, or text that is encoded as UTF-8.

    Raises:
        UnwritableError: If the file cannot be written. The unfinished file is removed if possible.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise UnwritableError(path, error) from error


def append(path: Path, content: bytes | str) -> None:
    """Append bytes, or text encoded as UTF-8, to a file. A missing file is made.

    Raises:
        UnwritableError: If the file cannot be written or, where the system has ``O_NOFOLLOW``, is a link.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _SAFELY, 0o666), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UnwritableError(path, error) from error


def check_no_links(folder: Path) -> None:
    """Raise an error for a folder that contains a link. A write through a link would change other files.

    Args:
        folder: The folder. The path to the folder may contain links.

    Raises:
        ValueError: If the folder contains a link at any depth. The message names the link and its target.
    """
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent) / name
            if path.is_symlink():
                raise ValueError(f"{path} is a link to {os.readlink(path)}; replace it by a copy of its target")


def whole_lines(path: Path) -> list[str]:
    """The complete lines of a text file, without an unfinished last line.

    Args:
        path: The file; a missing file has no lines.
    """
    if not path.is_file():
        return []
    return path.read_text(errors="replace").rpartition("\n")[0].splitlines()


def check_writable(folder: Path) -> None:
    """Make a folder if it is missing, and check that a file can be written to the folder.

    Raises:
        UnwritableError: If the folder cannot be written to.
    """
    probe = folder / f".{secrets.token_hex(8)}"
    write(probe, bytes(_ROOM))
    with suppress(OSError):
        probe.unlink()


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Lock a folder for this process until the context ends. The process may lock the folder several times.

    If the process is killed, the system releases the lock. On file systems without locks, such as some network
    file systems, a warning replaces the lock.

    Args:
        folder: The folder. A missing folder is made.

    Raises:
        TakenError: If another process has locked the folder.
        UnwritableError: If the folder cannot be written to.
    """
    from filelock import FileLock, Timeout  # imported late, because the import is slow

    check_writable(folder)
    folder = folder.resolve()
    lock = FileLock(folder / LOCK, blocking=False, is_singleton=True, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        owner = folder / OWNER
        who = owner.read_text() if owner.is_file() else "another process"
        raise TakenError(
            f"{folder} is being written by {who}; wait until that process ends, stop it, or choose another folder"
        ) from error
    except OSError as error:
        warnings.warn(
            f"{folder} cannot be locked ({error.strerror or error}); make sure that no other process writes to it",
            stacklevel=3,
        )
    try:
        write(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def _flush_folder(folder: Path) -> None:
    """Flush a folder to the disk after a file in the folder was renamed. Do nothing on Windows."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
