import multiprocessing
import os
import platform
import re
import select
import signal
import sys
from multiprocessing import connection
from pathlib import Path

import numpy as np
import pytest

from rl_rms.agents.shared_memory import SharedMemory, create, open_address
from tests.naming import naming

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="shared memory needs Linux and x86-64"
)
# The timeout of collective operations, longer than JOIN_SECONDS, so that no test passes because of the timeout.
LONG = 600.0
JOIN_SECONDS = 60


def run(rank, fd, pipe, work, timeout):
    pids = pipe.recv()
    memory = SharedMemory(fd, pids, rank, timeout)
    try:
        result = work(memory, rank, pids)
    except RuntimeError as error:
        result = str(error)
    pipe.send(result)
    pipe.recv()


def together(work, size=2, timeout=LONG):
    """Run a function of memory, rank and pids in several processes; the result of a killed process is None."""
    context = multiprocessing.get_context("fork")
    fd, _ = create(size)
    pipes = [context.Pipe() for _ in range(size)]
    processes = [
        context.Process(target=run, args=(rank, fd, child, work, timeout), daemon=True)
        for rank, (_, child) in enumerate(pipes)
    ]
    try:
        for process in processes:
            process.start()
        for parent, _ in pipes:
            parent.send([process.pid for process in processes])
        results = []
        for (parent, _), process in zip(pipes, processes, strict=True):
            assert connection.wait([parent, process.sentinel], JOIN_SECONDS), "a process waits forever"
            results.append(parent.recv() if parent.poll() else None)
        return results
    finally:
        os.close(fd)
        for process in processes:
            process.kill()
            process.join()


def reduce_arrays(memory, rank, pids):
    results = []
    for turn, size in enumerate((1, 100_001, 3, 65_536)):
        for dtype in (np.float32, np.float64):
            own = np.random.default_rng([turn, rank]).normal(size=size).astype(dtype)
            memory.all_reduce(own)
            results.append(own)
    return results


def test_all_reduce_adds_in_the_order_of_the_ranks():
    results = together(reduce_arrays, size=3)
    for i, (turn, size) in enumerate(enumerate((1, 100_001, 3, 65_536))):
        for k, dtype in enumerate((np.float32, np.float64)):
            first, second, third = (
                np.random.default_rng([turn, rank]).normal(size=size).astype(dtype) for rank in range(3)
            )
            for result in results:
                np.testing.assert_array_equal(result[2 * i + k], first + second + third)


def reduce_overflow(memory, rank, pids):
    own = np.array([3e38, np.inf if rank else -np.inf], np.float32)
    with np.errstate(all="raise"):
        memory.all_reduce(own)
    return own


def test_all_reduce_of_an_overflow_does_not_warn():
    for result in together(reduce_overflow):
        np.testing.assert_array_equal(result, np.array([np.inf, np.nan], np.float32))


def gather_arrays(memory, rank, pids):
    return [memory.all_gather(np.full(shape, float(rank))) for shape in ((2, 3), (0,), (300, 400))]


def test_all_gather_returns_the_arrays_by_rank():
    for result in together(gather_arrays):
        assert [array.shape for array in result] == [(2, 2, 3), (2, 0), (2, 300, 400)]
        for array in result:
            assert all((part == rank).all() for rank, part in enumerate(array))


def die(memory, rank, pids):
    memory.all_reduce(np.ones(1))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    memory.all_reduce(np.ones(1))


def test_all_reduce_without_a_killed_process_names_it():
    first, killed, third = together(die, size=3)
    assert killed is None
    for error in (first, third):
        assert re.match(naming("worker 1", "ended"), error)


def hang(memory, rank, pids):
    if rank == 0:
        memory.all_reduce(np.ones(1))


def observe(pid):
    """Wait until a process has ended."""
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    poll.poll()


def test_all_reduce_without_a_hung_process_ends_at_the_timeout():
    waiting, _ = together(hang, timeout=0.2)
    assert re.match(naming("worker 1", "0.2"), waiting)


def leave(memory, rank, pids):
    own = np.ones(1)
    memory.all_reduce(own)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    observe(pids[1])
    return own


def test_all_reduce_keeps_the_values_of_a_process_that_has_ended():
    own, _ = together(leave)
    assert own == [2.0]


def interrupt(memory, rank, pids):
    if rank == 1:
        memory.all_reduce(np.ones(1))
        os.kill(pids[0], signal.SIGINT)
        return None
    try:
        for _ in range(2):
            memory.all_reduce(np.ones(1))
    except KeyboardInterrupt:
        return "interrupted"
    return None


def test_waiting_process_is_interrupted_at_once():
    assert together(interrupt) == ["interrupted", None]


def test_memory_has_no_name_in_a_file_system():
    fd, (pid, number, name) = create(2)
    assert Path(f"/proc/{pid}/fd/{number}").readlink().name.endswith("(deleted)")
    os.close(fd)
    with pytest.raises(OSError, match="No such file"):
        open_address((pid, number, name))


def test_open_address_of_another_file_raises(tmp_path):
    fd, (pid, _, name) = create(2)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(FileNotFoundError, match=name):
            open_address((pid, other, name))
    finally:
        os.close(fd)
        os.close(other)


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64")])
def test_create_on_an_unsupported_platform_raises(system, machine, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(OSError, match=naming("Linux", "x86-64")):
        create(2)
