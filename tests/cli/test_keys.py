import inspect
import re

import pytest
import yaml

from rl_rms.agents import A2C, PPO, Reinforce
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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_help_all_has_the_defaults_of_the_constructors(algorithm):
    options = " ".join(run_parser(algorithm).format_help().split("\noptions:\n")[1].split())
    constructor = {"a2c": A2C, "ppo": PPO, "reinforce": Reinforce}[algorithm]
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(constructor).parameters.items()
        if isinstance(parameter.default, (bool, int, float)) and name != "seed"
    }
    assert {"learning_rate", "normalize_observation", "normalize_reward"} <= set(defaults)
    for name, default in defaults.items():
        shown = re.search(rf"--agent\.{name} .*?, default: (.*?)\)", options).group(1)
        assert yaml.safe_load(shown.lower()) == default, name
