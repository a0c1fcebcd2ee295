"""Checks that messages name the argument, the value and the remedy, in any wording."""

import re


def naming(*fragments: str) -> str:
    """A pattern for ``match=`` that finds messages with each of the fragments as whole words in any order."""
    found = "".join(rf"(?=.*(?<!\w){re.escape(fragment)}(?!\w))" for fragment in fragments)
    return rf"(?s)\A{found}"


def mentions(text: str, *fragments: str) -> bool:
    """True if a text has each of the fragments, as defined in `naming`."""
    return re.search(naming(*fragments), text) is not None
