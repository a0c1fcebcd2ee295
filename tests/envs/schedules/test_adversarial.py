import numpy as np
import pytest

from rl_rms.envs.schedules import AdversarialBurst, Key, PiecewiseConstant, Schedule
from tests.naming import naming

KEY = Key(seed=7, stream=3)


def burst(**changed):
    return AdversarialBurst(
        **{"base": 0.0, "low": -1.0, "high": 2.0, "threshold": 100.0, "duration": 3, **changed}
    )


def test_values_are_the_bound_for_the_duration_of_each_strike():
    schedule = burst().strike(2, -1.0).strike(5, 2.0)
    assert schedule.values(np.arange(10), KEY).tolist() == [0, 0, -1, -1, -1, 2, 2, 2, 0, 0]
    assert schedule.value(5, KEY) == 2.0
    assert schedule.bounds == (-1.0, 2.0)
    assert schedule.timescale == 3


def test_strike_does_not_change_the_schedule():
    calm = burst()
    calm.strike(2, -1.0)
    assert calm.strikes == ()


def test_replay_has_the_same_values_and_ignores_returns():
    schedule = burst().strike(0, -1.0).strike(6, 2.0)
    replay = schedule.replay()
    assert isinstance(replay, PiecewiseConstant)
    clocks = np.arange(12)
    assert replay.values(clocks, KEY).tolist() == schedule.values(clocks, KEY).tolist()
    assert burst().replay().values(clocks, KEY).tolist() == [0.0] * 12


def test_calm_from_is_the_end_of_the_rest_period():
    assert burst(rest=10).calm_from == 0
    assert burst(rest=10).strike(4, 2.0).calm_from == 4 + 3 + 10


def test_events_are_beginnings_and_ends_of_bursts_within_the_interval():
    schedule = burst().strike(2, -1.0).strike(5, 2.0)
    assert schedule.events(0, 9, KEY).tolist() == [2, 5, 8]
    assert schedule.events(2, 5, KEY).tolist() == [5]


def test_from_config_of_to_config_is_equal():
    schedule = burst(window=5).strike(2, -1.0)
    assert Schedule.from_config(schedule.to_config()) == schedule


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: burst(base=5.0), ["base", "low=-1", "high=2"]),
        (lambda: burst(low=0.0, high=0.0), ["low=0", "high=0"]),
        (lambda: burst(duration=0), ["duration", ">= 1 env steps", "0"]),
        (lambda: burst(window=0), ["window", ">= 1 episodes", "0"]),
        (lambda: burst(rest=-1), ["rest", ">= 0 env steps", "-1"]),
        (lambda: burst(threshold=float("nan")), ["threshold", "nan"]),
        (lambda: burst().strike(2, 0.5), ["strikes", "low", "high", "0.5"]),
        (lambda: burst().strike(2, 2.0).strike(4, 2.0), ["strikes", "overlap"]),
        (lambda: burst().strike(2.5, 2.0), ["strikes", "2.5"]),
        (lambda: burst(strikes=[2]), ["strikes", "[2]"]),
    ],
)
def test_wrong_argument_is_named(make, named):
    with pytest.raises(ValueError, match=naming("AdversarialBurst", *named)):
        make()
