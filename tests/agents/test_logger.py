import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rl_rms.agents import A2C, AdaptationCallback
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
    tags = [
        "rollout/ep_rew_mean",
        "eval/mean_reward/at_70",
        "env/reward.scale",
        "env/timescale",
        "optim/second_moment",
    ]
    low = "optim/log10_second_moment_low"
    assert layout([*tags, low]) == {
        "return": {
            "mean return of the last 100 episodes": ["Multiline", ["rollout/ep_rew_mean$"]],
            "mean return of evaluations": ["Multiline", [r"eval/mean_reward(/at_\d+)?$"]],
        },
        "world": {"env/reward.scale": ["Multiline", [r"env/reward\.scale$"]]},
        "memory": {
            "second moment v and squared gradients": [
                "Multiline",
                ["optim/second_moment$", "optim/squared_gradient$"],
            ],
            "log10 of v: median, 10 % and 90 %": [
                "Margin",
                ["optim/log10_second_moment_median", low, "optim/log10_second_moment_high"],
            ],
        },
    }
    assert layout(["time/fps"]) == {}


def layouts(folder):
    found = events(folder).Tensors("custom_scalars__config__")
    return [Layout.FromString(one.tensor_proto.string_val[0]) for one in found]


def test_a_run_has_one_layout_with_the_worlds_parameters_also_when_it_is_resumed(tmp_path):
    changes = {"gravity": Sinusoid(mean=9.8, amplitude=4.0, period=2_000)}
    agent = A2C(make_vec("CartPole-v1", 4, changes), seed=0)
    evaluation = EvalCallback(every=400, episodes=1, clocks=[0])
    agent.learn(200, evaluation, log_dir=tmp_path, log_interval=5)
    (arranged,) = layouts(tmp_path)
    assert [heading.title for heading in arranged.category] == ["return", "world", "memory", "step"]
    titles = [[chart.title for chart in heading.chart] for heading in arranged.category]
    # Though no episode had ended, and nothing been evaluated, when it was written.
    assert titles[0] == ["mean return of the last 100 episodes", "mean return of evaluations"]
    assert titles[1] == ["env/gravity", "env/regime"]
    scalars = set(events(tmp_path).Tags()["scalars"])
    for chart in (chart for heading in arranged.category for chart in heading.chart):
        margins = [[one.value, one.lower, one.upper] for one in chart.margin.series]
        for pattern in [*chart.multiline.tag, *(tag for tags in margins for tag in tags)]:
            assert any(re.match(pattern, tag) for tag in scalars), pattern
    assert len(list(tmp_path.glob("events.*"))) == 1
    # Without the evaluations it would be another.
    agent.learn(200, log_dir=tmp_path, log_interval=5)
    assert len(list(tmp_path.glob("events.*"))) == 2
    assert layouts(tmp_path) == [arranged]
    # In a folder of its own it has one again.
    agent.learn(200, log_dir=tmp_path / "elsewhere", log_interval=5)
    assert len(layouts(tmp_path / "elsewhere")) == 1


def experiment(folder):
    """What the HParams tab shows: hyperparameters that come first, and results."""
    data = events(folder).summary_metadata["_hparams_/experiment"].plugin_data.content
    told = HParamsPluginData.FromString(data).experiment
    first = [info.name for info in told.hparam_infos if info.differs]
    return first, [info.name.tag for info in told.metric_infos]


def test_hparams_show_what_was_measured_and_nothing_else(tmp_path):
    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    usual = ["optim/half_life_updates", "rollout/ep_len_mean", "time/fps"]
    agent.learn(8, EvalCallback(every=200, episodes=1, at_end=False), log_dir=tmp_path / "short")
    assert experiment(tmp_path / "short")[1] == ["optim/half_life_updates", "time/fps"]
    agent.learn(400, log_dir=tmp_path / "plain")
    assert experiment(tmp_path / "plain")[1] == ["rollout/ep_rew_mean", *usual]
    evaluation = EvalCallback(every=200, episodes=1, clocks=[0, 50])
    agent.learn(400, [evaluation, AdaptationCallback()], log_dir=tmp_path / "evaluated")
    first, results = experiment(tmp_path / "evaluated")
    evaluated = ["eval/mean_reward/at_0", "eval/mean_reward/at_50", "adaptation/worst_mean"]
    assert results == ["rollout/ep_rew_mean", *evaluated, *usual]
    assert set(results) <= set(events(tmp_path / "evaluated").Tags()["scalars"])
    assert sorted(first) == ["env", "half_life", "learning_rate", "seed"]


def test_an_interrupted_run_stands_in_hparams_and_is_completed_when_it_goes_on(tmp_path):
    def interrupt(agent):
        raise KeyboardInterrupt

    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(400, interrupt, log_dir=tmp_path)
    hparams = [tag for tag in events(tmp_path).summary_metadata if tag.startswith("_hparams_")]
    assert hparams == ["_hparams_/session_start_info"]
    agent.learn(400, log_dir=tmp_path)
    assert "rollout/ep_rew_mean" in experiment(tmp_path)[1]


@pytest.mark.parametrize(
    ("half_life", "shown"), [(None, "200 updates"), (69, "69 updates"), ("2_000 steps", "2000 steps")]
)
def test_hyperparameters_say_where_and_with_which_memory(half_life, shown):
    values = A2C(make_vec("CartPole-v1", 4), half_life=half_life, seed=3).hyperparameters()
    assert (values["env"], values["num_envs"], values["seed"]) == ("CartPole-v1", 4, 3)
    assert values["half_life"] == shown


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
        logger.text(9, "run/config", "seed: 3")
        logger.picture(7, "world/schedule", png(30, 20))
        logger.histogram(7, "nothing", torch.empty(0))
    found = events(tmp_path)
    (picture,) = found.Images("world/schedule")
    assert picture.step == 7
    assert Image.open(io.BytesIO(picture.encoded_image_string)).size == (30, 20)
    (text,) = found.Tensors("run/config/text_summary")
    assert (text.step, text.tensor_proto.string_val) == (9, [b"seed: 3"])
    assert found.Tags()["histograms"] == []
    with Logger(None) as logger:
        logger.text(9, "run/config", "seed: 3")
        logger.picture(7, "world/schedule", png(30, 20))
        logger.histogram(7, "v", torch.ones(3))


@pytest.mark.parametrize(("frames", "shown"), [(3, 3), (100, 100), (101, 51), (500, 100)])
def test_moving_pictures_are_small(frames, shown):
    pictures = [np.full((400, 600, 3), (37 * i) % 256, dtype=np.uint8) for i in range(frames)]
    gif = Image.open(io.BytesIO(as_gif(pictures, fps=50)))
    assert gif.n_frames == shown
    assert gif.size == (320, 213)
    assert gif.info["duration"] == pytest.approx(1_000 * -(-frames // 100) / 50, abs=10)
