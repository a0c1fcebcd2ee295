import math

import numpy as np
import pytest

from rl_rms.envs import noise
from rl_rms.envs.noise import NoiseKey


def noise_key(clocks, seed=3, indices=None):
    indices = tuple(range(len(clocks))) if indices is None else indices
    return NoiseKey(seed, indices, indices, tuple(clocks))


def test_noise_is_independent_of_the_batch():
    clocks, first = (7, 9, 7, 2**40), (False, False, True, False)
    for draw in (noise.normals, noise.uniforms):
        for size in (1, 3, 8):
            batch = draw("a", noise_key(clocks), size, first)
            assert batch.shape == (4, size)
            for i in range(4):
                alone = draw("a", noise_key(clocks[i : i + 1], indices=(i,)), size, first[i : i + 1])
                assert alone[0].tolist() == batch[i].tolist()


def test_noise_differs_between_clocks_environments_lanes_targets_and_seeds():
    drawn = [
        noise.normals(target, noise_key([clock], seed, (index,)), 1, [first])[0, 0]
        for target in ("a", "b")
        for seed in (0, 1)
        for clock in (0, 1, 2)
        for index in (0, 1, 5)
        for first in (False, True)
    ]
    drawn += [noise.vector("a", 0, drift, number, 1)[0] for drift in (0, 1) for number in (0, 1)]
    assert len(set(drawn)) == 2 * 2 * 3 * 3 * 2 + 4


def test_normals_are_independent_and_standard_normal():
    drawn = np.concatenate([noise.normals("a", noise_key([t] * 50), 4, [False] * 50) for t in range(500)])
    n = len(drawn)
    assert np.abs(drawn.mean(axis=0)).max() < 4 / math.sqrt(n)
    assert np.abs(np.cov(drawn.T) - np.eye(4)).max() < 5 * math.sqrt(2 / n)
    # A share of 0.0455 of standard normal values lies beyond two standard deviations.
    assert (np.abs(drawn) > 2).mean() == pytest.approx(0.0455, abs=4 * math.sqrt(0.0455 / drawn.size))
    successive = (drawn[:-1, 0] * drawn[1:, 0]).mean()
    assert abs(successive) < 4 / math.sqrt(n)


def test_permutations_are_uniform_and_number_0_is_the_identity():
    assert noise.permutation("a", 3, 2, 0, 5).tolist() == [0, 1, 2, 3, 4]
    drawn = [tuple(noise.permutation("a", 3, 0, number, 3).tolist()) for number in range(1, 1201)]
    counts = [drawn.count(one) for one in set(drawn)]
    assert len(counts) == 6
    assert min(counts) > 200 - 4 * math.sqrt(200)
    assert noise.permutation("a", 3, 1, 1, 20).tolist() != noise.permutation("a", 3, 0, 1, 20).tolist()
