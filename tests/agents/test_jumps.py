import math

import numpy as np
import pytest

from rl_rms.agents.jumps import JumpDetector
from rl_rms.agents.moments import RunningMeanVariance, Weighting, decaying_weights
from tests.naming import naming

WEIGHTING = Weighting(np.ones(1), 1.0, num_steps=1, num_envs=64, total=1.0)


def shown(detector, mean, variance, weighting=WEIGHTING):
    """The result of a detector for a rollout of a given mean and variance."""
    moments = RunningMeanVariance(np.shape(mean))
    moments.load_state_dict({"weight": 1.0, "mean": mean, "variance": variance})
    return detector.update(moments, weighting)


def fires(means, variance=1.0, **weighting):
    """The rollouts at which a detector fires, for given means."""
    detector, weighting, found = JumpDetector(), WEIGHTING._replace(**weighting), []
    for i, mean in enumerate(means):
        before = detector.num_jumps
        shown(detector, mean, variance, weighting)
        found += [i] if detector.num_jumps > before else []
    return found


def test_jump_detector_third_block_beyond_the_prior_fires():
    # After two blocks of mean 0 and variance 1, JumpDetector's n is 1, b is 0 and w is 1. A deviation d fires if
    # d**2 > 64 * (1 * 0 + 5 * (0 + 1) / 8) / (1 + 5) = 6.67.
    assert fires([0.0, 0.0, 2.7]) == [2]
    assert fires([0.0, 0.0, 2.5]) == []


def test_jump_detector_first_two_blocks_never_fire():
    assert fires([0.0, 100.0]) == []


def test_jump_detector_scattered_block_means_raise_the_threshold():
    scattered = [1.0, -1.0] * 50
    assert fires([*scattered, 7.0]) == []
    assert fires([0.0] * 100 + [7.0]) == [100]


def test_jump_detector_deviation_within_two_standard_deviations_does_not_fire():
    assert fires([0.0] * 200 + [1.9]) == []
    assert fires([0.0] * 200 + [2.1]) == [200]


def test_jump_detector_restarts_with_the_block_that_fires():
    assert fires([*[0.0] * 100, 5.0, 0.0, 5.0, 5.0, 5.0, 5.0]) == [100]
    assert fires([*[0.0] * 100, *[5.0] * 20, *[0.0] * 20]) == [100, 120]


def test_jump_detector_fires_if_one_coordinate_jumps():
    detector = JumpDetector((3,))
    variance = np.ones(3)
    for _ in range(20):
        assert shown(detector, np.zeros(3), variance) is None
    assert shown(detector, np.array([0.0, 0.0, 5.0]), variance) is not None
    assert detector.num_jumps == 1


def test_jump_detector_constant_values_do_not_fire():
    assert fires([0.1, 0.1 + 1e-16, 0.1] * 50, variance=0.0) == []


def test_jump_detector_constant_that_changes_fires():
    assert fires([0.1] * 20 + [0.2], variance=0.0) == [20]


def test_jump_detector_first_rare_values_of_a_constant_coordinate_do_not_fire():
    detector = JumpDetector()
    for _ in range(100):
        shown(detector, 0.0, 0.0)
    assert shown(detector, 0.05, 0.05 * 0.95) is None


def test_jump_detector_nan_block_is_ignored():
    assert fires([*[0.0] * 20, math.nan, 0.0, 5.0]) == [22]


@pytest.mark.parametrize(("num_envs", "num_steps"), [(1, 1), (1, 2048), (4, 5), (64, 1)])
def test_jump_detector_on_correlated_values_has_few_false_alarms(num_envs, num_steps):
    # Autoregressive processes with a correlation time of about 50 vector steps.
    rng = np.random.default_rng(0)
    values, present = np.empty((100_000 // num_envs, num_envs)), np.zeros(num_envs)
    for t, noise in enumerate(rng.normal(size=values.shape)):
        present = values[t] = 0.98 * present + noise
    detector, moments = JumpDetector(), RunningMeanVariance()
    for start in range(0, len(values) - num_steps, num_steps):
        weighting = decaying_weights(np.ones((num_steps, num_envs), bool), math.inf)
        detector.update(moments.update(values[start : start + num_steps].ravel(), weighting), weighting)
    assert detector.num_jumps == 0


def test_jump_detector_gathers_rollouts_until_a_block_is_full():
    # With 16 sub-environments, a block has at least 2048 / 16**2 = 8 vector steps.
    stream = [0.0] * 40 + [5.0] * 8
    assert fires(stream, num_envs=16) == [47]
    assert fires([0.0] * 10 + [5.0], num_envs=16, num_steps=9) == [10]


def test_jump_detector_gives_the_statistics_of_the_block_that_differs():
    detector = JumpDetector()
    weighting = WEIGHTING._replace(num_envs=16, num_steps=4)
    results = [shown(detector, mean, 1.0, weighting) for mean in [0.0] * 20 + [10.0, 12.0]]
    assert results[:-1] == [None] * 21
    assert (results[-1].weight, results[-1].mean, results[-1].variance) == (2.0, 11.0, 2.0)


def test_jump_detector_load_state_dict_continues_equally():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(offset, 1.0, 2), rng.random(2)) for offset in [0.0] * 30 + [9.0] * 30]
    detector, restored = JumpDetector((2,)), JumpDetector((2,))
    for mean, variance in batches[:29]:
        shown(detector, mean, variance)
    restored.load_state_dict(detector.state_dict())
    for mean, variance in batches[29:]:
        assert (shown(detector, mean, variance) is None) == (shown(restored, mean, variance) is None)
    assert detector.state_dict() == restored.state_dict()
    assert detector.num_jumps == 1


@pytest.mark.parametrize("name", ["weight", "weight_between", "between", "within"])
def test_jump_detector_load_of_a_negative_variance_names_it(name):
    state = JumpDetector((1,)).state_dict()
    state[name] = -1.0 if isinstance(state[name], float) else [-1.0]
    with pytest.raises(ValueError, match=naming(name, "-1")):
        JumpDetector((1,)).load_state_dict(state)
