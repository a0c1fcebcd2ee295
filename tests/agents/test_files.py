import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from rl_rms.agents import files


def fail(number):
    def raising(*_):
        raise OSError(number, os.strerror(number))

    return raising


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    path = tmp_path / "made" / "a.txt"
    files.write(path, "earlier")
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    said = f"cannot write {re.escape(str(path))}: No space left on device; make room on its disk"
    with pytest.raises(files.UnwritableError, match=said) as caught:
        files.write(path, b"later")
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert path.read_text() == "earlier"
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.EDQUOT, "make room on its disk"),
        (errno.EROFS, "choose a folder that can be written to"),
        (errno.EIO, "see to its disk, or choose another folder"),
    ],
)
def test_the_mend_fits_the_cause(tmp_path, monkeypatch, number, mend):
    monkeypatch.setattr(os, "fsync", fail(number))
    with pytest.raises(files.UnwritableError, match=f"{os.strerror(number)}; {mend}$"):
        files.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(files.UnwritableError, match="choose a path on which no file is in the way"):
        files.check_writable(tmp_path / "file" / "folder")
    files.check_writable(tmp_path / "folder" / "folder")
    assert list((tmp_path / "folder" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (None, []),
        (b"", []),
        (b"a", []),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\nb\nc", ["a", "b"]),
        (b"\xff\n", ["\ufffd"]),
    ],
)
def test_a_line_that_was_cut_off_is_none(tmp_path, content, lines):
    path = tmp_path / "lines"
    if content is not None:
        path.write_bytes(content)
    assert files.whole_lines(path) == lines


HOLDER = """
import os, sys, time
from pathlib import Path
from rl_rms.agents import files
with files.owned(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    time.sleep(600)
"""


def test_a_folder_belongs_to_one_process_until_it_dies_whatever_its_children_do(tmp_path):
    with files.owned(tmp_path), files.owned(tmp_path / "." / ".." / tmp_path.name):
        pass
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    try:
        said = (
            f"{re.escape(str(tmp_path))} is being written by process {process.pid} on .*; wait until it has ended"
        )
        with pytest.raises(files.TakenError, match=said), files.owned(tmp_path):
            pass
        process.kill()
        process.wait()
        with files.owned(tmp_path):
            assert f"process {os.getpid()} " in (tmp_path / files.OWNER).read_text()
        os.kill(child, 0)  # still alive
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.stdout.close()


def test_where_there_are_no_locks_there_is_a_warning(tmp_path, monkeypatch):
    import filelock

    monkeypatch.setattr(filelock.FileLock, "acquire", fail(errno.ENOLCK))
    with (
        pytest.warns(UserWarning, match="cannot be locked .*; see to it that no other process"),
        files.owned(tmp_path),
    ):
        assert (tmp_path / files.OWNER).exists()
