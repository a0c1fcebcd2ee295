import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_rms import HalfLife, half_life_from_rho, rho_from_half_life
from rl_rms.half_life import AverageHalfLife, Timescale, is_number, parse_half_life
from tests.naming import naming


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int8(1)])
def test_is_number_of_a_real_number_is_true(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1]])
def test_is_number_of_flags_and_other_values_is_false(value):
    assert not is_number(value)


def test_weight_after_the_half_life_is_one_half():
    assert rho_from_half_life(1) == 0.5
    assert rho_from_half_life(2) == pytest.approx(0.5**0.5)
    assert rho_from_half_life(69) == pytest.approx(0.99, abs=1e-5)
    assert rho_from_half_life(10, updates=10) == 0.5
    assert rho_from_half_life(10, updates=30) == pytest.approx(0.125)


def test_half_life_of_common_decays_equals_known_values():
    assert half_life_from_rho(0.5) == 1.0
    assert half_life_from_rho(0.9) == pytest.approx(6.5788, abs=1e-4)
    assert half_life_from_rho(0.99) == pytest.approx(68.9676, abs=1e-4)
    assert half_life_from_rho(0.0) == 0.0


@given(st.floats(0.05, 1e6))
def test_rho_and_half_life_conversions_are_inverse(half_life):
    assert half_life_from_rho(rho_from_half_life(half_life)) == pytest.approx(half_life, rel=1e-8)


@pytest.mark.parametrize("half_life", [0, -3.0, float("nan"), float("inf"), 1e16])
def test_half_life_out_of_range_names_it(half_life):
    with pytest.raises(ValueError, match=naming("half_life", "0", "1e+15")):
        rho_from_half_life(half_life)
    with pytest.raises(ValueError, match=naming("half_life", "0")):
        HalfLife(half_life)


@pytest.mark.parametrize("value", ["3", True, None, [3.0]])
def test_half_life_of_another_type_names_it(value):
    with pytest.raises(ValueError, match=naming("half_life", repr(value))):
        HalfLife(value)
    with pytest.raises(ValueError, match=naming("timescale", repr(value))):
        Timescale(value)


@pytest.mark.parametrize("value", [np.int64(69), np.float32(69), np.uint8(69)])
def test_half_life_of_a_numpy_number_is_accepted(value):
    assert HalfLife.parse(value) == HalfLife(69.0)


def test_rho_of_the_longest_half_life_is_below_one():
    assert rho_from_half_life(1e15) < 1.0


@pytest.mark.parametrize("rho", [-0.1, 1.0, 1.5, float("nan")])
def test_rho_out_of_range_names_it(rho):
    with pytest.raises(ValueError, match=naming("rho", "[0, 1)")):
        half_life_from_rho(rho)


@pytest.mark.parametrize(
    ("spec", "value", "unit"),
    [
        (69, 69, "updates"),
        (0.5, 0.5, "updates"),
        ("69", 69, "updates"),
        ("69 updates", 69, "updates"),
        ("1 update", 1, "updates"),
        (" 6.9e1updates ", 69, "updates"),
        ("20_000 steps", 20_000, "steps"),
        ("2e4 env steps", 20_000, "steps"),
        ("1 step", 1, "steps"),
        (HalfLife(3, "steps"), 3, "steps"),
    ],
)
def test_parse_accepts_every_spelling(spec, value, unit):
    assert HalfLife.parse(spec) == HalfLife(value, unit)


@pytest.mark.parametrize(
    "spec", ["", "steps", "69 episodes", "69 69", "20,000 steps", "1__0", "1_", "match", "nan", "infinite"]
)
def test_parse_of_another_spelling_names_it(spec):
    with pytest.raises(ValueError, match=naming("half_life", '"20_000 steps"', f"'{spec}'")):
        HalfLife.parse(spec)


@pytest.mark.parametrize("spec", [None, True, [69]])
def test_parse_of_another_type_names_it(spec):
    with pytest.raises(TypeError, match=naming("half_life")):
        HalfLife.parse(spec)


@pytest.mark.parametrize("spec", ["inf", math.inf, "inf steps", "inf updates"])
def test_average_half_life_may_be_infinite(spec):
    assert AverageHalfLife.parse(spec).in_steps() == AverageHalfLife.parse(spec).in_updates() == math.inf


@pytest.mark.parametrize("spec", [0, -math.inf, math.nan, "-3 steps", "nan", "match"])
def test_average_half_life_names_what_it_allows(spec):
    with pytest.raises(ValueError, match=naming("half_life", "inf")):
        AverageHalfLife.parse(spec)


@pytest.mark.parametrize("spec", ["inf", math.inf, "inf steps"])
def test_half_life_of_the_second_moment_is_finite(spec):
    with pytest.raises(ValueError, match=naming("half_life", "inf", "1e+15")):
        HalfLife.parse(spec)


def test_half_life_with_a_wrong_unit_names_it():
    with pytest.raises(ValueError, match=naming('"updates"', '"steps"', "'episodes'")):
        HalfLife(3, "episodes")


def test_in_updates_converts_units():
    assert HalfLife(20_000, "steps").in_updates(80) == 250
    assert HalfLife(250).in_steps(80) == 20_000
    assert HalfLife(250).in_updates() == 250
    assert HalfLife(20_000, "steps").in_steps() == 20_000


@pytest.mark.parametrize("steps_per_update", [None, 0, -5, float("nan")])
def test_in_updates_without_steps_per_update_raises(steps_per_update):
    with pytest.raises(ValueError, match=naming("'100 steps'", "optimizer.steps_per_update")):
        HalfLife(100, "steps").in_updates(steps_per_update)
    with pytest.raises(ValueError, match=naming("'100 updates'")):
        HalfLife(100).in_steps(steps_per_update)


@pytest.mark.parametrize(
    "spec", ["20000 steps", "123456789 steps", "0.1 updates", "1234567.25 steps", "68.5 updates"]
)
def test_str_of_a_half_life_parses_to_it(spec):
    assert str(HalfLife.parse(spec)) == spec


def test_half_life_converted_to_rho_and_back_has_the_stated_form():
    assert str(HalfLife(half_life_from_rho(rho_from_half_life(69)))) == "69 updates"


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_timescale_out_of_range_names_it(value):
    with pytest.raises(ValueError, match=naming("timescale", "0")):
        Timescale(value)


@pytest.mark.parametrize(("spec", "kind"), [("soon", ValueError), (-3, ValueError), ([69], TypeError)])
def test_parse_error_names_match_and_auto_if_they_are_allowed(spec, kind):
    with pytest.raises(kind, match=naming('"match"', '"auto"')):
        parse_half_life(spec)


# Any text, and texts in the form of a half-life, valid or invalid.
TEXTS = st.one_of(
    st.text(),
    st.from_regex(
        r"\s*[-+]?[0-9_.]{1,8}([eE][-+]?[0-9]{1,3})?\s?(updates?|env steps?|steps?|match|)\s*", fullmatch=True
    ),
    st.builds(
        "{} {}".format, st.floats() | st.integers(), st.sampled_from(["", "updates", "steps", "Steps", "\u0661"])
    ),
    st.sampled_from(
        ["٣ updates", "²", "1_0_0", "9" * 400, "9" * 5_000, "0x10", "1e-400", "1e400 steps", "-0", "½"]
    ),
)


@given(TEXTS)
def test_parse_of_any_text_round_trips_or_raises(text):
    half_life, said = None, ""
    try:
        half_life = HalfLife.parse(text)
    except ValueError as error:
        said = str(error)
    if half_life is None:
        assert said.startswith("half_life must be ")
        assert "got" in said
        return
    again = HalfLife.parse(str(half_life))
    assert again.value == pytest.approx(half_life.value, rel=1e-11)
    assert (again.unit, str(again)) == (half_life.unit, str(half_life))
    assert 0.0 <= rho_from_half_life(half_life.value) < 1.0
    assert rho_from_half_life(half_life.value) > 0.0 or half_life.value < 1e-3


@given(st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 10**15, 10**15 + 1]))
def test_parse_of_any_number_is_accepted_or_raises(number):
    if 0 < number <= 1e15:
        assert HalfLife.parse(number).value == number
        return
    with pytest.raises(ValueError, match=naming("half_life")):
        HalfLife.parse(number)


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_rho_of_any_value_converts_to_a_half_life_and_back(rho):
    half_life = half_life_from_rho(rho)
    assert 0.0 <= half_life < math.inf
    if 0 < half_life <= 1e15:
        assert 1.0 - rho_from_half_life(half_life) == pytest.approx(1.0 - rho, rel=1e-3, abs=1e-15)
