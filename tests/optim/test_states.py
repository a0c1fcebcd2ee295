"""States that a user writes are checked and completed before a step."""

import copy

import pytest
import torch
from torch import nn

from rl_rms import RMSprop
from tests.naming import naming

BOTH = pytest.mark.parametrize("fused", [None, False])


def network():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def train(model, optimizer, updates=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(updates):
        for param in model.parameters():
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


@BOTH
@pytest.mark.parametrize("centered", [False, True])
def test_step_of_a_state_in_the_layout_of_torch_equals_torch(fused, centered):
    models = network(), network()
    options = {"lr": 0.1, "alpha": 0.9, "centered": centered, "momentum": 0.5}
    theirs = torch.optim.RMSprop(models[0].parameters(), **options)
    train(models[0], theirs)
    ours = RMSprop(models[1].parameters(), fused=fused, **options)
    models[1].load_state_dict(models[0].state_dict())
    for own, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        ours.state[own] = copy.deepcopy(theirs.state[other])
    for model, optimizer in zip(models, (theirs, ours), strict=True):
        train(model, optimizer)
    torch.testing.assert_close(list(models[1].parameters()), list(models[0].parameters()))
    assert ours.state[next(models[1].parameters())]["initial_weight"] == pytest.approx(0.9**6)


@BOTH
def test_step_of_a_state_of_another_shape_raises_value_error(fused):
    model = network()
    optimizer = RMSprop(model.parameters(), fused=fused)
    optimizer.state[model.weight] = {"step": torch.tensor(3.0), "square_avg": torch.ones(7)}
    with pytest.raises(ValueError, match=naming("'square_avg'", "(7,)")):
        train(model, optimizer)
