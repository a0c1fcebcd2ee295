import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rl_rms.agents import A2C, Reinforce
from rl_rms.agents.normalize import RewardNormalizer


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_returns_begin_anew_with_each_episode_in_every_autoreset_mode(counting, rollout_of, mode, truncates):
    # Episodes of two steps with rewards 10 and 20: at gamma 0.5 the returns are 10 and 25, again and again.
    frames = 3 if mode is AutoresetMode.NEXT_STEP else 2
    rollout = rollout_of(counting([(2, truncates)], mode), 4 * frames)
    normalizer = RewardNormalizer(num_envs=1, gamma=0.5)
    scaled = normalizer(rollout.rewards, rollout.valid, rollout.done)
    assert normalizer.moments.count == 8
    assert normalizer.moments.mean == pytest.approx(17.5)
    assert normalizer.moments.variance == pytest.approx(7.5**2)
    assert scaled[:2, 0] == pytest.approx([10 / 7.5, 20 / 7.5])


def test_statistics_do_not_depend_on_how_rollouts_are_cut():
    rng = np.random.default_rng(0)
    rewards = rng.normal(3.0, 2.0, (12, 3)).astype(np.float32)
    done = rng.random((12, 3)) < 0.2
    valid = np.ones((12, 3), dtype=bool)
    whole, cut = RewardNormalizer(3, 0.9), RewardNormalizer(3, 0.9)
    whole(rewards, valid, done)
    for start in range(0, 12, 4):
        part = slice(start, start + 4)
        cut(rewards[part], valid[part], done[part])
    one, other = whole.moments, cut.moments
    assert (one.count, one.mean, one.variance) == pytest.approx((other.count, other.mean, other.variance))
    assert whole.returns == pytest.approx(cut.returns)


def test_outliers_are_cut_off():
    normalizer = RewardNormalizer(1, 0.9)
    rewards = np.array([[1.0], [-1.0], [1.0]] * 100 + [[1e4]], np.float32)
    scaled = normalizer(rewards, np.ones_like(rewards, bool), np.ones_like(rewards, bool))
    assert scaled.max() == 10.0


def test_reinforce_leaves_no_return_of_an_episode_that_it_breaks_off(counting):
    # The short world is three steps into its next episode each time the long one ends and both begin anew.
    agent = Reinforce(
        counting([(4, False), (7, False)], AutoresetMode.SAME_STEP), gamma=1.0, normalize_reward=True
    )
    agent.learn(60)
    short, long = np.cumsum([10.0, 20.0, 30.0, 40.0]), np.cumsum(10.0 * np.arange(1, 8))
    assert agent.reward_normalizer.moments.mean == pytest.approx(np.concatenate([short, short[:3], long]).mean())


def test_an_agent_learns_from_scaled_rewards_reports_true_ones_and_saves_the_scale(counting, tmp_path):
    def world():
        return counting([(3, False), (4, True)])

    agent = A2C(world(), normalize_reward=True, seed=0).learn(100)
    assert {episode.ret for episode in agent.episodes} == {60.0, 100.0}
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=world())
    assert loaded.reward_normalizer.moments.variance == agent.reward_normalizer.moments.variance
    assert loaded.reward_normalizer.moments.count == agent.reward_normalizer.moments.count > 50
    assert A2C(world(), seed=0).reward_normalizer is None
