import subprocess

import pytest

from rl_rms.cli.main import main
from tests.cli.runs import command
from tests.naming import mentions


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trian"], ["'trian'", "rl-rms --help", "train"]),
        (["train"], ["configuration"]),
        (["train", "nothing"], ["configuration", "'nothing'"]),
        (["train", "drifting_cartpole", "--agent.half_lif", "3"], ["agent.half_life"]),
        (["train", "drifting_cartpole", "--agent.half_life", "soon"], ["half_life"]),
        (["train", "drifting_cartpole", "--env.id", "CartPoel-v1"], ["CartPoel"]),
        (["train", "drifting_cartpole", "--env.changes.gravitas", "3"], ["gravitas"]),
        (["train", "drifting_cartpole", "--agent.optimizer", "torch.optim.Adamm"], ["torch.optim.Adamm"]),
        (["train", "drifting_cartpole", "--agent.optimizer", "torch.optim.Adam"], ["half_life"]),
        (
            ["train", "cartpole_a2c", "--env.id", "no_such_module:Env-v0"],
            ["no_such_module", "folder", "install"],
        ),
        (["train", "cartpole_a2c", "--agent.device", "cuda:77"], ["device", "'cuda:77'"]),
        (["evaluate", "nowhere"], ["nowhere", "folder of a run"]),
        (["plot", "nowhere"], ["nowhere", "folder of a run"]),
        (["plot"], ["runs"]),
        (["evaluate", ".", "--episodes=0"], ["episodes", "1"]),
        (["evaluate", ".", "--seed=-1"], ["seed", "-1"]),
        (["evaluate", ".", "--clock=-5"], ["clock", "-5"]),
        (["resume"], ["rl-rms resume --help"]),
        (["train", "cartpole_a2c", "--agent.optimizer=torch.optim.LBFGS", "--agent.half_life=null"], ["closure"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(words, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert mentions(error, *named)
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # no partial files


def test_command_prints_a_warning_as_one_sentence(tmp_path, monkeypatch):
    words, options = command(
        "train", "cartpole_a2c", "--env.id=CartPole", "--total_timesteps=40", "--progress=none", cwd=tmp_path
    )
    done = subprocess.run(words, **options, capture_output=True, check=True)
    (said,) = [line for line in done.stderr.splitlines() if "CartPole-v1" in line]
    assert said.startswith("rl-rms: warning: ")
    assert "\x1b" not in done.stderr
    assert ".py:" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "CartPole-v1"]])
def test_command_whose_reader_has_ended_prints_no_error(arguments, tmp_path):
    words, options = command(*arguments, cwd=tmp_path)
    with subprocess.Popen(words, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_command_with_another_broken_pipe_prints_the_error(monkeypatch, capfd):
    def breaks(words):
        raise BrokenPipeError("the socket has closed")

    monkeypatch.setattr("rl_rms.cli.inspect.main", breaks)
    assert main(["inspect", "CartPole-v1"]) == 1
    assert "the socket has closed" in capfd.readouterr().err
