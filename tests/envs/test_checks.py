import math

import numpy as np
import pytest

from rl_rms.envs.checks import (
    arguments,
    check_flag,
    check_int,
    check_keys,
    check_number,
    check_one_of,
    check_reset,
    check_reward,
    is_scalar,
    shown,
)
from tests.naming import naming


def test_check_number_in_range_returns_a_float():
    value = check_number("rate", np.int64(1), least=1, most=1)
    assert (type(value), value) == (float, 1.0)


@pytest.mark.parametrize(
    ("value", "limits", "named"),
    [
        (math.nan, {}, ["rate", "finite", "nan"]),
        (10**400, {}, ["rate", "finite"]),
        (True, {}, ["rate", "True"]),
        ("1", {}, ["rate", "'1'"]),
        (0, {"least": 1}, [">= 1", "0"]),
        (0, {"above": 0}, ["> 0", "0"]),
        (2, {"most": 1.5}, ["<= 1.5", "2"]),
        (1, {"least": 0, "below": 1}, [">= 0", "< 1", "1"]),
    ],
)
def test_check_number_out_of_range_names_argument_limits_and_value(value, limits, named):
    with pytest.raises(ValueError, match=naming(*named)):
        check_number("rate", value, **limits)


def test_check_int_of_a_whole_float_returns_an_int():
    value = check_int("steps", 2.0e4, least=1)
    assert (type(value), value) == (int, 20_000)
    assert check_int("steps", 2**62 - 1, least=1) == 2**62 - 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (1.5, ["steps", "1.5"]),
        (0, [">= 1 env steps", "0"]),
        (True, ["True"]),
        (math.inf, ["inf"]),
        (2**62, ["2**62", str(2**62)]),
    ],
)
def test_check_int_of_another_value_names_argument_limit_and_value(value, named):
    with pytest.raises(ValueError, match=naming("steps", *named)):
        check_int("steps", value, least=1, unit="env steps")


def test_check_flag_of_a_numpy_bool_returns_a_bool():
    assert check_flag("fused", np.False_) is False
    with pytest.raises(ValueError, match=naming("fused", "true or false", "1")):
        check_flag("fused", 1)


def test_arguments_returns_names_and_defaults():
    def function(a, b=3):
        pass

    assert arguments(function)["b"] == 3
    assert list(arguments(function)) == ["a", "b"]


@pytest.mark.parametrize("result", [np.zeros(2), (np.zeros(2),), [np.zeros(2), {}]])
def test_check_reset_of_a_wrong_result_names_it(result):
    with pytest.raises(ValueError, match=naming("reset()", "info", type(result).__name__)):
        check_reset(result)


@pytest.mark.parametrize("reward", [1, 0.5, np.float32(0.5), np.array(2.0)])
def test_check_reward_of_one_number_returns_it(reward):
    assert check_reward(reward) is reward


@pytest.mark.parametrize("reward", ["1", None, np.zeros(1), np.array("x")])
def test_check_reward_of_a_wrong_value_names_it(reward):
    with pytest.raises(ValueError, match=naming("reward", type(reward).__name__)):
        check_reward(reward)


def test_is_scalar_depends_on_shape_and_dtype():
    assert is_scalar(np.array(True), "b")
    assert not is_scalar(np.array(True), "iuf")
    assert not is_scalar(np.array([1.0]), "f")
    assert not is_scalar(1.0, "f")


def test_shown_shortens_a_long_value():
    assert shown([1]) == "list [1]"
    assert len(shown("x" * 1_000)) == len("str ") + 80


@pytest.mark.parametrize("value", [[], {1: 2}, None])
def test_check_keys_with_wrong_keys_names_argument_and_value(value):
    check_keys("changes", {"a": 1})
    with pytest.raises(ValueError, match=naming("changes", repr(value))):
        check_keys("changes", value)


def test_check_one_of_another_value_names_the_choices():
    check_one_of("mode", "sync", ("sync", None))
    check_one_of("mode", None, ("sync", None))
    with pytest.raises(ValueError, match=naming("mode", "sync, null", "'other'")):
        check_one_of("mode", "other", ("sync", None))
