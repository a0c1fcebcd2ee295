import os
from datetime import datetime

import pytest

from rl_rms.agents import A2C, storage
from rl_rms.agents.checkpoint import read
from rl_rms.cli import runs
from rl_rms.cli.config import read_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import (
    find_unfinished,
    new_folder,
    newest_checkpoint,
    read_run,
    read_summary,
    require_checkpoint,
    wall_time,
    write_summary,
)
from tests.naming import naming


class Noon(datetime):
    """A clock that does not advance."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 24, 12, 0, 0, tzinfo=tz)


def test_make_run_folder_in_the_same_second_is_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "datetime", Noon)
    names = [new_folder(tmp_path, "mine", 3).name for _ in range(3)]
    assert names == ["20261124-120000-seed3", "20261124-120000-seed3-2", "20261124-120000-seed3-3"]
    for number in range(4, 1000):
        (tmp_path / "mine" / f"20261124-120000-seed3-{number}").mkdir()
    with pytest.raises(UserError, match=naming("20261124-120000-seed3", "remove")):
        new_folder(tmp_path, "mine", 3)


def test_read_summary_of_an_unfinished_run_names_resume(tmp_path):
    with pytest.raises(UserError, match=naming("summary.json", "rl-rms resume")):
        read_summary(tmp_path)
    summary = {
        "total_timesteps": 1,
        "wall_time_seconds": 0.5,
        "final_return": None,
        "final_return_episodes": 0,
        "half_lives": None,
        "interrupted": True,
        "versions": {},
    }
    assert wall_time(tmp_path) == 0
    write_summary(tmp_path, summary)
    assert read_summary(tmp_path) == summary
    assert wall_time(tmp_path) == 0.5


@pytest.mark.parametrize(
    "content",
    [b"", b'{"interrupted": tr', b"[]", b"\0" * 50, b"\xff\xfe", b'{"interrupted": "no"}', b"[" * 100_000],
)
def test_read_summary_of_a_damaged_file_names_it(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(UserError, match=naming("summary.json", "damaged", "rl-rms resume")):
        read_summary(tmp_path)


def test_find_unfinished_includes_a_run_with_a_damaged_summary(tmp_path):
    config = read_config("cartpole_a2c")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
    (tmp_path / "run" / "summary.json").write_text('{"interrupted": fal')
    assert find_unfinished(tmp_path, config) == tmp_path / "run"


def test_read_run_with_damaged_metrics_names_the_line_and_returns_the_rest(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(read_config("cartpole_a2c").to_yaml())
    (tmp_path / "metrics.csv").write_bytes(b"time/total_timesteps,a\n1,2\n" + b"\0" * 50 + b"\n3,x\n4,5\n")
    run = read_run(tmp_path)
    assert run.steps == [1, 3, 4]
    assert run.series("a") == ([1, 4], [2, 5])
    assert "metrics.csv, line 3" in capsys.readouterr().err


@pytest.fixture
def checkpoints(tmp_path):
    """A function that writes checkpoints with given names and env steps. The first file is the last modified."""

    def write(**env_steps):
        agent = A2C("CartPole-v1", seed=0)
        contents = read(agent.save(tmp_path / "saved"))
        agent.env.close()
        for number, (name, steps) in enumerate(env_steps.items()):
            path = storage.write(tmp_path / "checkpoints" / name, {**contents, "num_timesteps": steps})
            os.utime(path, (1_000 - number, 1_000 - number))
        return tmp_path

    return write


def test_newest_checkpoint_is_ordered_by_env_steps_not_by_time(checkpoints):
    run = checkpoints(step_0000000100=100, step_0000000300=300, final=200, best=900)
    assert newest_checkpoint(run).stem == "step_0000000300"


def test_newest_checkpoint_with_equal_env_steps_is_final(checkpoints):
    assert newest_checkpoint(checkpoints(step_0000000300=300, final=300)).stem == "final"


def test_newest_checkpoint_skips_damaged_files_and_names_them(checkpoints, capsys):
    run = checkpoints(step_0000000100=100, final=200, best=300)
    final, older = (run / "checkpoints" / f"{name}.safetensors" for name in ("final", "step_0000000100"))
    final.write_bytes(final.read_bytes()[:-1] + b"?")
    assert newest_checkpoint(run) == older
    error = capsys.readouterr().err
    assert str(final) in error
    assert "damaged" in error
    older.write_bytes(b"")
    with pytest.raises(UserError, match=naming("2 checkpoints", "best.safetensors")):
        newest_checkpoint(run)
    assert newest_checkpoint(run / "elsewhere") is None


def test_require_checkpoint_without_checkpoints_names_the_fix(tmp_path):
    with pytest.raises(UserError, match=naming("checkpoint", "rl-rms train")):
        require_checkpoint(tmp_path)


def test_require_checkpoint_with_only_best_suggests_it(checkpoints):
    run = checkpoints(best=100)
    with pytest.raises(UserError, match=naming("best.safetensors", "final.safetensors")):
        require_checkpoint(run)
    best = run / "checkpoints" / "best.safetensors"
    best.with_stem("final").write_bytes(best.read_bytes())
    require_checkpoint(run)
