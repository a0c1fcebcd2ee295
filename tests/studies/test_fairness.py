import numpy as np
import pytest
import torch

from rl_rms.envs.lending import Applicants
from rl_rms.studies import load
from rl_rms.studies.fairness import RATES, inputs, make_step, narrowed

pytestmark = pytest.mark.slow

STUDY = load("fairness")


def test_equal_weights_narrow_the_gap_at_a_cost_in_accuracy(quick):
    of = {"setting": "supervised", "weights": "shared"}
    late = {by: narrowed(quick, "late", by, **of).middle for by in ("per group", "reweighted")}
    assert late["reweighted"] > 0.015
    assert late["per group"] < 0.01
    score = {by: quick.estimate("late_score", by=by, **of).middle for by in ("RMSprop", "reweighted")}
    assert score["reweighted"] < score["RMSprop"] - 0.005
    assert STUDY.verdict(quick).word == "does not hold"


def test_separate_weights_have_the_same_gap_with_every_normalizer(quick):
    of = {"setting": "supervised", "weights": "own"}
    late = [quick.estimate("late", by=by, **of).middle for by in ("SGD", "RMSprop", "per group", "reweighted")]
    assert max(late) - min(late) < 0.02
    assert quick.values("gap", by="SGD", **of).shape == (3, 9)


def test_second_group_has_duplicate_features():
    people = Applicants(np.array([[2, 3, 1, 0], [4, 5, 0, 1]], np.float32), np.array([0, 1]), np.ones(2, bool))
    assert inputs(people, "shared").tolist() == [[2, 3, 1, 0], [4, 5, 0, 1]]
    assert inputs(people, "own").tolist() == [[2, 3, 1, 0, 0, 0], [4, 5, 0, 1, 4, 5]]


@pytest.mark.parametrize(
    ("by", "first"),
    [
        # The mean gradient is 0.8 * 1 - 0.2 * 9 = -1. With equal weights, the mean is (1 - 9) / 2 = -4, and
        # RMSprop divides the mean by 4.
        ("SGD", 1.0),
        ("RMSprop", 1.0),
        ("reweighted", 1.0),
        # The signs of the gradients have the mean 0.8 - 0.2. With equal weights, the mean is 0.
        ("per group", -0.6),
        ("per group, reweighted", 0.0),
        # The noise of the groups, in the ratio 1 to 9, is equalized, so the larger group decides the sign.
        ("equalized", -1.0),
    ],
)
def test_first_steps_equal_hand_computed_values(by, first):
    params = torch.zeros(len(RATES), 1)
    weights = {0: 1.0, 1: 1.0} if "reweighted" in by else {0: 0.8 * 64, 1: 0.2 * 64}
    moved = make_step(by, params)(params, {0: torch.ones_like(params), 1: -9 * torch.ones_like(params)}, weights)
    torch.testing.assert_close(moved[:, 0], first * torch.tensor(RATES))
