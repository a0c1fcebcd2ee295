import json

import numpy as np
import pytest

from rl_rms.envs import NonStationary, NonStationaryVector
from rl_rms.envs.adversary import Adversary
from rl_rms.envs.schedules import AdversarialBurst, Key
from tests.naming import naming

KEY = Key(seed=0)


def burst(**changed):
    return AdversarialBurst(
        **{
            "base": 1.0,
            "low": 0.0,
            "high": 3.0,
            "threshold": 10.0,
            "duration": 4,
            "window": 2,
            "rest": 3,
            **changed,
        }
    )


def test_adversary_strikes_at_the_threshold_with_the_worse_bound():
    adversary = Adversary(burst())
    assert not adversary.record(10, 9.0)
    assert not adversary.record(11, 10.0)  # the mean of 9 and 10 is below the threshold
    assert adversary.record(12, 10.0)
    assert not adversary.record(14, 6.0)
    assert not adversary.record(16, 8.0)
    assert not adversary.record(17, 20.0)
    assert not adversary.record(18, 20.0)
    assert adversary.record(19, 20.0)
    assert not adversary.record(22, 7.5)
    assert not adversary.record(30, 20.0)
    assert adversary.record(31, 20.0)
    assert adversary.schedule.strikes == ((12, 0.0), (19, 3.0), (31, 0.0))


def test_adversary_one_sided_strikes_at_that_side():
    adversary = Adversary(burst(low=1.0, window=1, rest=0))
    assert [adversary.record(clock, 10.0) for clock in (5, 20, 40)] == [True, True, True]
    assert {value for _, value in adversary.schedule.strikes} == {3.0}


def test_adversary_ignores_other_episodes_that_end_in_the_step_before_a_burst():
    adversary = Adversary(burst(window=1, rest=0))
    assert adversary.record(10, 10.0)
    assert not adversary.record(10, 50.0)  # another sub-environment
    assert not adversary.record(12, 5.0)
    assert adversary.record(20, 10.0)
    assert not adversary.record(22, 6.0)
    assert adversary.record(30, 10.0)
    # The mean return of the bursts at 0 is 5, and the mean return of the bursts at 3 is 6.
    assert adversary.schedule.strikes == ((10, 0.0), (20, 3.0), (30, 0.0))


def test_state_dict_goes_through_json():
    one, other = Adversary(burst()), Adversary(burst())
    for clock, ret in ((10, 10.0), (11, 10.0), (13, 4.0), (20, 10.0)):
        one.record(clock, ret)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for clock, ret in ((21, 10.0), (23, 1.0), (30, 10.0), (31, 10.0), (40, 10.0), (41, 10.0)):
        assert one.record(clock, ret) == other.record(clock, ret)
    assert one.schedule == other.schedule
    assert len(one.schedule.strikes) == 4


def test_replay_in_an_environment_repeats_the_bursts(probe):
    # Episodes have five transitions with the level as reward, so returns are 5 at rest, and 15 or 0 in a burst.
    env = NonStationary(probe(), {"level": burst(threshold=5.0, duration=10, window=2, rest=0)})
    env.reset(seed=0)
    rewards = []
    for _ in range(50):
        _, reward, terminated, *_ = env.step(None)
        rewards.append(reward)
        if terminated:
            env.reset()
    # The episodes that end at clock 10 and clock 30 start bursts.
    assert rewards == [1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [3.0] * 10 + [1.0] * 10
    replayed = NonStationary(probe(), {"level": env.schedules["level"].replay()})
    replayed.reset(seed=0)
    again = []
    for _ in range(50):
        again.append(replayed.step(None)[1])
        if len(again) % 5 == 0:
            replayed.reset()
    assert again == rewards
    assert env.regime == replayed.regime == 5
    assert env.oracle(0, 50)["level"].tolist() == rewards
    # A reset with a seed restarts the adversary.
    env.reset(seed=0)
    assert env.schedules["level"].strikes == ()


def test_adversary_in_a_frozen_environment_does_not_strike(probe):
    env = NonStationary(probe(), {"level": burst(threshold=5.0, window=1)})
    env.reset(seed=0)
    with env.frozen():
        for _ in range(3):
            env.reset()
            assert [env.step(None)[1] for _ in range(5)] == [1.0] * 5
    assert env.schedules["level"].strikes == ()


def test_adversary_of_a_vector_sees_all_episodes(probes):
    env = NonStationaryVector(probes([2, 3]), {"level": burst(threshold=2.0, duration=4, window=1, rest=0)})
    env.reset(seed=0)
    rewards = [env.step(np.zeros((2, 2), np.float32))[1].tolist() for _ in range(5)]
    # The first episode ends at clock 4. Reset frames do not count, so the burst of 4 env steps has 3 vector steps.
    assert rewards == [[1, 1], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert env.schedules["level"].strikes[0] == (4, 0.0)
    with pytest.raises(ValueError, match=naming("sharing='shared'", "'independent'")):
        NonStationaryVector(probes([2, 3]), {"level": burst()}, sharing="independent")


def test_adversary_inside_another_schedule_names_the_target(probe):
    with pytest.raises(ValueError, match=naming("adversarial_burst", "whole schedule", "replay()")):
        NonStationary(probe(), {"level": burst() + 1.0})
