import json
import sys

import pytest

from rl_rms.agents import EvalCallback
from rl_rms.cli.callbacks import make_named
from rl_rms.cli.errors import UserError
from rl_rms.cli.federation import read_federation
from rl_rms.cli.main import main
from rl_rms.cli.search import read_search
from tests.cli.runs import rows, run_folder
from tests.naming import mentions, naming

MINE = """\
from rl_rms.agents import Callback

class Double(Callback):
    def __init__(self, factor=2):
        self.factor, self.updates = factor, 0

    def on_update(self, agent, logger):
        self.updates += 1
        logger.write(agent.num_timesteps, {"mine/updates": self.factor * self.updates})

    def state_dict(self):
        return {"updates": self.updates}

    def load_state_dict(self, state):
        self.updates = state["updates"]
"""
CONFIG = """\
env: {id: CartPole-v1, num_envs: 2, vectorization_mode: sync}
agent: {n_steps: 8}
total_timesteps: 64
callbacks: [{callbacks_of_mine:Double: {factor: 3}}]
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder with a user's module and configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "callbacks_of_mine.py").write_text(MINE)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    return tmp_path


def test_train_with_a_users_callback_calls_it_and_resume_restores_it(elsewhere, capsys):
    assert main(["train", "mine.yaml"]) == 0
    folder = run_folder(elsewhere, "mine")
    logged = [int(row["mine/updates"]) for row in rows(folder) if row["mine/updates"]]
    assert logged == [3 * update for update in range(1, len(logged) + 1)]
    assert len(logged) > 3
    assert main(["resume", str(folder), "--total_timesteps=100"]) == 2
    assert mentions(capsys.readouterr().err, "callbacks", "callbacks_of_mine:Double", "--trust")
    assert main(["resume", str(folder), "--total_timesteps=100", "--trust"]) == 0
    again = [int(row["mine/updates"]) for row in rows(folder) if row["mine/updates"]]
    assert again == [3 * update for update in range(1, len(again) + 1)]
    assert len(again) > len(logged)


def test_callbacks_by_name_are_found_in_the_library():
    (callback,) = make_named([{"EvalCallback": {"every": 7}}])
    assert isinstance(callback, EvalCallback)
    assert callback.every == 7


@pytest.mark.parametrize(
    ("callbacks", "named"),
    [
        ("x", ["callbacks", "list", "'x'"]),
        ([3], ["callbacks[0]", "3"]),
        ([{}], ["callbacks[0]", "{}"]),
        (["a:B", {"a:B": {}, "c:D": {}}], ["callbacks[1]", "c:D"]),
        ([{"a:B": [1]}], ["callbacks[0]", "[1]"]),
        (["nowhere:Nothing"], ["callbacks[0]", "'nowhere:Nothing'", "module:Class"]),
        (["Nothing"], ["callbacks[0]", "'Nothing'", "rl_rms.agents"]),
        (["json:dumps"], ["callbacks[0]", "'json:dumps'", "rl_rms.agents.Callback"]),
        ([{"EvalCallback": {"evry": 7}}], ["callbacks[0]", "'EvalCallback'", "evry"]),
        ([{"EvalCallback": {"every": 0}}], ["callbacks[0]", "'EvalCallback'", "every", "0"]),
    ],
)
def test_wrong_callback_is_named_before_a_folder_is_made(callbacks, named, elsewhere, capsys):
    assert main(["train", "cartpole_a2c", f"--callbacks={json.dumps(callbacks)}"]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert not (elsewhere / "runs").exists()
    with pytest.raises((UserError, ValueError), match=naming(*named)):
        make_named(callbacks)


@pytest.mark.parametrize(("name", "extra"), [("WandbCallback", "wandb"), ("MLflowCallback", "mlflow")])
def test_callback_without_its_package_names_the_extra(name, extra, elsewhere, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, extra, None)
    assert main(["train", "cartpole_a2c", f"--callbacks=[{name}]"]) == 2
    assert mentions(capsys.readouterr().err, f"callbacks[0] '{name}'", f"pip install 'rl_rms[{extra}]'")
    assert not (elsewhere / "runs").exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("sweep", "config: mine.yaml\nvary: {agent.gamma: [0.9, 0.99]}\nseeds: [0]\n"),
        ("federate", "config: mine.yaml\nclients: [{}, {}]\n"),
    ],
)
def test_command_that_calls_no_callbacks_refuses_them(command, text, elsewhere):
    read = {"sweep": read_search, "federate": read_federation}[command]
    (elsewhere / "many.yaml").write_text(text)
    with pytest.raises(UserError, match=naming("callbacks", f"rl-rms {command}", "Double", "[]")):
        read("many.yaml", {})
    (elsewhere / "many.yaml").write_text(f"{text}fix: {{callbacks: []}}\n")
    read("many.yaml", {})
