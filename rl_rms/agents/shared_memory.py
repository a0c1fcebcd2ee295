"""Exchange of arrays between the processes of one machine, through shared memory.

Each process has two slots of the memory, for even and odd turns, and a counter of its turns. In a turn a process
writes an array to its slot, raises its counter, and waits until all counters have reached the turn. Then the
process reads all slots. A process writes to the same slot again two turns later. By then, all processes have read
the slot.

The memory is an anonymous file (``memfd_create``), which the kernel frees when the last process ends.
"""

import mmap
import os
import platform
import secrets
import select
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Address = tuple[int, int, str]
"""Process id, file descriptor and name of a shared memory."""

# Bytes of a slot.
_SLOT = 1 << 18
# Counters are on different cache lines.
_LINE = 64
# A waiting process only yields the CPU between checks of the counters for this many seconds, and then sleeps.
_SPIN_SECONDS = 1e-3


class SharedMemory:
    """Memory that the processes of one machine share.

    Every process calls the same methods in the same order, with arrays of the same shape and type. The methods
    raise RuntimeError if another process ends or does not answer in time.

    Args:
        fd: File descriptor from `create` or `open_address`. The caller may close the descriptor afterwards.
        pids: Process ids by rank.
        rank: Rank of this process.
        timeout: Maximum time to wait for the other processes, in seconds.

    Raises:
        OSError: If this process cannot watch the other processes.
    """

    def __init__(self, fd: int, pids: Sequence[int], rank: int, timeout: float) -> None:
        self._rank, self._timeout = rank, timeout
        self._turn = 0
        size = len(pids)
        memory = mmap.mmap(fd, _num_bytes(size))
        self._counters = memoryview(memory).cast("q")
        self._slots = np.frombuffer(memory, np.uint8, offset=size * _LINE).reshape(2, size, _SLOT)
        self._processes, self._rank_of = select.poll(), dict[int, int]()
        for other, pid in enumerate(pids):
            if other != rank:
                pidfd = os.pidfd_open(pid)
                weakref.finalize(self, os.close, pidfd)
                self._rank_of[pidfd] = other
                self._processes.register(pidfd, select.POLLIN)

    def all_gather(self, own: Array) -> Array:
        """The arrays of all processes by rank, shape ``(size, *shape)``."""
        gathered = np.empty((self._slots.shape[1], *own.shape), own.dtype)
        flat = gathered.reshape(len(gathered), -1)
        for part, received in self._turns(own.reshape(-1)):
            flat[:, part] = received
        return gathered

    def all_reduce(self, own: Array) -> None:
        """Replace a contiguous array by the sum over all processes, added in the order of the ranks."""
        flat = own.reshape(-1)
        for part, received in self._turns(flat):
            total = flat[part]
            total[...] = received[0]
            # Like torch, do not warn of gradients that overflow.
            with np.errstate(over="ignore", invalid="ignore"):
                for other in received[1:]:
                    total += other

    def _turns(self, own: Array) -> Iterator[tuple[slice, Array]]:
        """Exchange an array of shape ``(n,)`` in parts that fit into a slot."""
        length = _SLOT // own.itemsize
        for start in range(0, len(own), length):
            part = slice(start, start + length)
            self._turn += 1
            num_bytes = own[part].nbytes
            slots = self._slots[self._turn % 2, :, :num_bytes].view(own.dtype)
            slots[self._rank] = own[part]
            # The data is written before the counter. On x86-64, other processes see the two writes in this order.
            self._counters[self._rank * _LINE // 8] = self._turn
            self._wait()
            yield part, slots

    def _wait(self) -> None:
        """Wait until all processes have reached the turn."""
        began = time.monotonic()
        while late := [rank for rank in self._rank_of.values() if self._is_late(rank)]:
            waited = time.monotonic() - began
            if waited < _SPIN_SECONDS:
                os.sched_yield()
                continue
            ended = [self._rank_of[pidfd] for pidfd, _ in self._processes.poll(1)]
            # A process may have reached the turn before it ended.
            lost = [rank for rank in ended if self._is_late(rank)]
            if lost:
                raise RuntimeError(f"worker {lost[0]} has ended")
            if waited > self._timeout:
                raise RuntimeError(f"worker {late[0]} did not answer within {self._timeout:g} s")

    def _is_late(self, rank: int) -> bool:
        return self._counters[rank * _LINE // 8] < self._turn


def create(size: int) -> tuple[int, Address]:
    """Create memory for ``size`` processes, and return its file descriptor and address.

    Raises:
        OSError: If the platform is not Linux on x86-64, or there is too little memory.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise OSError("shared memory needs Linux and x86-64")
    name = f"rl_rms {secrets.token_hex(16)}"
    fd = os.memfd_create(name)
    try:
        os.posix_fallocate(fd, 0, _num_bytes(size))
    except OSError:
        os.close(fd)
        raise
    return fd, (os.getpid(), fd, name)


def open_address(address: Address) -> int:
    """Open memory that a process of this machine has created, and return its file descriptor.

    Raises:
        OSError: If this memory does not exist on this machine, or cannot be opened.
    """
    pid, fd, name = address
    path = f"/proc/{pid}/fd/{fd}"
    # On another machine, the path may belong to an unrelated file.
    if name not in os.readlink(path):
        raise FileNotFoundError(f"{path} is not the shared memory {name}")
    return os.open(path, os.O_RDWR)


def _num_bytes(size: int) -> int:
    return size * (_LINE + 2 * _SLOT)
