"""Ctrl-C in a training run: the first asks the run to end, the second raises KeyboardInterrupt at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STEPS_TO_INTERRUPT = 1_000
"""Vector steps between two checks for Ctrl-C, in rollouts and evaluations that wait for episodes to end."""


@contextmanager
def first_waits(ask: Callable[[], None]) -> Iterator[None]:
    """Call ``ask`` at the first SIGINT. Later signals raise KeyboardInterrupt at once, as usual.

    Outside the main thread, or with a handler of SIGINT other than Python's default, this context does nothing.

    Args:
        ask: Function that is called at the first SIGINT.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    process = os.getpid()

    def wait(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        if os.getpid() == process:
            ask()
        else:  # a child process that was forked during the training
            usual(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the context, so that they cannot interrupt the start of processes.

    At the end, only the first of the received signals is raised again. Outside the main thread, nothing is
    deferred.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = {number: signal.signal(number, lambda got, _: received.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
