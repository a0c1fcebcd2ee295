import numpy as np
import pytest

from rl_rms.studies.intervals import (
    interquartile_curve,
    interquartile_mean,
    probability_of_improvement,
    trimmed_mean,
)

pytest.importorskip("rliable")
SCORES = np.array([3.0, -1.0, 4.0, 1.5, 9.0, -2.6, 5.3, 5.8, 9.7, 9.3])


def test_interquartile_mean_is_reproducible_and_keeps_the_global_random_generator():
    np.random.seed(1)  # noqa: NPY002
    first = interquartile_mean(SCORES)
    drawn = np.random.random()  # noqa: NPY002
    shifted = interquartile_mean(SCORES + 1024)
    assert (shifted.low, shifted.high) == pytest.approx((first.low + 1024, first.high + 1024))
    np.random.seed(1)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    # The mean without the lowest and highest two of ten: (1.5 + 3 + 4 + 5.3 + 5.8 + 9) / 6.
    estimate = interquartile_mean(SCORES)
    assert estimate.middle == pytest.approx(28.6 / 6)
    assert estimate.low < estimate.middle < estimate.high


@pytest.mark.parametrize("seeds", range(1, 10))
def test_trimmed_mean_equals_scipy(seeds):
    from scipy.stats import trim_mean

    scores = np.random.default_rng(seeds).normal(size=(seeds, 6)).round(1)
    scores[-1, 1], scores[0, 2] = np.nan, np.inf
    assert np.array_equal(trimmed_mean(scores), trim_mean(scores, 0.25, axis=0), equal_nan=True)


def test_interquartile_mean_of_one_seed_has_no_interval():
    text = str(interquartile_mean([12.5]))
    assert "12.5" in text
    assert "to" not in text.split()
    assert "one seed" in text


def test_band_of_a_curve_equals_the_interval_at_each_point():
    low_noise = 100.0 + 0.1 * SCORES[::-1]
    middle, low, high = interquartile_curve(np.column_stack([SCORES, low_noise]))
    for point, scores in enumerate((SCORES, low_noise)):
        assert (middle[point], low[point], high[point]) == pytest.approx(interquartile_mean(scores))


def test_probability_of_improvement_counts_pairs_and_half_of_ties():
    # 3 is above 1 and 2 and ties with 3; 0 is above none.
    middle, low, high = probability_of_improvement([3.0, 0.0], [1.0, 2.0, 3.0])
    assert middle == pytest.approx(2.5 / 6)
    assert low == 0.0
    assert middle < high <= 1.0


@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (2, 5), (7, 4)])
def test_probability_of_improvement_equals_rliable(seeds, others):
    from rliable import metrics

    random = np.random.default_rng(seeds)
    scores, reference = random.integers(0, 4, (seeds, 1)) / 3, random.integers(0, 4, (others, 1)) / 3
    expected = metrics.probability_of_improvement(scores, reference)
    assert probability_of_improvement(scores[:, 0], reference[:, 0]).middle == expected


def test_probability_of_improvement_of_a_nan_score_is_nan():
    assert np.isnan(probability_of_improvement([1.0, 2.0, np.nan], [1.5, 2.5]).middle)
    assert np.isnan(probability_of_improvement([1.5, 2.5], [1.0, 2.0, np.nan]).middle)


def test_probability_of_improvement_is_reproducible():
    first = probability_of_improvement(SCORES, SCORES[::2])
    np.random.random()  # noqa: NPY002
    assert probability_of_improvement(SCORES, SCORES[::2]) == first
