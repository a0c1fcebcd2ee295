"""SIGINT and SIGTERM: their exit statuses, and a clean end of the training after a rollout."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_rms.agents.agent import Agent


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM. It is a KeyboardInterrupt, so that code that handles Ctrl-C also handles SIGTERM."""


def status_of(interrupt: KeyboardInterrupt) -> int:
    """Return the usual exit status for the signal: 130 for SIGINT, 143 for SIGTERM."""
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
    """Call `Agent.interrupt` at the first SIGINT or SIGTERM.

    The training then ends as `Agent.interrupt` describes. A second signal ends the process.

    Yields:
        The received signals.

    Raises:
        Terminated: Instead of the agent's KeyboardInterrupt, if the signal was SIGTERM.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Ray's thread; the main thread gets all signals
        yield received
        return
    process = os.getpid()

    def handle(number: int, _: Any) -> None:
        if received or os.getpid() != process:  # the second signal, or a forked child process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.append(number)
        name = signal.Signals(number).name
        # print is not safe here, because the signal may have interrupted another print.
        message = f"{name}: stopping after this rollout; a second signal stops at once, without saving"
        os.write(2, f"{message}\n".encode())
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
