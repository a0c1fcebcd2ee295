import subprocess

import gymnasium as gym
import pytest

from rl_rms.cli.main import main
from tests.cli.runs import command
from tests.naming import mentions

MINE = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv


class Flat(gym.ActionWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(3)

    def action(self, action):
        return [float(action) - 1.0]


gym.register("Mine-v0", PendulumEnv, max_episode_steps=50)
"""


def rows_of(text):
    """The effect of each target."""
    header, *lines = text.splitlines()
    assert header.split() == ["target", "type", "value", "effect"]
    return {line.split()[0]: line[header.index("effect") :] for line in lines}


@pytest.mark.parametrize("env", ["CartPole-v1", "drifting_cartpole"])
def test_inspect_of_an_id_and_a_configuration_lists_targets(env, capsys):
    assert main(["inspect", env]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["gravity"] == rows["reward.scale"] == "yes"
    assert rows["screen_width"].startswith("no: ")
    assert rows["action.gain"].startswith("no: ")


def test_inspect_of_a_ready_made_task_lists_its_environment(capsys):
    assert main(["inspect", "rl_rms/JumpingTwoStates-v0"]) == 0
    assert rows_of(capsys.readouterr().out)["slip"] == "yes"


@pytest.mark.parametrize("word", ["mine:Mine-v0", "mine.yaml"])
def test_inspect_finds_modules_in_the_working_folder(word, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine.yaml").write_text("env: {id: 'mine:Mine-v0', wrappers: ['mine:Flat', drift]}\n")
    words, options = command("inspect", word, cwd=tmp_path)
    done = subprocess.run(words, **options, capture_output=True, check=True)
    rows = rows_of(done.stdout)
    assert rows["g"] == "yes"
    assert rows["action.gain"].startswith("no: ") == (word == "mine.yaml")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["env"]),
        (["CartPoel-v1"], ["'CartPoel-v1'", "configuration", "CartPole", "module:CartPoel-v1"]),
        (["no_such_module:Env-v0"], ["no_such_module", "folder", "install"]),
    ],
)
def test_inspect_wrong_input_prints_one_sentence_and_returns_2(words, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *words]) == 2
    error = capsys.readouterr().err
    assert mentions(error, *named)
    assert error.count("\n") == 1
    assert not any(one.startswith("CartPoel") for one in gym.registry)
