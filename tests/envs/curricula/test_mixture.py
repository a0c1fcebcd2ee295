import sys

import numpy as np
import pytest

from rl_rms.envs.curricula import (
    ALPGMM,
)
from tests.envs.curricula.episodes import begin
from tests.naming import naming


def test_alp_gmm_draws_tasks_whose_returns_change():
    curriculum = ALPGMM({"x": [0.0, 10.0]}, fit_every=100, uniform=0.2)
    random = np.random.default_rng(0)
    places = []
    for _ in range(1_000):
        x = curriculum.task(0)["x"]
        places.append(x)
        curriculum.record(float(random.normal() if 3 <= x <= 5 else 7.0), 10, 0)
    assert np.mean([3 <= x <= 5 for x in places[:100]]) < 0.35
    assert np.mean([3 <= x <= 5 for x in places[300:]]) > 0.6
    assert all(0 <= x <= 10 for x in places)
    # A fifth of the tasks is drawn uniformly; 70 % of these are outside of 2.5 to 5.5.
    assert 0.1 < np.mean([not 2.5 <= x <= 5.5 for x in places[300:]]) < 0.3
    log = curriculum.log()
    assert log["components"] >= 2
    assert 3 < log["mean/x"] < 5.5
    assert curriculum.timescale == 1_000  # a fit every 100 episodes of 10 env steps


def test_alp_gmm_progress_compares_with_the_nearest_earlier_task():
    curriculum = ALPGMM({"x": [0.0, 10.0]})
    for place, ret in ((0.2, 1.0), (0.8, 5.0), (0.7, 2.0), (0.1, 2.0), (0.1, 9.0)):
        begin(curriculum, {"x": 10 * place}, [place])
        curriculum.record(ret, 10, 0)
    assert curriculum.state_dict()["progress"] == pytest.approx([0, 4, 3, 1, 7])


def test_alp_gmm_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    curriculum = ALPGMM({"x": [0.0, 10.0]}, fit_every=10)
    for _ in range(9):
        curriculum.task(0)
        curriculum.record(0.0, 10, 0)
    curriculum.task(0)
    with pytest.raises(ImportError, match=naming("pip install 'rl_rms[curricula]'")):
        curriculum.record(0.0, 10, 0)


def test_load_state_dict_with_other_targets_names_both_numbers():
    saved = ALPGMM({"length": [0, 1], "gravity": [0, 1]})
    saved.task(0)
    saved.record(1.0, 10, env_index=0)
    with pytest.raises(ValueError, match=naming("2 targets", "1")):
        ALPGMM({"length": [0, 1]}).load_state_dict(saved.state_dict())
