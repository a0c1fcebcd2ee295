"""The examples do what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_training_from_a_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / "train_from_a_script.py"))["main"]
    assert main(total_timesteps=3_000) > 5
    assert "tensorboard --logdir runs/script" in capsys.readouterr().out
    assert (tmp_path / "runs" / "script" / "agent.pt").is_file()


def test_every_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests, example.name
