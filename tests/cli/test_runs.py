from datetime import datetime

import pytest

from rl_rms.cli import runs
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import new_folder, read_summary, write_summary


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
    with pytest.raises(UserError, match="has not ended: it has no summary.json; rl-rms resume .* goes on with it"):
        read_summary(tmp_path)
    write_summary(tmp_path, {"seed": 1})
    assert read_summary(tmp_path) == {"seed": 1}
