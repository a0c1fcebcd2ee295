import numpy as np
import pytest

from rl_rms.studies import load
from rl_rms.studies.clipping import BURSTS, contained, measure, moments, pollution
from rl_rms.studies.intervals import interquartile

pytestmark = pytest.mark.slow

STUDY = load("clipping")


def test_burst_in_any_coordinate_is_contained_only_by_the_coordinate_clip(quick):
    assert contained(quick, "none") == contained(quick, "max_update_rms") == []
    assert contained(quick, "max_grad_norm") == ["all"]
    assert contained(quick, "max_grad_ratio") == list(BURSTS)
    verdict = STUDY.verdict(quick)
    assert verdict.word == "conditional"
    assert verdict.condition.endswith(" max_grad_ratio")


def test_pollution_equals_the_equation_of_the_accumulator(quick):
    # v is 5 % below its limit at update 300, so the ratio is about 3 % above the expected square root.
    assert pollution(quick, "none", "all") == pytest.approx(np.sqrt(0.99 + 0.01 * 1e6), rel=0.1)
    # A gradient that is clipped to three times the root of v changes v to rho v + 9 (1 - rho) v, up to bias
    # correction.
    assert pollution(quick, "max_grad_ratio", "small") == pytest.approx(np.sqrt(0.99 + 0.09), rel=0.02)


def test_global_clip_shrinks_the_steps_of_other_coordinates(quick):
    assert interquartile(quick.values("others", clip="max_grad_norm", burst="large")) < 0.1
    assert interquartile(quick.values("others", clip="max_grad_ratio", burst="large")) == pytest.approx(
        1, abs=0.02
    )


def test_global_clip_keeps_a_lasting_change_out(quick):
    # The norm bound is twice the usual norm, and the gradients have ten times the usual norm.
    last = quick.values("root", clip="max_grad_norm", burst="lasting")[:, -1]
    assert last.max() < 0.2
    assert quick.values("root", clip="none", burst="lasting")[:, -1].min() > 0.5


def test_recovery_ends_when_the_pollution_has_decayed():
    # The root of v is within a tenth of its value before the burst when 1e4 * 0.99**t <= 1.1**2 - 1.
    result = measure(0, clip="none", burst="all", after=1_200)
    assert result["recovery"] == pytest.approx(np.log(1e4 / 0.21) / -np.log(0.99), rel=0.02)
    assert moments(1_200)[0] == 0
    assert moments(1_200)[-1] == 1_199
