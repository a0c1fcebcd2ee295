"""The chosen kernel is the fastest one that supports a group's options."""

import pytest
import torch

from rl_rms import RMSprop
from rl_rms.optim.kernels.buckets import FlatBucket
from rl_rms.optim.kernels.choice import allows_buckets, choose_kernel
from rl_rms.optim.kernels.flat import FlatKernel
from rl_rms.optim.kernels.foreach import ForeachKernel
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.kernels.loose import LooseGradients
from rl_rms.optim.kernels.plain import PlainKernel
from rl_rms.optim.rule import rmsprop_init


def group_of(**options):
    return RMSprop([torch.nn.Parameter(torch.ones(2))], **options).param_groups[0]


def flat():
    param = torch.ones(2)
    param.grad = torch.ones(2)
    return FlatBucket([param], [rmsprop_init(param)]).collect()


def loose():
    return LooseGradients([torch.ones(2)], [torch.ones(2)], [rmsprop_init(torch.ones(2))])


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (flat, {}, FusedKernel),
        (flat, {"momentum": 0.9, "eps_in_sqrt": True}, FusedKernel),
        (flat, {"centered": True}, FlatKernel),
        (flat, {"optimism": 1.0}, FlatKernel),
        (flat, {"half_life": 1e6}, FlatKernel),
        (loose, {}, PlainKernel),
        (loose, {"foreach": True}, ForeachKernel),
        (loose, {"foreach": False}, PlainKernel),
        (loose, {"foreach": True, "max_update_rms": 1.0}, PlainKernel),
        (loose, {"foreach": True, "momentum": 0.9, "cautious": True}, PlainKernel),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_choose_kernel_takes_the_first_that_supports_the_options(make, options, expected):
    assert type(choose_kernel(make(), group_of(**options))) is expected


def test_choose_kernel_on_a_device_with_costly_launches_is_foreach(monkeypatch):
    monkeypatch.setattr("rl_rms.optim.kernels.foreach.DEVICES", {"cpu"})
    assert type(choose_kernel(loose(), group_of())) is ForeachKernel
    assert type(choose_kernel(loose(), group_of(differentiable=True))) is PlainKernel


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"flat": True}, True),
        ({"flat": False}, False),
        ({"foreach": True}, False),
        ({"differentiable": True}, False),
        ({"capturable": True}, False),
        ({"max_update_rms": 1.0}, False),
        ({"lr": torch.tensor(0.1)}, True),
    ],
    ids=str,
)
def test_allows_buckets_of_options_that_flat_kernels_lack_is_false(options, expected):
    assert allows_buckets(group_of(**options)) is expected


def test_allows_buckets_in_inference_mode_is_false():
    group = group_of()
    with torch.inference_mode():
        assert not allows_buckets(group)
