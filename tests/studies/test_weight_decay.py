import numpy as np
import pytest

from rl_rms.studies import load
from rl_rms.studies.weight_decay import due, left, remaining

pytestmark = pytest.mark.slow

STUDY = load("weight_decay")


def test_decoupled_decay_is_independent_of_the_gradients(quick):
    for strength in (1e-3, 0.1):
        for value in remaining(quick, "decoupled", strength).values():
            assert value == pytest.approx(due(strength), rel=0.03)
    assert STUDY.verdict(quick).word == "holds"


def test_coupled_decay_depends_on_the_scale_of_the_gradients(quick):
    kept = remaining(quick, "coupled", 0.1)
    assert kept["0.1"] < 0.1
    assert 0.5 < kept["1"] < 0.7 < kept["1, once x 1,000"] < 0.9 < kept["10"]


def test_unused_weight_vanishes_at_any_strength_of_coupled_decay(quick):
    for strength in (1e-3, 0.1):
        assert 0 < remaining(quick, "coupled", strength)["0"] < 1e-20


def test_decay_without_gradients_equals_the_closed_form():
    # The learning rate of update k is 0.01 * (1 - k / 1000).
    rates = 0.01 * np.linspace(1, 0, 1_000, endpoint=False)
    assert left(0, form="decoupled", strength=0.1)["left"][0] == pytest.approx(np.prod(1 - 0.1 * rates))


def test_coupled_decay_lowers_the_return_of_agents(quick):
    # The strength is far too large for coupled decay, and has little effect if decoupled.
    returns = {
        form: quick.values("return", of="agent", form=form).mean() for form in ("none", "coupled", "decoupled")
    }
    assert returns["coupled"] < 0.8 * min(returns["none"], returns["decoupled"])
