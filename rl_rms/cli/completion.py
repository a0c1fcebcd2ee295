"""Shell completion of commands, options and names, with argcomplete."""

import argparse
import os
from collections.abc import Iterable
from importlib import import_module
from typing import NoReturn

from rl_rms.cli.config import packaged_configs, run_parser

# Commands that take keys of a run's configuration as options.
_WITH_KEYS = ("train", "resume")


def complete(commands: Iterable[str]) -> NoReturn:
    """Print the completions of a command line, and end the process.

    argcomplete's shell function passes the command line in environment variables.

    Args:
        commands: The commands of ``rl-rms``.
    """
    argcomplete = import_module("argcomplete")
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    *_, before, _ = argcomplete.split_line(line, point)
    if len(before) == 1:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("command", choices=list(commands))
        argcomplete.autocomplete(parser)
    command = before[1]
    os.environ["_ARGCOMPLETE"] = "2"  # with "2", argcomplete leaves out the first word
    if command in _WITH_KEYS:
        keys = run_parser()
        if command == "train":
            keys.add_name("config", packaged_configs(), "yaml")
            keys.add_argument("--seeds", type=str)
            keys.add_argument("--jobs", type=int)
        else:
            keys.add_argument("runs", type=str, nargs="+")
            keys.add_argument("--trust", action="store_true")
        keys.parse_args([])
    elif command in commands:
        import_module(f"rl_rms.cli.{command.replace('-', '_')}").main([])
    raise SystemExit(0)
