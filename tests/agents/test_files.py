import errno
import os
import signal
import subprocess
import sys

import pytest

from rl_rms.agents import files
from tests.naming import naming


def fail(number):
    def raising(*_):
        raise OSError(number, os.strerror(number))

    return raising


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_write_failed_leaves_the_earlier_file(tmp_path, monkeypatch, call):
    path = tmp_path / "made" / "a.txt"
    files.write(path, "earlier")
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    named = naming(str(path), "No space left on device", "disk")
    with pytest.raises(files.UnwritableError, match=named) as caught:
        files.write(path, b"later")
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert path.read_text() == "earlier"
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.EDQUOT, ["room", "disk"]),
        (errno.EROFS, ["folder"]),
        (errno.EIO, ["disk", "folder"]),
    ],
)
def test_check_writable_error_names_the_remedy_of_its_cause(tmp_path, monkeypatch, number, mend):
    monkeypatch.setattr(os, "fsync", fail(number))
    with pytest.raises(files.UnwritableError, match=naming(os.strerror(number), *mend)):
        files.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_writable_folder_below_a_file_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(files.UnwritableError, match=naming("choose", "path", "file")):
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
def test_whole_lines_leave_out_a_partial_last_line(tmp_path, content, lines):
    path = tmp_path / "lines"
    if content is not None:
        path.write_bytes(content)
    assert files.whole_lines(path) == lines


HOLDER = """
import os, sys, time
from pathlib import Path
from rl_rms.agents import files
with files.owned(Path(sys.argv[1])):
    if os.fork() == 0:  # the child prints: it has closed its copy of the lock only when it runs
        print(os.getpid(), flush=True)
    time.sleep(600)
"""


def test_owned_folder_is_locked_until_its_process_ends(tmp_path):
    with files.owned(tmp_path), files.owned(tmp_path / "." / ".." / tmp_path.name):
        pass
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    try:
        named = naming(str(tmp_path), f"process {process.pid}", "wait")
        with pytest.raises(files.TakenError, match=named), files.owned(tmp_path):
            pass
        process.kill()
        process.wait()
        with files.owned(tmp_path):
            assert f"process {os.getpid()} " in (tmp_path / files.OWNER).read_text()
        os.kill(child, 0)  # still running
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.stdout.close()


def test_owned_without_file_locks_warns(tmp_path, monkeypatch):
    import filelock

    monkeypatch.setattr(filelock.FileLock, "acquire", fail(errno.ENOLCK))
    with (
        pytest.warns(UserWarning, match=naming("cannot be locked", "process")),
        files.owned(tmp_path),
    ):
        assert (tmp_path / files.OWNER).exists()


def test_write_gives_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a.txt", "a")
        files.append(tmp_path / "b.txt", "b")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.txt", "b.txt")] == [0o640, 0o640]


def test_write_replaces_links_and_uses_an_unpredictable_name(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for planted in ("a.txt", ".a.txt.part"):
        (tmp_path / planted).symlink_to(victim)
    beside = []
    monkeypatch.setattr(os, "fsync", lambda _: beside.append({one.name for one in tmp_path.glob(".a.txt.*.part")}))
    files.write(tmp_path / "a.txt", "new")
    files.write(tmp_path / "a.txt", "new")
    assert (victim.read_text(), (tmp_path / "a.txt").read_text()) == ("precious", "new")
    assert not (tmp_path / "a.txt").is_symlink()
    assert len(beside[0] | beside[2]) == 2


def test_write_with_a_link_at_the_temporary_name_fails_and_leaves_its_target(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".a.txt.guessed.part").symlink_to(victim)
    with pytest.raises(files.UnwritableError, match=naming("a.txt")):
        files.write(tmp_path / "a.txt", "new")
    assert victim.read_text() == "precious"


def test_two_writers_of_one_path_do_not_mix_their_contents(tmp_path, monkeypatch):
    path, inner = tmp_path / "a.txt", [b"short"]
    replace = os.replace

    def interleaved(*paths):
        if inner:
            files.write(path, inner.pop())
        replace(*paths)

    monkeypatch.setattr(os, "replace", interleaved)
    files.write(path, b"a long content")
    assert path.read_bytes() == b"a long content"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_append_to_a_link_raises(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log.csv").symlink_to(tmp_path / "victim")
    with pytest.raises(files.UnwritableError, match=naming("log.csv", "link")):
        files.append(tmp_path / "log.csv", "row\n")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("content", ["precious", None])
def test_owned_does_not_follow_links(tmp_path, content):
    victim = tmp_path / "victim"
    if content is not None:
        victim.write_text(content)
    (tmp_path / "run").mkdir()
    for name in (files.OWNER, files.LOCK):
        (tmp_path / "run" / name).symlink_to(victim)
    with pytest.warns(UserWarning, match=naming("locked")), files.owned(tmp_path / "run"):
        pass
    assert (victim.read_text() if victim.exists() else None) == content


def test_check_no_links_names_the_link_and_its_target(tmp_path):
    files.check_no_links(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link").symlink_to("/nowhere")
    with pytest.raises(ValueError, match=naming("deep/link", "/nowhere", "link")):
        files.check_no_links(tmp_path)
