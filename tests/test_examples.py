"""The examples do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_training_from_a_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / "train_from_a_script.py"))["main"]
    assert main(total_timesteps=3_000) > 5
    assert "tensorboard --logdir runs/script" in capsys.readouterr().out
    assert (tmp_path / "runs" / "script" / "agent.safetensors").is_file()


@pytest.mark.filterwarnings("ignore")  # RLlib's own
def test_rllib_with_the_optimizer(capsys):
    pytest.importorskip("ray.rllib.algorithms")
    main = runpy.run_path(str(EXAMPLES / "rllib.py"))["main"]
    main(env_steps=1_000)
    printed = capsys.readouterr().out
    assert "PPO: mean return" in printed
    assert "rl_rms.optimizer.RMSprop, half-life 200 updates = 10000 env steps" in printed
    assert "half-life 100 updates = 50000 env steps" in printed


def test_every_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests, example.name
