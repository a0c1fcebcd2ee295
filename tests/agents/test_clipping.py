import math

import pytest
import torch

from rl_rms.agents.clipping import clip_gradients


def with_gradients(*values):
    """One parameter for each gradient."""
    params = [torch.nn.Parameter(torch.zeros(len(value))) for value in values]
    for param, value in zip(params, values, strict=True):
        param.grad = torch.tensor(value)
    return params


def test_clip_gradients_scales_the_global_norm_down_to_the_largest():
    params = with_gradients([3.0], [0.0, 4.0])
    assert clip_gradients(params, 1.0, "raise") == pytest.approx(5.0)
    assert torch.cat([param.grad for param in params]).tolist() == pytest.approx([0.6, 0.0, 0.8], rel=1e-5)


@pytest.mark.parametrize("max_norm", [None, 10.0])
def test_clip_gradients_small_norms_are_unchanged(max_norm):
    params = with_gradients([3.0], [4.0])
    assert clip_gradients(params, max_norm, "raise") == pytest.approx(5.0)
    assert [param.grad.item() for param in params] == [3.0, 4.0]


def test_clip_gradients_of_huge_finite_gradients_gives_the_same_direction():
    params = with_gradients([3e25], [4e25])
    assert clip_gradients(params, 1.0, "raise") == pytest.approx(5e25)
    assert [param.grad.item() for param in params] == pytest.approx([0.6, 0.8], rel=1e-5)


def test_clip_gradients_nan_raises_and_keeps_gradients():
    params = with_gradients([3.0], [math.nan])
    with pytest.raises(FloatingPointError):
        clip_gradients(params, 1.0, "raise")
    assert params[0].grad.item() == 3.0


def test_clip_gradients_nan_with_skip_returns_nan():
    assert math.isnan(clip_gradients(with_gradients([3.0], [math.nan]), 1.0, "skip"))
