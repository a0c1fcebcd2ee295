import errno
import os
import re
import tempfile

import pytest

from rl_rms.agents import A2C, CheckpointCallback, files
from rl_rms.envs import make_vec
from tests.naming import naming


def agent():
    return A2C(make_vec("CartPole-v1", num_envs=4), seed=0)


def test_checkpoint_callback_in_another_trainings_folder_keeps_the_new_checkpoints(tmp_path):
    agent().learn(2_000, CheckpointCallback(tmp_path, every=300, keep=2))
    old = {file.name: file.read_bytes() for file in tmp_path.glob("step_*")}
    with pytest.warns(UserWarning, match=naming("2 checkpoints")):
        agent().learn(1_000, CheckpointCallback(tmp_path, every=100, keep=3))
    new = sorted(file.name for file in tmp_path.glob("step_*") if file.name not in old)
    assert [int(name[5:15]) // 100 for name in new] == [8, 9, 10]
    assert {name: (tmp_path / name).read_bytes() for name in old} == old


def test_checkpoint_callback_resumed_run_continues_its_checkpoints(tmp_path):
    agent().learn(1_000, CheckpointCallback(tmp_path, every=300, keep=2))
    resumed = A2C.load(tmp_path / "final.safetensors", make_vec("CartPole-v1", num_envs=4))
    resumed.learn(600, CheckpointCallback(tmp_path, every=300, keep=2))
    steps = [int(file.stem[5:]) // 300 for file in sorted(tmp_path.glob("step_*"))]
    assert steps == [4, 5]


def test_checkpoint_callback_saves_at_its_steps_and_at_the_end(tmp_path):
    def interrupt(agent):
        if agent.num_timesteps >= 700:
            raise KeyboardInterrupt

    trained = agent()
    with pytest.raises(KeyboardInterrupt):
        trained.learn(10_000, [CheckpointCallback(tmp_path, every=300), interrupt])
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files[0] == "final.safetensors"
    steps = [int(name[5:15]) for name in files[1:]]
    assert [step // 300 for step in steps] == [1, 2]
    assert A2C.load(tmp_path / "final.safetensors").num_timesteps == trained.num_timesteps


def test_checkpoint_callback_keeps_the_newest_and_removes_partial_files(tmp_path):
    (tmp_path / ".step_0000000100.safetensors.0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / "best.safetensors").write_bytes(b"another's")
    agent().learn(2_000, CheckpointCallback(tmp_path, every=300, keep=2))
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[:2] == ["best.safetensors", "final.safetensors"]
    assert [int(name[5:15]) // 300 for name in names[2:]] == [5, 6]


def test_checkpoint_callback_failed_save_warns_and_continues(tmp_path, monkeypatch):
    trained = agent()
    callback = CheckpointCallback(tmp_path, every=300)

    def too_long(path):
        raise ValueError("the header is too long")

    monkeypatch.setattr(trained, "save", too_long)
    with pytest.warns(UserWarning, match=naming("cannot save", "header is too long")):
        trained.learn(1_000, callback)
    assert trained.num_timesteps >= 1_000
    assert "too long" in str(callback.error)


def test_checkpoint_callback_full_disk_keeps_earlier_checkpoints_and_continues(tmp_path, monkeypatch):
    written = files.write
    full = False

    def write(path, content):
        if full and path.is_relative_to(tmp_path / "checkpoints"):
            raise files.UnwritableError(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        written(path, content)

    def fill(trained):
        nonlocal full
        full = 100 <= trained.num_timesteps < 300

    monkeypatch.setattr(files, "write", write)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    checkpoints = CheckpointCallback(tmp_path / "checkpoints", 100, keep=2)
    trained = A2C("CartPole-v1", n_steps=50, seed=0)
    with pytest.warns(UserWarning, match=naming("No space left on device")):
        trained.learn(350, [fill, checkpoints])
    kept = sorted(file.stem for file in (tmp_path / "checkpoints").iterdir())
    assert kept[0] == "final"
    assert int(kept[1][5:]) >= 300

    def fill_for_good(trained):
        nonlocal full
        full = True

    last = CheckpointCallback(tmp_path / "checkpoints", 1_000)
    with pytest.warns(UserWarning, match=r"No space left|at env step 4\d\d is saved in .* move .*checkpoints"):
        trained.learn(50, [fill_for_good, last])
    instead = re.search(r" is saved in (\S+)\. To resume", str(last.error)).group(1)
    assert A2C.load(instead).num_timesteps == trained.num_timesteps
    assert A2C.load(tmp_path / "checkpoints" / "final").num_timesteps < trained.num_timesteps
