from collections.abc import Sequence
from typing import Literal

import pytest

from rl_rms.cli.errors import UserError
from rl_rms.cli.parser import HELP_WIDTH, Parser
from tests.naming import naming


def parser():
    one = Parser(prog="rl-rms try", examples=["rl-rms try --rate 0.5"])
    one.add_argument("--rate", type=float, default=0.1, help="A rate. " * 20)
    one.add_argument("--number", type=int | None, default=None)
    one.add_argument("--sizes", type=Sequence[int], default=())
    one.add_argument("--others", type=Sequence[int] | None, default=None)
    one.add_argument("--how", type=Literal["fast", "slow"], default="fast")
    return one


def test_parse_args_of_right_words_returns_their_values():
    config = parser().parse_args(["--rate=0.5", "--number=3", "--how=slow"])
    assert (config.rate, config.number, config.how) == (0.5, 3, "slow")


def test_format_help_fits_the_width_and_ends_with_the_examples():
    text = parser().format_help()
    assert max(map(len, text.splitlines())) <= HELP_WIDTH
    assert text.endswith("\nexamples:\n  rl-rms try --rate 0.5\n")
    assert "examples:" not in Parser(prog="rl-rms try").format_help()


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("--rate=fast", ["rate", "a number", "fast"]),
        ("--number=0.5", ["number", "a whole number", "null", "0.5"]),
        ("--how=slowly", ["how", "fast", "slow", "slowly"]),
        ("--sizes=3", ["sizes", "a list", "3"]),
        ("--others=[a]", ["others", "a list of whole numbers", "null", "a"]),
        ("--numbr=3", ["numbr", "did you mean", "--number"]),
        ("--ra=0.5", ["--ra"]),
    ],
)
def test_parse_args_of_a_wrong_word_raises_one_sentence_that_names_it(word, named):
    with pytest.raises(UserError, match=naming(*named)) as raised:
        parser().parse_args([word])
    assert "\n" not in str(raised.value)
