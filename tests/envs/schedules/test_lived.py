"""Schedules as an environment lives them: whatever the policy does, at their own pace."""

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import NonStationary
from rl_rms.envs.schedules import (
    Burst,
    Key,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    RandomWalk,
    Trace,
    stream_of,
)


def live(changes, steps, policy_seed):
    """Parameters and regimes before each step and after the last, under a random policy."""
    env = NonStationary(gym.make("CartPole-v1"), changes, seed=0)
    env.action_space.seed(policy_seed)
    _, info = env.reset(seed=policy_seed)
    told, regimes = [env.parameters], [info["rl_rms.regime"]]
    episodes = 0
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        told.append(env.parameters)
        regimes.append(info["rl_rms.regime"])
        if terminated or truncated:
            episodes += 1
            env.reset()
    env.close()
    assert episodes > 10
    return told, regimes


@pytest.mark.parametrize("policy_seed", [0, 1])
def test_one_more_every_50_steps_is_40_more_after_2000_steps(policy_seed):
    stairs = PiecewiseConstant([(50 * step, 9.8 + step) for step in range(41)])
    told, regimes = live({"gravity": stairs}, 2_000, policy_seed)
    assert told[-1]["gravity"] - told[0]["gravity"] == pytest.approx(40)
    assert [one["gravity"] for one in told[::50]] == pytest.approx([9.8 + step for step in range(41)])
    assert regimes[::50] == list(range(41))


@pytest.mark.parametrize("policy_seed", [0, 1])
def test_20000_steps_at_rate_1_in_100_have_200_events(policy_seed):
    # Poisson: 200 with standard deviation 14.
    _, regimes = live({"gravity": PoissonJumps(low=5, high=15, mean_dwell=100)}, 20_000, policy_seed)
    assert regimes[-1] == pytest.approx(200, abs=3 * 200**0.5)


def test_drift_is_what_the_schedules_say_in_any_company():
    changes = {
        "gravity": RandomWalk(9.8, std=0.1, low=5, high=15),
        "length": OrnsteinUhlenbeck(0.5, 0.05, tau=500).clip(low=0.1),
        "masspole": Markov([0.1, 0.5], mean_dwell=300) * Burst(1, 2, duration=20, rate=0.01),
        "force_mag": Trace([10, -10, 5], every=100, end="repeat"),
    }
    told, regimes = live(changes, 6_000, policy_seed=0)
    jumps = set()
    for target, schedule in changes.items():
        key = Key(0, stream_of(target))
        assert [one[target] for one in told] == schedule.values(np.arange(6_001), key).tolist()
        jumps |= set(schedule.events(0, 6_000, key).tolist())
    assert regimes == [sum(jump <= t for jump in jumps) for t in range(6_001)]
