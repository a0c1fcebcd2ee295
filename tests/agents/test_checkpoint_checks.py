import numpy as np
import pytest
import torch

from rl_rms.agents.checkpoint_checks import check_like, check_numbers, check_options, check_trusted, damage_named
from tests.naming import naming

LIKE = {
    "count": 3,
    "rate": 0.5,
    "weights": torch.zeros(2, 3),
    "lengths": np.zeros(2, np.int64),
    "parts": [1.0, {"name": "x"}],
}


def changed(name, value):
    return {**LIKE, name: value}


def test_check_like_of_the_same_structure_passes():
    check_like("state", {**LIKE, "count": 9, "weights": torch.ones(2, 3), "parts": [2.0, {"name": "y"}]}, LIKE)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"count": 3}, ["state", "count", "weights"]),
        (changed("count", -1), ["state.count", "int", "-1"]),
        (changed("count", True), ["state.count", "int", "True"]),
        (changed("rate", float("nan")), ["state.rate", "finite", "nan"]),
        (changed("rate", 1), ["state.rate", "finite", "1"]),
        (changed("weights", torch.zeros(3, 2)), ["state.weights", "(2, 3)", "(3, 2)"]),
        (
            changed("weights", torch.zeros(2, 3, dtype=torch.int64)),
            ["state.weights", "torch.float32", "torch.int64"],
        ),
        (changed("weights", torch.full((2, 3), torch.inf)), ["state.weights", "finite"]),
        (changed("lengths", np.zeros(2)), ["state.lengths", "int64", "float64"]),
        (changed("lengths", [0, 0]), ["state.lengths", "int64", "[0, 0]"]),
        (changed("parts", [1.0]), ["state.parts", "length 2", "[1.0]"]),
        (changed("parts", [1.0, {"name": 3}]), ["state.parts[1].name", "str", "3"]),
    ],
)
def test_check_like_wrong_structure_names_the_part(value, named):
    with pytest.raises(ValueError, match=naming(*named)):
        check_like("state", value, LIKE)


def test_check_options_same_types_passes():
    check_options(
        "group", {"lr": 1, "betas": [0.9, 0.99], "fused": False}, {"lr": 0.1, "betas": (0.9, 0.99), "fused": False}
    )


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({}, ["group", "lr", "fused"]),
        ({"lr": "0.1", "fused": False}, ["group.lr", "0.1", "'0.1'"]),
        ({"lr": 0.1, "fused": True}, ["group.fused", "False", "True"]),
    ],
)
def test_check_options_wrong_value_names_the_option(value, named):
    with pytest.raises(ValueError, match=naming(*named)):
        check_options("group", value, {"lr": 0.1, "fused": False})


def test_check_numbers_beyond_64_bits_names_the_place():
    check_numbers("state", {"a": [1, 2**63 - 1]})
    with pytest.raises(ValueError, match=naming("state.a.1", "2**63")):
        check_numbers("state", {"a": [1, -(2**63)]})


@pytest.mark.parametrize("error", [KeyError("steps"), TypeError("a\nb"), RuntimeError("size mismatch")])
def test_damage_named_converts_errors_to_one_sentence(error):
    with (
        pytest.raises(ValueError, match=naming("the file", "damaged", "earlier checkpoint")) as raised,
        damage_named("the file"),
    ):
        raise error
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_check_trusted_optimizer_of_a_foreign_package_names_it():
    check_trusted("optimizer", "torch.optim.Adam")
    check_trusted("optimizer", "rl_rms.RMSprop")
    with pytest.raises(ValueError, match=naming("'torch_evil.Adam'", "optimizer=")):
        check_trusted("optimizer", "torch_evil.Adam")
