"""The parameters in flat buckets, and changes that need another layout."""

from collections import defaultdict

import pytest
import torch
from torch import nn

from rl_rms import RMSprop
from rl_rms.optim.kernels.buckets import FlatGradients
from rl_rms.optim.kernels.loose import LooseGradients
from rl_rms.optim.layout import Layout, collect_gradients, flat_gradients
from tests.naming import naming


def parameter(*shape, dtype=torch.float32):
    param = nn.Parameter(torch.ones(shape, dtype=dtype))
    param.grad = torch.ones_like(param)
    return param


def groups_of(params, **options):
    return RMSprop(params, **options).param_groups


def no_states():
    return defaultdict(dict)


def collect(groups, states, layout=None):
    return collect_gradients(layout, groups, states)


def sizes(gradients):
    """Numbers of parameters in the buckets of each group, and of the loose ones."""
    return [[(type(one), len(one.grads)) for one in group] for group in gradients]


def test_collect_groups_parameters_of_one_precision_and_past_in_one_bucket():
    params = [parameter(2), parameter(3), parameter(2, dtype=torch.float64), parameter(2, dtype=torch.float16)]
    states = no_states()
    groups = groups_of(params)
    layout, gradients = collect(groups, states)
    assert sizes(gradients) == [[(FlatGradients, 2), (FlatGradients, 1), (LooseGradients, 1)]]
    assert [one.bucket.params for one in flat_gradients(gradients)] == [params[:2], [params[2]]]
    assert collect(groups, states, layout)[0] is layout


@pytest.mark.parametrize(
    "options",
    [
        {"flat": False},
        {"foreach": True},
        {"differentiable": True},
        {"max_update_rms": 1.0},
        {"momentum": 0.5, "cautious": True},
        {"lr": torch.tensor(0.1, requires_grad=True), "differentiable": True},
    ],
    ids=str,
)
def test_collect_of_a_group_whose_options_allow_no_bucket_is_loose(options):
    _, gradients = collect(groups_of([parameter(2), parameter(3)], **options), no_states())
    assert sizes(gradients) == [[(LooseGradients, 2)]]


@pytest.mark.filterwarnings("ignore:.*duplicate.*")
def test_collect_of_a_parameter_that_is_listed_twice_is_loose():
    twice, once = parameter(2), parameter(2)
    groups = groups_of([once])
    groups[0]["params"] += [twice, twice]
    _, gradients = collect(groups, no_states())
    assert sizes(gradients) == [[(FlatGradients, 1), (LooseGradients, 2)]]


def test_collect_of_a_parameter_without_gradient_leaves_it_out():
    params = [parameter(2), parameter(3)]
    params[1].grad = None
    states = no_states()
    layout, gradients = collect(groups_of(params), states)
    assert sizes(gradients) == [[(FlatGradients, 1), (LooseGradients, 0)]]
    assert params[1] not in states
    params[1].grad = torch.ones(3)
    again, gradients = collect(groups_of(params), states, layout)
    assert again is not layout
    assert sum(len(one.grads) for one in gradients[0]) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda groups, states: groups.append(groups_of([parameter(4)])[0]),
        lambda groups, states: groups[0]["params"].reverse(),
        lambda groups, states: groups[0].update(flat=False),
        lambda groups, states: states.update({groups[0]["params"][0]: {}}),
        lambda groups, states: states[groups[0]["params"][0]].update(square_avg=torch.ones(2)),
        lambda groups, states: setattr(groups[0]["params"][0], "grad", None),
        lambda groups, states: setattr(groups[0]["params"][0], "data", torch.ones(2, dtype=torch.float64)),
    ],
    ids=["group", "order", "option", "state", "average", "gradient", "precision"],
)
def test_collect_after_a_change_needs_another_layout(change):
    groups, states = groups_of([parameter(2), parameter(3)]), no_states()
    layout, _ = collect(groups, states)
    assert layout.collect(groups, states) is not None
    change(groups, states)
    assert layout.collect(groups, states) is None


def test_layout_of_flat_true_with_a_parameter_that_no_bucket_takes_raises_value_error():
    with pytest.raises(ValueError, match=naming("flat=True")) as caught:
        collect(groups_of([parameter(3, dtype=torch.float16)], flat=True), no_states())
    assert all(word in str(caught.value) for word in ("(3,)", "float16", '"auto"'))


def test_collect_of_a_layout_that_never_fits_raises_runtime_error(monkeypatch):
    monkeypatch.setattr(Layout, "collect", lambda *args: None)
    with pytest.raises(RuntimeError, match=naming("threads")):
        collect(groups_of([parameter(2)]), no_states())
