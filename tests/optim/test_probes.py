"""Probes read the same coordinates at every update, for gradients in any memory layout."""

import pytest
import torch
from torch import nn

from rl_rms.optim.probes import Probes


def parameters(*shapes, dtype=torch.float32):
    """Parameters with the gradients 0, 1, 2 and so on over all coordinates."""
    params, start = [], 0
    for shape in shapes:
        param = nn.Parameter(torch.zeros(shape, dtype=dtype))
        param.grad = torch.arange(start, start + param.numel()).to(dtype).reshape(shape)
        start += param.numel()
        params.append(param)
    return params


def test_record_of_few_coordinates_reads_all_of_them_once():
    params = parameters((2, 2), (3,))
    block = Probes(params, num_probes=16, block=1).record()
    assert sorted(block[0].tolist()) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_record_of_many_coordinates_draws_distinct_reproducible_coordinates():
    params = parameters((100, 10), (50,))
    first, second = (Probes(params, num_probes=16, block=1).record()[0].tolist() for _ in range(2))
    assert first == second
    assert len(set(first)) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_record_of_gradients_of_any_kind_and_strides_is_the_same(dtype):
    params = parameters((20,), (4, 5), dtype=dtype)
    before = Probes(params, 8, 1).record()
    assert len(set(before[0].tolist())) > 1
    params[1].grad = params[1].grad.t().contiguous().t()
    assert torch.equal(Probes(params, 8, 1).record(), before)


def test_record_returns_a_block_when_it_is_full():
    (param,) = params = parameters((3,))
    probes = Probes(params, num_probes=3, block=2)
    assert probes.record() is None
    param.grad.mul_(2)
    block = probes.record()
    assert block.shape == (2, 3)
    assert torch.equal(block[1], 2 * block[0])


def test_record_of_a_parameter_without_gradient_is_zero():
    (param,) = params = parameters((3,))
    probes = Probes(params, num_probes=3, block=1)
    param.grad = None
    assert probes.record().tolist() == [[0.0, 0.0, 0.0]]


def test_load_state_dict_continues_the_block_in_progress():
    params = parameters((5,))
    saved, loaded = (Probes(params, num_probes=5, block=2) for _ in range(2))
    saved.record()
    assert Probes.is_state(saved.state_dict())
    loaded.load_state_dict(saved.state_dict())
    params[0].grad.neg_()
    assert torch.equal(loaded.record(), saved.record())


def test_load_state_dict_of_other_coordinates_is_ignored():
    other = Probes(parameters((5,)), num_probes=5, block=2)
    other.record()
    probes = Probes(parameters((3,)), num_probes=3, block=2)
    probes.load_state_dict(other.state_dict())
    assert probes.record() is None


@pytest.mark.parametrize(
    "state",
    [None, {}, {"block": torch.ones(2, 2)}, {"block": torch.ones(2, 2), "filled": 2}, {"block": 1, "filled": 0}],
)
def test_is_state_of_other_values_is_false(state):
    assert not Probes.is_state(state)
