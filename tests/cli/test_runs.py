from datetime import datetime

import pytest

from rl_rms.cli import runs
from rl_rms.cli.config import read_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import find_unfinished, new_folder, read_run, read_summary, write_summary


class Noon(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 24, 12, 0, 0, tzinfo=tz)


def test_folders_of_the_same_second_are_numbered_through_until_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "datetime", Noon)
    names = [new_folder(tmp_path, "mine", 3).name for _ in range(3)]
    assert names == ["20261124-120000-seed3", "20261124-120000-seed3-2", "20261124-120000-seed3-3"]
    for number in range(4, 1000):
        (tmp_path / "mine" / f"20261124-120000-seed3-{number}").mkdir()
    with pytest.raises(
        UserError, match="cannot make a folder 20261124-120000-seed3 under .*mine: .*; remove some"
    ):
        new_folder(tmp_path, "mine", 3)


def test_a_run_that_has_not_ended_has_no_summary(tmp_path):
    with pytest.raises(UserError, match="has not ended: it has no summary.json; rl-rms resume .* goes on with"):
        read_summary(tmp_path)
    summary = {
        "total_timesteps": 1,
        "wall_time_seconds": 0.5,
        "final_return": None,
        "final_return_episodes": 0,
        "memory": None,
        "interrupted": True,
        "versions": {},
    }
    write_summary(tmp_path, summary)
    assert read_summary(tmp_path) == summary


@pytest.mark.parametrize(
    "content",
    [b"", b'{"interrupted": tr', b"[]", b"\0" * 50, b"\xff\xfe", b'{"interrupted": "no"}', b"[" * 100_000],
)
def test_read_summary_of_a_damaged_file_names_it(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.json is damaged: .*rl-rms resume"):
        read_summary(tmp_path)


def test_find_unfinished_takes_a_run_with_a_damaged_summary_as_unfinished(tmp_path):
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
