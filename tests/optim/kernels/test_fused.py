"""torch's fused AdamW is used only if it equals RMSprop."""

import pytest
import torch
from torch import nn

from rl_rms import RMSprop
from rl_rms.optim.kernels.fused import verified_adamw


@pytest.fixture
def replace_adamw(monkeypatch):
    """A function that replaces torch's fused AdamW, and clears the cached result of `verified_adamw`."""

    def replace(kernel):
        monkeypatch.setattr("rl_rms.optim.torch_private.fused_adamw_", kernel)
        verified_adamw.cache_clear()

    yield replace
    verified_adamw.cache_clear()


def scaled(params, *args, lr, **options):
    # torch has no public name for the kernel.
    torch._fused_adamw_(params, *args, lr=lr * 1.01, **options)


def raising(*args, **options):
    raise NotImplementedError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_verified_adamw_returns_the_kernel_of_the_installed_torch(dtype):
    assert verified_adamw(dtype) is torch._fused_adamw_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", [scaled, raising, None, lambda *args: None, lambda *args, **options: None])
def test_verified_adamw_with_a_wrong_kernel_is_none(kernel, dtype, replace_adamw):
    replace_adamw(kernel)
    assert verified_adamw(dtype) is None


def test_step_without_a_verified_kernel_has_the_same_value(replace_adamw):
    def train():
        param = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = RMSprop([param], lr=0.1, bias_correction=True, weight_decay=0.1, momentum=0.5, fused=True)
        for t in range(5):
            param.grad = torch.tensor([1.0 + t, -3.0], dtype=torch.float64)
            optimizer.step()
        return param.detach()

    fused = train()
    replace_adamw(None)
    torch.testing.assert_close(train(), fused, rtol=1e-12, atol=1e-12)


def test_fused_step_with_a_very_long_half_life_equals_the_plain_step():
    def train(fused):
        param = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = RMSprop([param], lr=1e-3, half_life=1e10, fused=fused)
        for t in range(3):
            param.grad = torch.tensor([1.0 + t, -3.0], dtype=torch.float64)
            optimizer.step()
        return param.detach()

    torch.testing.assert_close(train(True), train(False), rtol=1e-9, atol=0.0)
