"""``rl-rms COMMAND``: runs the command's module, and ends with an exit status."""

import os
import re
import select
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rl_rms import __version__
from rl_rms.cli.errors import UserError, suggestion
from rl_rms.cli.signals import Terminated, sigterm_raises, status_of

COMMANDS = {
    "train": "train an agent with a configuration",
    "resume": "continue an interrupted run",
    "evaluate": "play episodes with the agent of a run",
    "study": "test a claim of RMSprop's theory, or all of them",
    "sweep": "search hyperparameters in several processes",
    "federate": "train one policy in the environments of several clients",
    "plot": "draw and compare runs and groups of seeds",
    "compare": "compare groups of runs in a table, with intervals and paired differences",
    "report": "write an HTML page about runs: results, figures, regimes",
    "inspect": "list what can change in an environment, and whether a change has an effect",
    "plot-schedule": "draw a schedule, or all changes of a configuration's environment",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after ``rl-rms``; by default the arguments of the process.

    Returns:
        Exit status: 0 for success, 1 for a failed seed, a file that cannot be read or written, or an output whose
        reader has ended, 2 for a `UserError` such as wrong input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    if "_ARGCOMPLETE" in os.environ:
        from rl_rms.cli.completion import complete

        complete(COMMANDS)
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            print(end="", flush=True)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        # The interpreter flushes the output again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(words: list[str]) -> int:
    """Run a command, and return its exit status."""
    if not words or words[0] in {"-h", "--help"}:
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UserError(
                f"there is no command {words[0]!r}; rl-rms --help lists the "
                f"commands{suggestion(words[0], COMMANDS)}"
            )
        with sigterm_raises(), _warnings_as_sentences():
            status: int = import_module(f"rl_rms.cli.{words[0].replace('-', '_')}").main(words[1:])
    except UserError as error:
        print(f"rl-rms: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_ended():
            raise
        print(f"rl-rms: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:  # some commands, such as train, handle interrupts themselves
        name = "SIGTERM" if isinstance(interrupt, Terminated) else "Ctrl-C"
        print(f"rl-rms: ended by {name}", file=sys.stderr)
        return status_of(interrupt)
    return status


def _reader_has_ended() -> bool:
    """Whether standard output is a pipe whose reader has ended. Other pipes and sockets can also break."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Print warnings without their source location, ANSI colors and Gymnasium's prefix ``WARN:``."""

    def sentence(message: Warning | str, *_: Any, **__: Any) -> str:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(message)).removeprefix("WARN: ")
        return f"rl-rms: warning: {text}\n"

    before, warnings.formatwarning = warnings.formatwarning, sentence
    try:
        yield
    finally:
        warnings.formatwarning = before


def usage() -> str:
    """Return the text that ``rl-rms --help`` prints."""
    commands = "\n".join(f"  {name:<13} {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: rl-rms COMMAND ...\n\n"
        "Reinforcement learning for environments that change.\n\n"
        f"commands:\n{commands}\n\n"
        "examples:\n"
        "  rl-rms train drifting_cartpole\n"
        '  rl-rms train drifting_cartpole --agent.half_life "20_000 steps" --seed 1\n'
        "  rl-rms evaluate runs/drifting_cartpole/*-seed0\n"
        "  rl-rms plot runs/drifting_cartpole/*\n"
        "  rl-rms compare runs/drifting_cartpole\n"
        "  rl-rms report runs/drifting_cartpole/*-seed0\n"
        "  rl-rms plot-schedule '{sinusoid: {mean: 9.8, amplitude: 4, period: 20000}}'\n\n"
        "rl-rms COMMAND --help explains a command."
    )


if __name__ == "__main__":
    sys.exit(main())
