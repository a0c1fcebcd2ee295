import pytest
import torch

from rl_rms import RMSprop
from rl_rms.optim.kernels.batch import Batch, UniformBatch
from rl_rms.optim.kernels.choice import allows_uniform, choose_kernel
from rl_rms.optim.kernels.foreach import ForeachKernel
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.kernels.plain import PlainKernel
from rl_rms.optim.rule import rmsprop_init


def group_of(**options):
    return RMSprop([torch.nn.Parameter(torch.ones(2))], **options).param_groups[0]


def uniform():
    param = torch.ones(2)
    param.grad = torch.ones(2)
    return UniformBatch([param], [rmsprop_init(param)])


def other():
    return Batch([torch.ones(2)], [torch.ones(2)], [rmsprop_init(torch.ones(2))])


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (uniform, {}, FusedKernel),
        (uniform, {"momentum": 0.9}, FusedKernel),
        (uniform, {"momentum": 0.9, "eps_in_sqrt": True}, ForeachKernel),
        (uniform, {"centered": True}, ForeachKernel),
        (uniform, {"optimism": 1.0}, ForeachKernel),
        (uniform, {"half_life": 1e6}, ForeachKernel),
        (uniform, {"centered": True, "foreach": False}, PlainKernel),
        (other, {}, PlainKernel),
        (other, {"foreach": True}, ForeachKernel),
        (other, {"foreach": False}, PlainKernel),
        (other, {"foreach": True, "max_update_rms": 1.0}, PlainKernel),
        (other, {"foreach": True, "momentum": 0.9, "cautious": True}, PlainKernel),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_choose_kernel_returns_the_first_supported_kernel(make, options, expected):
    assert type(choose_kernel(make(), group_of(**options))) is expected


def test_choose_kernel_on_a_device_with_costly_launches_is_foreach(monkeypatch):
    monkeypatch.setattr("rl_rms.optim.kernels.foreach.DEVICES", {"cpu"})
    assert type(choose_kernel(other(), group_of())) is ForeachKernel
    assert type(choose_kernel(other(), group_of(differentiable=True))) is PlainKernel


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"fused": True}, True),
        ({"fused": False}, False),
        ({"foreach": True}, False),
        ({"differentiable": True}, False),
        ({"capturable": True}, False),
        ({"max_update_rms": 1.0}, False),
        ({"lr": torch.tensor(0.1)}, True),
    ],
    ids=str,
)
def test_allows_uniform_unsupported_options_is_false(options, expected):
    assert allows_uniform(group_of(**options)) is expected


def test_allows_uniform_in_inference_mode_is_false():
    group = group_of()
    with torch.inference_mode():
        assert not allows_uniform(group)
