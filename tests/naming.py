"""Tests of messages: they check the argument, the value and the mend that a message names, not its wording."""

import re


def naming(*fragments: str) -> str:
    """A pattern for ``match=`` that finds messages with each of the fragments, as whole words, in any order."""
    found = "".join(rf"(?=.*(?<!\w){re.escape(fragment)}(?!\w))" for fragment in fragments)
    return rf"(?s)\A{found}"
