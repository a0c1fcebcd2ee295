import numpy as np
import pytest

from rl_rms.envs.curricula import (
    DomainRandomization,
)


def test_domain_randomization_covers_its_ranges_evenly():
    curriculum = DomainRandomization({"length": [0.5, 1.5], "gravity": {"values": [1, 2, 4]}})
    tasks = [curriculum.task(0) for _ in range(3_000)]
    lengths = np.array([task["length"] for task in tasks])
    assert np.histogram(lengths, bins=4, range=(0.5, 1.5))[0] == pytest.approx([750] * 4, rel=0.15)
    values, counts = np.unique([task["gravity"] for task in tasks], return_counts=True)
    assert values.tolist() == [1, 2, 4]
    assert counts == pytest.approx([1_000] * 3, rel=0.15)
