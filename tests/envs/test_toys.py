import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import NonStationary
from rl_rms.envs.schedules import Step
from rl_rms.envs.toys import GaussianBandit, TwoStates
from tests.naming import naming


def test_bandit_rewards_have_the_means_of_the_arms():
    env = GaussianBandit(num_arms=4, noise=0.5)
    env.reset(seed=0)
    rewards = np.array([[env.step(arm)[1] for _ in range(4_000)] for arm in range(4)])
    assert rewards.mean(1) == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.04)
    assert rewards.std(1) == pytest.approx([0.5] * 4, rel=0.05)


def test_bandit_means_drift():
    env = NonStationary(
        GaussianBandit(num_arms=2, noise=0.0), {"mean_0": Step(before=0.0, after=5.0, at=1)}, seed=0
    )
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(3)] == [0.0, 5.0, 5.0]
    assert env.unwrapped.optimal_reward() == 5.0


def test_values_equal_hand_computed_values():
    # Going from state 0 to state 1 and staying there gives 1 + gamma + gamma**2 + ... = 10.
    env = TwoStates()
    assert env.values([[0, 1], [1, 0]], gamma=0.9) == pytest.approx([10, 10])
    # Staying gives 0 per step in state 0, and 1 per step in state 1.
    assert env.values([[1, 0], [1, 0]], gamma=0.9) == pytest.approx([0, 10])
    # A random policy is in state 1 after half of the transitions, from either state.
    assert env.values([[0.5, 0.5], [0.5, 0.5]], gamma=0.9) == pytest.approx([5, 5])


def test_values_equal_simulated_returns():
    env = TwoStates(reward_0=-0.5, reward_1=2.0, slip=0.2)
    policy, gamma = np.array([[0.3, 0.7], [0.9, 0.1]]), 0.5
    rng = np.random.default_rng(0)
    returns = {0: [], 1: []}
    env.reset(seed=1)
    for _ in range(4_000):
        env.reset()
        start = env.state
        rewards = [env.step(int(rng.random() < policy[env.state, 1]))[1] for _ in range(20)]
        returns[start].append(np.dot(rewards, gamma ** np.arange(20)))
    assert [np.mean(returns[state]) for state in (0, 1)] == pytest.approx(env.values(policy, gamma), abs=0.06)


@pytest.mark.parametrize(("rewards", "best"), [((0.0, 1.0), [1, 0]), ((1.0, 0.0), [0, 1])])
def test_optimal_policy_reverses_with_the_rewards(rewards, best):
    assert TwoStates(*rewards).optimal_policy(0.9).tolist() == best
    assert TwoStates(*rewards, slip=0.9).optimal_policy(0.9).tolist() == [1 - action for action in best]


@pytest.mark.parametrize(
    "make", [lambda: GaussianBandit(0), lambda: GaussianBandit(noise=-1.0), lambda: TwoStates(slip=2.0)]
)
def test_constructor_with_a_wrong_argument_names_it(make):
    with pytest.raises(ValueError, match="num_arms|noise|slip"):
        make()


def test_schedule_out_of_the_bounds_of_slip_is_named():
    with pytest.raises(ValueError, match=naming("'slip'", "<= 1", "1.5")):
        NonStationary(TwoStates(), {"slip": 1.5})


@pytest.mark.parametrize("env", [GaussianBandit(), TwoStates()])
def test_env_checker_passes(env):
    gym.utils.env_checker.check_env(env, skip_render_check=True)
