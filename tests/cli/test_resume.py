import os
import shutil

import pytest

from rl_rms.cli.main import main
from tests.naming import mentions


@pytest.mark.parametrize(
    ("line", "edited", "named"),
    [
        ("  fused: true", "  fused: false", ["agent.fused", "False", "True"]),
        ("    shared_trunk: false", "    shared_trunk: true", ["agent.policy.shared_trunk", "True", "False"]),
        ("  gamma: 0.99", "  gamma: 0.9", ["agent.gamma", "0.9", "0.99"]),
        ("seed: 0", "seed: 7", ["seed", "7", "0"]),
    ],
)
def test_resume_with_an_edited_configuration_names_the_key_and_both_values(
    trained, tmp_path, capsys, line, edited, named
):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    before = config.read_text()
    assert f"\n{line}\n" in f"\n{before}"
    config.write_text(f"\n{before}".replace(f"\n{line}\n", f"\n{edited}\n").lstrip())
    after = config.read_text()
    assert main(["resume", str(tmp_path / "run"), "--total_timesteps=3500"]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert config.read_text() == after
    config.write_text(before)
    assert main(["resume", str(tmp_path / "run"), "--total_timesteps=3500", "--progress=none"]) == 0


@pytest.mark.parametrize("words", [["runs"], ["runs/old", "runs/new"]])
def test_resume_of_several_runs_continues_the_newest(words, trained, tmp_path, capsys):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "runs" / "new")
    shutil.copytree(folder, tmp_path / "runs" / "old")
    os.utime(tmp_path / "runs" / "old" / "config.yaml", (0, 0))
    words = [str(tmp_path / word) for word in words]
    assert main(["resume", *words, "--total_timesteps=3100", "--progress=none"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "runs" / "new")
    assert str(tmp_path / "runs" / "new") in printed.err
