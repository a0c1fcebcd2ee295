import numpy as np
import pytest

from rl_rms.studies.layer_norm import best_rate, effect

pytestmark = pytest.mark.slow


def test_bias_correction_reduces_the_dependence_on_rho(quick):
    plain = {"layer_norm": False, "bias_correction": False}
    assert effect(quick, "regression", plain, {"layer_norm": False, "bias_correction": True}).low > 0


def test_best_rate_is_common_to_all_half_lives():
    scores = np.array([[[3.0, 0.0, 2.0], [0.0, 0.0, 2.0]]])
    assert best_rate(scores) == 2
    assert best_rate(scores[:, :1]) == 0
