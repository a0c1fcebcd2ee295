"""Tests of schedules, made from a table of cases."""

import numpy as np
import pytest

from rl_rms.envs.schedules import Key
from tests.naming import naming

KEY = Key(seed=7, stream=3)


def values_test(*cases):
    """Test the values of a schedule at some clocks."""

    @pytest.mark.parametrize(("schedule", "clocks", "expected"), cases)
    def test(schedule, clocks, expected):
        assert schedule.values(np.array(clocks), KEY) == pytest.approx(expected, abs=1e-12)
        assert schedule.value(clocks[-1], KEY) == pytest.approx(expected[-1], abs=1e-12)

    return test


def timescale_test(*cases):
    """Test the timescale and the amplitude of a schedule."""

    @pytest.mark.parametrize(("schedule", "timescale", "amplitude"), cases, ids=repr)
    def test(schedule, timescale, amplitude):
        assert schedule.timescale == pytest.approx(timescale)
        assert schedule.amplitude == pytest.approx(amplitude)

    return test


def decay_test(*schedules):
    """Test the timescale of a schedule against the autocovariance of its values."""

    @pytest.mark.parametrize("schedule", schedules, ids=repr)
    def test(schedule):
        values = schedule.values(np.arange(2_000_000), KEY)
        change = np.mean(np.diff(values) ** 2)
        # 1 - correlation at lag 1 is 1/tau or 1 - exp(-1/tau). The relative difference of these two values is
        # about 1 / (2 tau).
        assert 2 * values.var() / change == pytest.approx(schedule.timescale, rel=0.04)

    return test


def error_test(*cases):
    """Test that a wrong argument raises an error that names it."""

    @pytest.mark.parametrize(("make", "said"), cases)
    def test(make, said):
        with pytest.raises(ValueError, match=naming(*said)):
            make()

    return test
