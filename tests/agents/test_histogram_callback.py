import torch

from rl_rms.agents import (
    A2C,
    HistogramCallback,
)
from rl_rms.envs import make_vec
from tests.agents.logs import events


def test_histograms_cover_every_coordinate(tmp_path):
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
