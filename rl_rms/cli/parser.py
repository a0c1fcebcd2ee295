"""The parser of the commands: jsonargparse with examples in its help and one-sentence errors."""

import os
import re
from argparse import Action, HelpFormatter
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rl_rms.cli.errors import UserError, suggestion

HELP_WIDTH = 100


class _HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's help, formatted for a fixed width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=HELP_WIDTH)  # type: ignore[no-untyped-call]

    def _format_action_invocation(self, action: Action) -> str:
        """Return the names of an option, without jsonargparse's ``--key+``, which appends to a list."""
        text: str = super()._format_action_invocation(action)
        return ", ".join(part for part in text.split(", ") if "+" not in part)


# Type names in errors of jsonargparse, and their plain names.
_KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a string",
    "<class 'NoneType'>": "null",
    "<class 'collections.abc.Sequence'>": "a list",
    "collections.abc.Sequence[int]": "a list of whole numbers",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of strings",
}
_TYPE = re.compile(rf"{'|'.join(map(re.escape, _KINDS))}|typing\.Literal\[[^\]]*\]")


class Parser(ArgumentParser):
    """jsonargparse's parser with examples in its help and suggestions in its errors."""

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **options)
        self.examples = tuple(examples)

    def add_name(self, dest: str, names: Iterable[str], *suffixes: str, **options: Any) -> None:
        """Add a positional argument that the shell completes.

        Args:
            dest: Name of the argument.
            names: Names that the shell suggests.
            *suffixes: Suffixes of the files that the shell suggests, without a dot.
            **options: Further options of ``add_argument``.
        """

        def completions(prefix: str, **_: Any) -> list[str]:
            files = import_module("argcomplete.completers").FilesCompleter(suffixes)(prefix) if suffixes else ()
            return [*names, *files]

        vars(self.add_argument(dest, type=str, **options))["completer"] = completions

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """Parse arguments. If the shell asks for completions, suggest the values that the help lists."""
        if "_ARGCOMPLETE" in os.environ:
            for action in self._actions:
                shown = str(action.metavar)
                listed = re.findall(r"[^{},]+", shown) if shown.startswith("{") else []
                # jsonargparse's own completer raises an error for options without a list of values.
                vars(action).setdefault("completer", lambda listed=listed, **_: listed)
        return super().parse_args(*args, **options)

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return the help, with the examples at its end."""
        shown = "".join(f"  {example}\n" for example in self.examples)
        given = () if formatter is None else (formatter,)  # jsonargparse 4.49 does not accept a formatter
        return super().format_help(*given) + (f"\nexamples:\n{shown}" if shown else "")

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise a `UserError` with a plain message and, for a misspelled option, a suggestion."""
        raise UserError(self._with_suggestion(one_sentence(message)))

    def _with_suggestion(self, message: str) -> str:
        known = [option for action in self._actions for option in action.option_strings if len(option) > 2]
        known += [option[2:] for option in known]
        for word in message.replace("'", " ").replace('"', " ").replace("=", " ").split():
            if ("." in word or word.startswith("--")) and word not in known:
                hint = suggestion(word, known)
                if hint:
                    return message + hint
        return message


def one_sentence(message: str) -> str:
    """Convert a message of jsonargparse about a wrong value to one plain sentence.

    Other messages only lose their line breaks.
    """
    text = " ".join(message.split())
    key = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    alternatives = re.search(r"Subtypes: \[(.*?)\] Errors: - (.+?) (?:- |Given value).*Given value: (.+)", text)
    stated = re.search(r"Expected a (.+?)\. Got value: (.+)", text)
    if alternatives:
        kinds, reason, value = alternatives.groups()
    elif stated:
        kinds, value = stated.groups()
        reason = text
    else:
        return text
    known = _TYPE.findall(kinds)
    if not key or _TYPE.sub("", kinds).strip(", "):
        # For a nested class, jsonargparse's error names the key without its prefix, which is added here.
        joint = "." if re.match(r"\w+ must be ", reason) else ": "
        return f"{key}{joint}{reason}" if key else str(reason)
    names = [_KINDS.get(one) or f"one of {one[len('typing.Literal[') : -1]}" for one in known]
    return f"{key} must be {' or '.join(names)}, got {value}"
