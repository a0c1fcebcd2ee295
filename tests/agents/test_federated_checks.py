import pytest
import torch

from rl_rms.agents.federated_checks import check_direction, check_names, checked_state
from rl_rms.optim.rule import rmsprop_init
from tests.naming import naming

PARAMS = {"w": torch.ones(2)}


@pytest.mark.parametrize(
    ("direction", "named"),
    [
        ({"v": torch.ones(2)}, ["direction", "1 parameters"]),
        ({"w": torch.ones(3)}, ["direction of w", "shape (2,)", "shape (3,)"]),
        ({"w": torch.ones(2, dtype=torch.float64)}, ["direction of w", "float32", "float64"]),
        ({"w": torch.tensor([1.0, float("nan")])}, ["direction of w", "finite"]),
        ({"w": torch.tensor([1.0, 1e19])}, ["direction of w", "1e+18"]),
    ],
)
def test_check_direction_of_a_wrong_direction_names_the_parameter(direction, named):
    check_direction(PARAMS, PARAMS)
    with pytest.raises(ValueError, match=naming(*named)):
        check_direction(direction, PARAMS)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"w": torch.ones(3)}, ["another policy"]),
        ({"w": torch.tensor([1.0, float("inf")])}, ["parameter w", "finite"]),
    ],
)
def test_check_names_wrong_parameters_names_the_error(params, named):
    check_names(PARAMS, PARAMS)
    with pytest.raises(ValueError, match=naming(*named)):
        check_names(params, PARAMS)


def test_checked_state_accepts_second_moments_and_names_a_part_below_0():
    state = rmsprop_init(PARAMS)
    assert checked_state({}, PARAMS) == {}
    assert checked_state(state, PARAMS).keys() == {"w"}
    damaged = {"w": {**state["w"], "square_avg": torch.tensor([-1.0, 0.0])}}
    assert "square_avg" in state["w"]
    with pytest.raises(ValueError, match=naming("square_avg of w", ">= 0")):
        checked_state(damaged, PARAMS)
