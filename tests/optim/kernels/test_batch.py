import pytest
import torch

from rl_rms.optim.kernels.batch import Batch, UniformBatch
from rl_rms.optim.rule import rmsprop_init


def members(*values):
    params = [torch.zeros(len(value)) for value in values]
    for param, value in zip(params, values, strict=True):
        param.grad = torch.tensor(value)
    return params, [rmsprop_init(param) for param in params]


def uniform(*values):
    batch = UniformBatch(*members(*values))
    assert batch.collect()
    return batch


def other(*values):
    params, states = members(*values)
    return Batch(params, [param.grad for param in params], states)


over_kinds = pytest.mark.parametrize("make", [uniform, other])


@over_kinds
@pytest.mark.parametrize("gather_at_most", [0, 1 << 18])
def test_tensors_after_a_change_contain_all_gradients(make, gather_at_most, monkeypatch):
    monkeypatch.setattr("rl_rms.optim.kernels.batch.GATHER_AT_MOST", gather_at_most)
    batch = make([1.0, 2.0], [3.0])
    assert torch.cat(batch.tensors()).tolist() == [1.0, 2.0, 3.0]
    batch.scale_(0.5)
    assert torch.cat(batch.tensors()).tolist() == [0.5, 1.0, 1.5]
    batch.grads[1].fill_(7.0)
    batch.changed()
    assert torch.cat(batch.tensors()).tolist() == [0.5, 1.0, 7.0]


@over_kinds
def test_scale_writes_to_the_gradients(make):
    batch = make([1.0, 2.0], [3.0])
    batch.scale_(0.5)
    assert [param.grad.tolist() for param in batch.params] == [[0.5, 1.0], [1.5]]


def test_tensors_of_complex_gradients_are_real_views():
    grad = torch.tensor([1 + 2j])
    (real,) = Batch([grad], [grad], [{}]).tensors()
    assert real.tolist() == [[1.0, 2.0]]
    real.mul_(2)
    assert grad.tolist() == [2 + 4j]


@over_kinds
def test_count_update_advances_all_states(make):
    batch = make([1.0], [2.0])
    batch.states[0]["step"].fill_(4.0)
    batch.count_update(0.5)
    batch.count_update(0.5)
    assert [state["step"].item() for state in batch.states] == [6.0, 2.0]
    assert [state["initial_weight"] for state in batch.states] == [0.25, 0.25]
