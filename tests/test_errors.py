"""Every error that the package raises is read by a test: its sentence, or a part of it that tells it from others.

What a test reads are the strings in its file. One is of an error if it can be a part of the error's sentence,
whatever stands where the sentence names a value, and has enough of the words that do not vary.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("rl_rms", "envs", "agents", "studies", "cli")
# So many letters of a sentence's own words are enough to know it by, or all of them where it has fewer.
ENOUGH = 12
# A part and a sentence that have no run of so many letters in common are not compared.
PIECE = 7
ANYTHING = ""

Pattern = tuple[str, ...]  # letters, and ANYTHING where any text may stand


class Error(NamedTuple):
    """A place that raises an error with words of its own."""

    path: Path
    line: int
    sentence: Pattern

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {''.join(letter or '…' for letter in self.sentence)}"


def pattern_of(node: ast.expr) -> Pattern:
    """The text that an expression comes to."""
    match node:
        case ast.Constant(value=str(text)):
            return tuple(text)
        case ast.JoinedStr(values=parts):
            return tuple(letter for part in parts for letter in pattern_of(part))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (*pattern_of(left), *pattern_of(right))
    return (ANYTHING,)


def pieces_of(pattern: Pattern, size: int) -> set[str]:
    """All runs of so many letters of its own."""
    runs = "".join(letter or "\0" for letter in pattern).split("\0")
    return {run[i : i + size] for run in runs for i in range(len(run) - size + 1)}


def errors() -> Iterator[Error]:
    """All of them."""
    for floor in FLOORS:
        for path in sorted((ROOT / floor).glob("*.py") if floor == "rl_rms" else (ROOT / floor).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                    sentence = pattern_of(node.exc.args[0])
                    if pieces_of(sentence, PIECE):  # else it only says where another error came from
                        yield Error(path.relative_to(ROOT), node.lineno, sentence)


def as_regex(text: str) -> Pattern:
    """What the regular expression of a ``match=`` stands for, near enough."""
    plain = re.sub(r"\\[dDwWsS]|\[[^]]*\]|(?<!\\)\.", "\0", text)
    plain = re.sub(r"\0[*+?]*|\(\?[a-z]*\)|[\^$]", lambda found: "\0" if "\0" in found[0] else "", plain)
    return tuple(ANYTHING if letter == "\0" else letter for letter in re.sub(r"\\(.)", r"\1", plain))


@cache
def read() -> frozenset[Pattern]:
    """What the tests read."""
    found: set[Pattern] = set()
    for path in set((ROOT / "tests").rglob("test_*.py")) - {Path(__file__)}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                pattern = pattern_of(node)
                found.add(pattern)
                if all(pattern):
                    found |= {as_regex(part) for part in "".join(pattern).split("|")}
    return frozenset(pattern for pattern in found if sum(map(len, pattern)) >= PIECE)


def letters_of(part: Pattern, sentence: Pattern) -> int:
    """How many of a sentence's own letters a part of it has, -1 if it is no part of it."""
    # best[i]: of what is left of the part, if it goes on at the sentence's letter i.
    best = [0] * (len(sentence) + 1)
    for letter in reversed(part):
        new = [-1] * (len(sentence) + 1)
        for i in range(len(sentence), -1, -1):
            here = sentence[i] if i < len(sentence) else None
            if letter == ANYTHING:
                new[i] = max(best[i], new[i + 1] if here is not None else -1)
            elif here == ANYTHING:
                new[i] = max(best[i], new[i + 1])
            elif here == letter and best[i + 1] >= 0:
                new[i] = 1 + best[i + 1]
        best = new
    return max(best)


@cache
def by_piece() -> dict[str, list[Pattern]]:
    """What the tests read, by pieces of it."""
    found: dict[str, list[Pattern]] = {}
    for part in read():
        for piece in pieces_of(part, PIECE):
            found.setdefault(piece, []).append(part)
    return found


def is_read(error: Error) -> bool:
    """Whether a test reads an error."""
    own = "".join(letter or "\0" for letter in error.sentence).split("\0")
    enough = min(ENOUGH, max(map(len, own)))
    candidates = {part for piece in pieces_of(error.sentence, PIECE) for part in by_piece().get(piece, ())}
    return any(letters_of(part, error.sentence) >= enough for part in sorted(candidates, key=len))


ERRORS = list(errors())


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_is_read(error):
    assert is_read(error)


@pytest.mark.parametrize(
    ("sentence", "part", "letters"),
    [
        ('f"size must be > 0, got {size}"', "size must be > 0, got -1", 22),
        ('f"size must be > 0, got {size}"', "must be > 0", 11),
        ('f"{name} must be > 0, got {size}"', "size must be > 0", 12),
        ('f"size must be > 0, got {size}"', "rate must be > 0", 0),  # all of it where the value stands
        ('"size must be > 0"', "rate must be > 0", -1),
        ('"a key " + repr(key) + " is missing"', "key 'a' is miss", 12),
    ],
)
def test_a_part_of_a_sentence_is_known(sentence, part, letters):
    assert letters_of(tuple(part), pattern_of(ast.parse(sentence, mode="eval").body)) == letters


def test_what_no_test_reads_is_found():
    assert not is_read(Error(Path("a.py"), 1, tuple("the moon must be of cheese, got rock")))


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        (r"in \[0, 1\), got .*, but", ("in [0, 1), got ", ANYTHING, ", but")),
        (r"format \d+$", ("format ", ANYTHING)),
        ("[ab]c", (ANYTHING, "c")),
    ],
)
def test_regular_expressions_are_read_as_text(regex, text):
    letters = tuple(letter for part in text for letter in (part or [ANYTHING]))
    assert as_regex(regex) == letters
