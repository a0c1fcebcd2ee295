import errno
import io
import os
import re
import socket
import time

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, files
from rl_rms.agents.logger import Logger
from tests.agents.logs import RETURN, charted, events, logged
from tests.naming import naming


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_logger_writes_texts_and_images(tmp_path):
    with Logger(tmp_path) as logger:
        logger.text(9, "run/config", "seed: 3")
        logger.picture(7, "env/schedule", png(30, 20))
        logger.histogram(7, "nothing", torch.empty(0))
    found = events(tmp_path)
    (picture,) = found.Images("env/schedule")
    assert picture.step == 7
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (30, 20)
    (text,) = found.Tensors("run/config/text_summary")
    assert (text.step, text.tensor_proto.string_val) == (9, [b"seed: 3"])
    assert found.Tags()["histograms"] == []
    with Logger(None) as logger:
        logger.text(9, "run/config", "seed: 3")
        logger.picture(7, "env/schedule", png(30, 20))
        logger.histogram(7, "v", torch.ones(3))


@pytest.mark.parametrize("shift", [-3_600.0, -1.0, 0.0, 3_600.0])
@pytest.mark.filterwarnings("ignore:.*rows after env step")
def test_logger_resumed_at_another_clock_shows_each_step_once(tmp_path, monkeypatch, shift):
    now = 1_700_000_000.0
    for start in (0, 3, 6):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        logged(tmp_path, range(start + 1, start + 6), resumed_at=start)
        now += shift
    assert charted(tmp_path) == list(range(1, 12))


def test_agent_resumed_at_an_earlier_clock_shows_each_step_once(tmp_path, monkeypatch):
    path = tmp_path / "agent.safetensors"
    agent = A2C("CartPole-v1", n_steps=5, seed=0)
    agent.learn(200, log_dir=tmp_path, log_interval=1).save(path)
    agent.learn(30, log_dir=tmp_path, log_interval=1)
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before - 86_400.0)
    resumed = A2C.load(path, env="CartPole-v1")
    with pytest.warns(UserWarning, match=naming("rows", "env step")):
        resumed.learn(150, log_dir=tmp_path, log_interval=1)
    steps = [event.step for event in events(tmp_path).Scalars("time/fps")]
    assert steps == sorted(set(steps))
    assert len(steps) == resumed.num_updates


def test_event_file_has_a_random_name_and_does_not_follow_links(tmp_path, monkeypatch):
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    for count in range(3):
        name = f"events.out.tfevents.1700000000.{socket.gethostname()}.{os.getpid()}.{count}"
        (folder / name).symlink_to(victim)
    logged(folder, [2], resumed_at=1)
    assert victim.read_text() == "precious"
    ends = set()
    for number in range(2):
        logged(tmp_path / str(number), [1])
        (file,) = (tmp_path / str(number)).glob("events*")
        ends.add(file.suffix)
    assert all(re.fullmatch(r"\.[0-9a-f]{16}", end) for end in ends)
    assert len(ends) == 2


def test_event_file_failed_record_begins_another_file(tmp_path, monkeypatch):
    with Logger(tmp_path) as logger:
        logger.write(1, {RETURN: 1.0})
        (first,) = tmp_path.glob("events*")

        append = files.append

        def half(path, content):
            if path != first:
                return append(path, content)
            append(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files, "append", half)
        with pytest.warns(UserWarning, match=naming("No space left on device", "disk")):
            logger.write(2, {RETURN: 2.0})
        logger.write(3, {RETURN: 3.0})
        logger.write(4, {RETURN: 4.0})
    assert len(list(tmp_path.glob("events*"))) == 2
    assert charted(tmp_path) == [1, 3, 4]


@pytest.mark.parametrize("cut", [1, 4, 13, 30, 60])
def test_event_file_after_a_partial_record_is_readable(tmp_path, cut):
    logged(tmp_path, [100, 200])
    (first,) = tmp_path.glob("events*")
    os.truncate(first, first.stat().st_size - cut)
    before = charted(tmp_path)
    assert before in ([100], [100, 200])
    logged(tmp_path, [300, 400], resumed_at=250)
    assert charted(tmp_path) == [*before, 300, 400]


def test_event_file_is_readable_during_training(tmp_path):
    seen = []

    def look(agent):
        seen.append(len(EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] and charted(tmp_path)))

    trained = A2C("CartPole-v1", n_steps=20, seed=0).learn(1_000, look, log_dir=tmp_path, log_interval=1)
    assert seen == sorted(seen)
    assert 0 < max(seen) <= trained.num_updates == len(charted(tmp_path))
