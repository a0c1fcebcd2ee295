"""The short and the full help of `rl-rms train`."""

import pytest

from rl_rms.cli.config import ALGORITHMS, run_parser
from rl_rms.cli.keys import EXAMPLES, KEYS
from rl_rms.cli.main import main
from tests.naming import mentions

# The size of a screen.
LINES, COLUMNS = 40, 100


@pytest.mark.parametrize("key", KEYS)
def test_common_keys_of_the_help_exist(key):
    shown = " ".join(run_parser(name).format_help() for name in ALGORITHMS)
    assert mentions(shown, key.split()[0].removesuffix(".TARGET"))


def test_help_all_explains_every_key_with_its_default(capsys):
    assert main(["train", "cartpole_reinforce", "--help=all"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= COLUMNS
    text = " ".join(shown.split())
    assert "--agent.episodes_per_env" in text
    assert "--agent.n_steps" not in text
    assert "Env steps to train for, all sub-environments together. (type: int, default: 100000)" in text
    assert EXAMPLES[0] in text
    assert main(["train", "--agent.algorithm=a2c", "--help=all"]) == 0
    assert "--agent.n_steps" in capsys.readouterr().out
