import numpy as np
import pytest

from rl_rms.studies import intervals
from rl_rms.studies.intervals import interquartile_mean

pytest.importorskip("rliable")
SCORES = np.random.default_rng(0).standard_normal(10)


def test_the_interval_is_the_same_each_time_and_leaves_numpys_generator_alone():
    np.random.seed(1)  # noqa: NPY002
    told = interquartile_mean(SCORES)
    after = np.random.random()  # noqa: NPY002
    intervals._interval.cache_clear()
    assert interquartile_mean(SCORES) == told
    np.random.seed(1)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002


def test_the_middle_is_that_of_the_middle_half():
    # Of eight scores the four in the middle: 3, 4, 5 and 6.
    told = interquartile_mean([8, 1, 7, 2, 6, 3, 5, 4])
    assert told.middle == 4.5
    assert 1 <= told.low < 4.5 < told.high <= 8
