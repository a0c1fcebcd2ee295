import math

import numpy as np
import pytest

from rl_rms.studies import load
from rl_rms.studies.gradient_burst import SIZES, burst, returns, sooner
from rl_rms.studies.intervals import interquartile

pytestmark = pytest.mark.slow

STUDY = load("gradient_burst")


@pytest.mark.parametrize(("rho", "size"), [(rho, size) for rho in (0.9, 0.99) for size in SIZES])
def test_step_after_a_burst_equals_the_equation_within_the_bound(quick, rho, size):
    # v is near 1 before the burst, so a burst of size B has the step B / sqrt(rho + (1 - rho) B**2).
    steps = quick.values("step", of="normalizer", rho=rho, clips=False, size=size)
    assert steps.max() <= 1 / math.sqrt(1 - rho) + 1e-4
    assert interquartile(steps) == pytest.approx(size / math.sqrt(rho + (1 - rho) * size**2), rel=0.08)


def test_recovery_is_faster_with_a_small_rho(quick):
    assert sooner(quick) == list(SIZES)
    assert STUDY.verdict(quick).word == "holds"


def test_small_burst_with_a_long_half_life_needs_no_recovery():
    # The root of v is sqrt(1 + 0.001 * (10**2 - 1)) = 1.048, which is within a tenth of 1.
    assert burst(0, rho=0.999, clips=False, size=10.0)["recovery"] == 0
    assert burst(0, rho=0.9, clips=False, size=10.0)["recovery"] == pytest.approx(
        np.log(0.1 * 99 / 0.21) / -np.log(0.9), abs=3
    )


def test_clip_by_second_moment_needs_no_recovery(quick):
    of = {"of": "normalizer", "rho": 0.99, "clips": True, "size": SIZES[-1]}
    assert quick.values("step", **of).max() < 3.0
    assert (quick.values("recovery", **of) == 0).all()


def test_attack_or_huge_rewards_raise_the_second_moment_and_lower_the_return(quick):
    of = {"of": "agent", "rho": 0.99, "clips": False}
    roots = {event: quick.values("root", event=event, **of).mean() for event in ("none", "attack", "rewards")}
    assert roots["rewards"] > 20 * roots["none"]
    plain, attacked = (returns(quick, event, rho=0.99, clips=False).mean() for event in ("none", "attack"))
    assert attacked < plain
