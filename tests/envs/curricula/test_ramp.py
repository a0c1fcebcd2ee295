import pytest

from rl_rms.envs.curricula import (
    LinearRamp,
)


def test_linear_ramp_moves_in_a_straight_line():
    ramp = LinearRamp({"length": 1.0, "gravity": 0.0}, {"length": 0.5, "gravity": 10.0}, over=100)
    seen = []
    for _ in range(6):
        seen.append(ramp.task(0))
        ramp.record(0.0, 25, 0)
    assert [one["length"] for one in seen] == [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    assert [one["gravity"] for one in seen] == [0, 2.5, 5, 7.5, 10, 10]
    assert ramp.difficulty == 1.0


def test_linear_ramp_timescale_is_the_mean_episode_until_its_end():
    ramp = LinearRamp({"length": 1.0}, {"length": 0.5}, over=100)
    scales = []
    for length in (20, 30, 50, 40, 60):
        ramp.task(0)
        ramp.record(0.0, length, 0)
        scales.append(ramp.timescale)
    assert scales == pytest.approx([20, 0.7 * 20 + 0.3 * 30, 0.7 * 23 + 0.3 * 50, 40, 100])


def test_linear_ramp_with_a_constant_target_keeps_it_despite_rounding():
    ramp = LinearRamp({"goal_position": 0.6, "force": 0.0}, {"goal_position": 0.6, "force": 1.0}, over=97)
    for _ in range(97):
        assert ramp.task(0)["goal_position"] == 0.6
        ramp.record(0.0, 1, 0)
