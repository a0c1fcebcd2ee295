import numpy as np
import pytest

from rl_rms.studies import load
from rl_rms.studies.architecture_ranking import NETWORKS, at_best_rates, taus
from rl_rms.studies.frame import Results

pytestmark = pytest.mark.slow

STUDY = load("architecture_ranking")


def test_measure_trains_every_network_with_every_optimizer(quick):
    assert at_best_rates(quick, "SGD").shape == (4, 3)
    assert (at_best_rates(quick, "RMSprop 200") > 9).all()
    ((middle, low, high),) = taus(quick).values()
    assert -1 <= low <= middle <= high <= 1
    assert len(NETWORKS) >= 12


@pytest.mark.parametrize(("better", "word"), [("a", "does not hold"), ("b", "holds")])
def test_verdict_equals_hand_computed_values(better, word):
    rng = np.random.default_rng(0)
    middle = {("a", "SGD"): 100, ("b", "SGD"): 50, ("a", "Adam"): 70, ("b", "Adam"): 70}
    middle[better, "Adam"] = 120
    cells = [{"network": network, "by": by, "num_steps": 1} for network, by in middle]
    measured = [{"scores": middle[key] + rng.normal(size=(10, 3))} for key in middle]
    verdict = STUDY.verdict(Results(range(10), cells, measured))
    assert verdict.word == word
    assert ("a is best under SGD" in verdict.evidence) == (word == "holds")
