"""Options out of range or in conflict raise errors that name the option and the value."""

import math

import pytest
import torch

from rl_rms import RMSprop
from rl_rms.optim.options import as_scalar, check_options, rule_options, state_options, takes_tensor_means


def group(**options):
    (group,) = RMSprop([torch.nn.Parameter(torch.ones(1))], lr=0.1, rho=0.9).param_groups
    return {**group, **options}


def assert_named(options, name, *words):
    with pytest.raises(ValueError, match=name) as caught:
        check_options(group(**options))
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{caught.value} lacks {missing}"


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay", "optimism", "initial_second_moment"])
@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_check_options_below_zero_names_option_value_and_range(name, value):
    assert_named({name: value}, name, repr(value), ">= 0")


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay", "momentum", "optimism", "max_update_rms"])
@pytest.mark.parametrize("value", ["0.1", 1e39, torch.ones(2), True, 1j])
def test_check_options_non_numeric_value_names_option_and_value(name, value):
    assert_named(
        {name: value},
        name,
        str(tuple(value.shape)) if name == "lr" and isinstance(value, torch.Tensor) else repr(value),
    )


@pytest.mark.parametrize(
    "name", ["centered", "maximize", "bias_correction", "eps_in_sqrt", "nesterov", "cautious"]
)
def test_check_options_non_boolean_flag_names_option_value_and_choices(name):
    assert_named({name: "yes"}, name, "'yes'", "True", "False")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": -1}, ("momentum", "-1")),
        ({"max_update_rms": 0}, ("max_update_rms", "0", "None")),
        ({"fused": "yes"}, ("fused", "'yes'", "True")),
        ({"half_life": [3]}, ("half_life", "3", "string")),
        ({"half_life": "3 days"}, ("half_life", "'3 days'", "updates")),
        ({"alpha": 1.0}, ("alpha", "1.0", "[0, 1)")),
        ({"alpha": None}, ("alpha", "None", "half_life")),
        (
            {"bias_correction": True, "initial_second_moment": 1.0},
            ("bias_correction", "initial_second_moment", "1.0", "bias_correction=False"),
        ),
        ({"nesterov": True}, ("nesterov=True", "momentum=0", "set momentum")),
        ({"cautious": True}, ("cautious=True", "momentum=0", "set momentum")),
        ({"foreach": True, "differentiable": True}, ("foreach=True", "differentiable=True", "leave")),
    ],
    ids=str,
)
def test_check_options_invalid_value_names_value_and_fix(options, words):
    assert_named(options, *words)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": torch.tensor([0.1]), "weight_decay": torch.tensor(0.1)},
        {"momentum": -0.5, "nesterov": 1},
        {"alpha": None, "half_life": "20 steps"},
        {"foreach": None, "fused": None},
    ],
    ids=str,
)
def test_check_options_in_range_passes(options):
    check_options(group(**options))


def test_rule_options_have_the_current_decay_and_a_scalar_learning_rate():
    options = rule_options(group(lr=torch.tensor([0.1]), alpha=0.5, momentum=0.9))
    assert (options["rho"], options["momentum"], options["lr"].shape) == (0.5, 0.9, ())
    assert "fused" not in options


def test_state_options_are_the_options_that_need_an_average():
    assert state_options(group(momentum=0.9, centered=True)) == {
        "momentum": 0.9,
        "optimism": 0.0,
        "centered": True,
        "initial_second_moment": 0.0,
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"cautious": True}, False),
        ({"cautious": True, "momentum": 0.9}, True),
        ({"max_update_rms": 1.0}, True),
    ],
    ids=str,
)
def test_takes_tensor_means_with_cautious_or_max_update_rms_is_true(options, expected):
    assert takes_tensor_means(group(**options)) is expected


def test_as_scalar_of_a_number_returns_it():
    assert as_scalar(0.1) == 0.1
