"""SIGINT and SIGTERM: exit statuses, and the end of a training after its update."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_rms.agents.agent import Agent


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM; a KeyboardInterrupt, so that the same code cleans up."""


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status by which shells name the signal: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM in the main thread; the second SIGTERM ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def terminate(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a forked child
            os.kill(os.getpid(), number)
            return
        raise Terminated

    earlier = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextmanager
def signals_interrupt(agent: "Agent") -> Iterator[list[int]]:
    """End an agent's training after its update at the first SIGINT or SIGTERM, by `Agent.interrupt`.

    The second signal ends the process.

    Yields:
        The received signals.

    Raises:
        Terminated: Instead of the agent's KeyboardInterrupt, if the signal was SIGTERM.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # a thread of Ray, which receives no signals
        yield received
        return
    process = os.getpid()

    def handle(number: int, _: Any) -> None:
        if received or os.getpid() != process:  # also a child that was forked within the training
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.append(number)
        name = signal.Signals(number).name
        # Not by print, which the signal may have interrupted.
        os.write(
            2, f"{name}: stopping after this update; a second signal stops at once and saves nothing\n".encode()
        )
        agent.interrupt()

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    except KeyboardInterrupt as interrupt:
        if signal.SIGTERM in received:
            raise Terminated from interrupt
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
