import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rl_rms.agents import A2C
from rl_rms.agents.callbacks import EvalCallback, HistogramCallback
from rl_rms.agents.logger import Logger, layout
from rl_rms.agents.video import as_gif
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Sinusoid


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "histograms": 0}).Reload()


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_charts_are_of_what_is_logged():
    assert layout(["rollout/ep_rew_mean", "env/gravity", "optim/second_moment", "optim/squared_gradient"]) == {
        "return": {"mean return of the last 100 episodes": ["Multiline", ["rollout/ep_rew_mean"]]},
        "world": {"env/gravity": ["Multiline", ["env/gravity"]]},
        "memory": {
            "second moment v and squared gradients": [
                "Multiline",
                ["optim/second_moment", "optim/squared_gradient"],
            ]
        },
    }
    assert layout(["time/fps"]) == {}


def test_a_run_has_one_layout_with_the_worlds_parameters(tmp_path):
    changes = {"gravity": Sinusoid(mean=9.8, amplitude=4.0, period=2_000)}
    A2C(make_vec("CartPole-v1", 4, changes), seed=0).learn(600, log_dir=tmp_path, log_interval=5)
    (found,) = events(tmp_path).Tensors("custom_scalars__config__")
    arranged = Layout.FromString(found.tensor_proto.string_val[0])
    assert [heading.title for heading in arranged.category] == ["return", "world", "memory"]
    assert "env/gravity" in [chart.title for chart in arranged.category[1].chart]
    assert len(list(tmp_path.glob("events.*"))) == 1


def results_shown(folder):
    data = events(folder).summary_metadata["_hparams_/experiment"].plugin_data.content
    return {info.name.tag for info in HParamsPluginData.FromString(data).experiment.metric_infos}


def test_hparams_show_the_results_that_there_will_be(tmp_path):
    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    agent.learn(200, log_dir=tmp_path / "plain")
    usual = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps"}
    assert results_shown(tmp_path / "plain") == usual
    evaluation = EvalCallback(every=200, episodes=1, clocks=[0, 50])
    agent.learn(200, evaluation, log_dir=tmp_path / "evaluated")
    shown = results_shown(tmp_path / "evaluated")
    assert shown == usual | {"eval/mean_reward/at_0", "eval/mean_reward/at_50"}
    assert shown <= set(events(tmp_path / "evaluated").Tags()["scalars"])


def test_histograms_are_of_every_coordinate(tmp_path):
    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    agent.learn(600, HistogramCallback(300), log_dir=tmp_path)
    found = events(tmp_path)
    assert found.Tags()["histograms"] == ["optim/log10_second_moment", "optim/log10_step"]
    histograms = found.Histograms("optim/log10_second_moment")
    assert [one.step // 300 for one in histograms] == [1, 2]
    coordinates = sum(param.numel() for param in agent.policy.parameters())
    assert 0.5 * coordinates < histograms[-1].histogram_value.num <= coordinates
    other = A2C(make_vec("CartPole-v1", 4), optimizer=torch.optim.SGD, seed=0)
    other.learn(300, HistogramCallback(300), log_dir=tmp_path / "other")
    assert events(tmp_path / "other").Tags()["histograms"] == []


def test_texts_and_pictures(tmp_path):
    with Logger(tmp_path) as logger:
        logger.text("run/config", "seed: 3")
        logger.picture(7, "world/schedule", png(30, 20))
        logger.histogram(7, "nothing", torch.empty(0))
    found = events(tmp_path)
    (picture,) = found.Images("world/schedule")
    assert picture.step == 7
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (30, 20)
    assert found.Tensors("run/config/text_summary")[0].tensor_proto.string_val == [b"seed: 3"]
    assert found.Tags()["histograms"] == []
    with Logger(None) as logger:
        logger.text("run/config", "seed: 3")
        logger.picture(7, "world/schedule", png(30, 20))
        logger.histogram(7, "v", torch.ones(3))


@pytest.mark.parametrize(("frames", "shown"), [(3, 3), (100, 100), (101, 51), (500, 100)])
def test_moving_pictures_are_small(frames, shown):
    pictures = [np.full((400, 600, 3), (37 * i) % 256, dtype=np.uint8) for i in range(frames)]
    gif = Image.open(io.BytesIO(as_gif(pictures, fps=50)))
    assert gif.n_frames == shown
    assert gif.size == (320, 213)
    assert gif.info["duration"] == pytest.approx(1_000 * -(-frames // 100) / 50, abs=10)
