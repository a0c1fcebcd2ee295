"""Valid optimizer states are loaded. Other states raise an error that names the parameter."""

import copy
import math

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from rl_rms import RMSprop
from rl_rms.optim.groups import GroupRMSprop
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


def saved(make=RMSprop, **options):
    model = network()
    optimizer = make(model.named_parameters(), **options)
    train(model, optimizer)
    return copy.deepcopy(optimizer.state_dict())


def is_same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def nan_in(tensor):
    tensor.view(-1)[-1] = math.nan
    return tensor


DAMAGES = {
    "larger": ("square_avg", lambda v: torch.ones(64, 64), ("'square_avg'", "(64, 64)")),
    "smaller": ("square_avg", lambda v: torch.ones(1), ("'square_avg'", "(1,)")),
    "transposed": ("square_avg", lambda v: v.t().contiguous(), ("'square_avg'", "(3, 2)")),
    "integers": ("square_avg", lambda v: v.long(), ("'square_avg'", "torch.int64")),
    "complex": ("square_avg", lambda v: v.to(torch.complex64), ("'square_avg'", "torch.complex64")),
    "sparse": ("square_avg", lambda v: v.to_sparse(), ("'square_avg'", "torch.sparse_coo")),
    "meta": ("square_avg", lambda v: v.to("meta"), ("'square_avg'", "meta")),
    "list": ("square_avg", lambda v: v.tolist(), ("'square_avg'", "list")),
    "nan": ("square_avg", nan_in, ("'square_avg'", "nan")),
    "negative": ("square_avg", lambda v: -v, ("'square_avg'", ">= 0")),
    "momentum": ("momentum_buffer", nan_in, ("'momentum_buffer'", "nan")),
    "mean": ("grad_avg", lambda v: v[:1], ("'grad_avg'", "(1, 3)")),
    "step": ("step", lambda step: -step, ("'step'", "-3.0")),
    "infinite step": ("step", lambda step: math.inf, ("'step'", "inf")),
    "half a step": ("step", lambda step: 2.5, ("'step'", "2.5")),
    "step of a kind": ("step", lambda step: "3", ("'step'", "'3'")),
    "steps": ("step", lambda step: torch.ones(2), ("'step'", "tensor")),
}


@BOTH
@pytest.mark.parametrize("make", [RMSprop, torch.optim.RMSprop])
@pytest.mark.parametrize("damage", DAMAGES)
def test_load_state_dict_of_a_damaged_state_names_the_parameter_and_changes_nothing(damage, make, fused):
    key, change, found = DAMAGES[damage]
    model = network()
    optimizer = RMSprop(model.named_parameters(), momentum=0.5, centered=True, fused=fused)
    train(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    state_dict = saved(make, momentum=0.5, centered=True)
    state_dict["state"][0][key] = change(state_dict["state"][0][key])
    with pytest.raises(ValueError, match=naming("parameter 0", "'weight'", *found)):
        optimizer.load_state_dict(state_dict)
    assert is_same(optimizer.state_dict(), before)
    train(model, optimizer)


@pytest.mark.parametrize("key", ["step", "square_avg", "momentum_buffer", "grad_avg"])
def test_load_state_dict_without_an_entry_names_it(key):
    state_dict = saved(torch.optim.RMSprop, momentum=0.5, centered=True)
    del state_dict["state"][1][key]
    with pytest.raises(ValueError, match=naming("parameter 1", "'bias'", f"'{key}'", "missing")):
        RMSprop(network().named_parameters()).load_state_dict(state_dict)


@pytest.mark.parametrize("weight", [-0.5, 1.5, math.nan, "1"])
def test_load_state_dict_with_an_initial_weight_outside_of_0_to_1_raises_value_error(weight):
    state_dict = saved()
    state_dict["state"][0]["initial_weight"] = weight
    with pytest.raises(ValueError, match=naming("'initial_weight'")):
        RMSprop(network().parameters()).load_state_dict(state_dict)


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("lr", math.nan, ("lr", ">= 0", "nan")),
        ("lr", "fast", ("lr", "float32", "'fast'")),
        ("eps", None, ("eps", "float32", "None")),
        ("momentum", 1e300, ("momentum", "float32", "1e+300")),
        ("initial_second_moment", torch.ones(1), ("initial_second_moment", "number")),
        ("alpha", 1.0, ("alpha", "half_life", "1.0")),
        ("half_life", [20], ("half_life", "None", "[20]")),
        ("centered", "yes", ("centered", "True", "False", "'yes'")),
        ("half_life", "soon", ("soon",)),
        ("fused", [], ("fused",)),
    ],
)
def test_load_state_dict_with_a_wrong_option_names_it(option, value, found):
    state_dict = saved()
    state_dict["param_groups"][0][option] = value
    with pytest.raises(ValueError, match=naming(*found)):
        RMSprop(network().parameters()).load_state_dict(state_dict)


@pytest.mark.parametrize(
    ("damaged", "found"),
    [
        (None, ("state_dict", "dictionary")),
        ([], ("state_dict", "dictionary")),
        ({}, ("'state'", "'param_groups'")),
        ({"state": {}, "param_groups": []}, ("different number of parameter groups",)),
        ({"state": {}, "param_groups": [3]}, ("dictionary", "'params'")),
        ({"state": {}, "param_groups": [{"params": [[], []]}]}, ("dictionary", "'params'")),
        (
            {"state": {0: 3}, "param_groups": [{"params": [0, 1]}]},
            ("parameter 0", "dictionary"),
        ),
    ],
)
def test_load_state_dict_of_another_structure_raises_value_error(damaged, found):
    with pytest.raises(ValueError, match=naming(*found)):
        RMSprop(network().named_parameters()).load_state_dict(damaged)


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ((), 3, ("'tracking'", "dictionary", "3")),
        (("controller",), 3, ("'controller'", "dictionary")),
        (("controller", "auto"), 3, ("'auto'", "estimator")),
        (("controller", "auto", "averages"), torch.ones(2, 1, 6), ("'averages'", "Bank")),
        (("controller", "auto", "scores"), [1.0], ("'scores'", "Bank")),
        (
            ("controller", "probes"),
            {"auto": {"block": torch.ones(3), "filled": 0}},
            ("probes",),
        ),
        (
            ("controller", "probes"),
            {"auto": {"block": torch.ones(3, 2), "filled": 9}},
            ("probes",),
        ),
        (("guard",), {}, ("guard", "'num_updates'")),
        (("guard", "num_nonfinite"), -1, ("guard", "num_nonfinite", ">= 0", "-1")),
    ],
)
def test_load_state_dict_with_damaged_counts_or_estimates_names_them_and_changes_nothing(path, value, found):
    model = network()
    optimizer = RMSprop(model.parameters(), half_life="auto")
    train(model, optimizer, updates=20)
    state_dict = copy.deepcopy(optimizer.state_dict())
    before = copy.deepcopy(state_dict)
    place = state_dict["param_groups"][0]
    *way, last = "tracking", *path
    for key in way:
        place = place[key]
    place[last] = value
    with pytest.raises(ValueError, match=naming(*found)):
        optimizer.load_state_dict(state_dict)
    assert is_same(optimizer.state_dict(), before)


@BOTH
def test_load_state_dict_copies_all_tensors(fused):
    state_dict = saved(momentum=0.5)
    kept = copy.deepcopy(state_dict)
    model = network()
    optimizer = RMSprop(model.parameters(), fused=fused)
    optimizer.load_state_dict(state_dict)
    train(model, optimizer)
    assert is_same(state_dict, kept)


def test_load_state_dict_of_groups_copies_all_tensors():
    def step(optimizer, model):
        grads = [torch.ones_like(param) for param in model.parameters()]
        optimizer.step({0: grads, 1: [2 * grad for grad in grads]})

    model = network()
    optimizer = GroupRMSprop(model.parameters())
    step(optimizer, model)
    state_dict = optimizer.state_dict()
    kept = copy.deepcopy(state_dict)
    other = network()
    loaded = GroupRMSprop(other.parameters())
    loaded.load_state_dict(state_dict)
    for state in loaded.state.values():
        for group in state["groups"].values():
            group["square_avg"].fill_(7.0)
    assert is_same(state_dict, kept)


@pytest.mark.parametrize("value", [torch.ones(64), torch.full((2, 3), math.nan), 3])
def test_load_state_dict_of_groups_with_a_damaged_state_names_the_parameter(value):
    model = network()
    optimizer = GroupRMSprop(model.named_parameters())
    optimizer.step({0: [torch.ones_like(param) for param in model.parameters()]})
    state_dict = copy.deepcopy(optimizer.state_dict())
    state_dict["state"][0]["groups"][0]["square_avg"] = value
    with pytest.raises(ValueError, match=naming("parameter 0", "'weight'", "group 0")):
        optimizer.load_state_dict(state_dict)


def test_load_state_dict_of_rmsprop_tf_like_continues_in_its_preset():
    models = network(), network()
    theirs = RMSpropTFLike(models[0].parameters(), lr=0.1, alpha=0.9, eps=1e-5)
    train(models[0], theirs)
    ours = RMSprop(models[1].parameters(), like="rmsprop_tf_like")
    models[1].load_state_dict(models[0].state_dict())
    ours.load_state_dict(theirs.state_dict())
    for model, optimizer in zip(models, (theirs, ours), strict=True):
        train(model, optimizer)
    torch.testing.assert_close(list(models[1].parameters()), list(models[0].parameters()))


@BOTH
def test_float64_step_counts_beyond_2_to_the_24(fused):
    state_dict = saved()
    for state in state_dict["state"].values():
        state["step"] = torch.tensor(2.0**24, dtype=torch.float64)
    model = network()
    optimizer = RMSprop(model.parameters(), fused=fused)
    optimizer.load_state_dict(state_dict)
    train(model, optimizer, updates=3)
    assert [state["step"].item() for state in optimizer.state.values()] == [2.0**24 + 3] * 2
