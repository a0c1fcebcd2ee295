"""SIGINT and SIGTERM during a training: the first ends it after its update, the second the process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_rms.agents.base import OnPolicyAgent


@contextmanager
def heeded(agent: "OnPolicyAgent") -> Iterator[list[int]]:
    """Interrupt an agent's training by signals, as `OnPolicyAgent.interrupt` does.

    Args:
        agent: The agent that is going to learn inside.

    Yields:
        The signals that have come, of which the second would not return.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # one of Ray's, which has no signals
        yield received
        return
    process = os.getpid()

    def heed(number: int, _: Any) -> None:
        if received or os.getpid() != process:  # also a child that was forked within the training
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.append(number)
        name = signal.Signals(number).name
        # Not by print, which may be what was interrupted.
        os.write(
            2, f"{name}: stopping when this update is done; once more stops at once, with nothing saved\n".encode()
        )
        agent.interrupt()

    earlier = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
