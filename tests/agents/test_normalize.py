import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents import A2C, Reinforce
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer
from tests.naming import naming


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_reward_normalizer_resets_returns_at_episode_ends(counting, rollout_of, mode, truncates):
    # Episodes of two steps with rewards 10 and 20: at gamma 0.5 the returns are 10 and 25, again and again.
    frames = 3 if mode is AutoresetMode.NEXT_STEP else 2
    rollout = rollout_of(counting([(2, truncates)], mode), 4 * frames)
    normalizer = RewardNormalizer(num_envs=1, gamma=0.5)
    scaled = normalizer(rollout.rewards, rollout.valid, rollout.done)
    assert normalizer.moments.count == 8
    assert normalizer.moments.mean == pytest.approx(17.5)
    assert normalizer.moments.variance == pytest.approx(7.5**2)
    assert scaled[:2, 0] == pytest.approx([10 / 7.5, 20 / 7.5])


def test_reward_normalizer_is_independent_of_the_rollout_length():
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


def test_normalizer_clips_outliers():
    normalizer = RewardNormalizer(1, 0.9)
    rewards = np.array([[1.0], [-1.0], [1.0]] * 100 + [[1e4]], np.float32)
    scaled = normalizer(rewards, np.ones_like(rewards, bool), np.ones_like(rewards, bool))
    assert scaled.max() == 10.0


def test_reinforce_reward_normalizer_drops_the_return_of_an_aborted_episode(counting):
    # The short world is three steps into its next episode each time the long one ends and both begin anew.
    agent = Reinforce(
        counting([(4, False), (7, False)], AutoresetMode.SAME_STEP), gamma=1.0, normalize_reward=True
    )
    agent.learn(60)
    short, long = np.cumsum([10.0, 20.0, 30.0, 40.0]), np.cumsum(10.0 * np.arange(1, 8))
    assert agent.reward_normalizer.moments.mean == pytest.approx(np.concatenate([short, short[:3], long]).mean())


def test_agent_with_reward_normalizer_reports_unscaled_returns_and_saves_the_scale(counting, tmp_path):
    def world():
        return counting([(3, False), (4, True)])

    agent = A2C(world(), normalize_reward=True, seed=0).learn(100)
    assert {episode.ret for episode in agent.episodes} == {60.0, 100.0}
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=world())
    assert loaded.reward_normalizer.moments.variance == agent.reward_normalizer.moments.variance
    assert loaded.reward_normalizer.moments.count == agent.reward_normalizer.moments.count > 50
    assert A2C(world(), seed=0).reward_normalizer is None


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_observation_normalizer_counts_each_acted_on_observation_once(counting, mode, truncates):
    # Episodes of three steps, from observations 0, 1 and 2; 3 ends them and is never acted on.
    agent = A2C(counting([(3, truncates)], mode), n_steps=4, normalize_observation=True, seed=0)
    agent.learn(9, callback=lambda one: one.num_timesteps < 9)
    moments = agent.observation_normalizer._normalizer
    seen = np.arange(moments.count) % 3
    assert moments.count == agent.num_timesteps >= 9
    assert moments.mean == pytest.approx([seen.mean()])
    assert moments.variance == pytest.approx([seen.var()])
    expected = (np.array([[5.0]]) - seen.mean()) / seen.std()
    assert agent.observation_normalizer(np.array([[5.0]], np.float32)) == pytest.approx(expected)


def test_observation_normalizer_learns_from_the_observations_acted_on(counting):
    """Statistics move between rollouts, not within one."""
    agent = A2C(counting([(9, True)]), n_steps=4, normalize_observation=True, fused=False, seed=0)
    seen = []
    agent.policy.actor, usual = (
        lambda features: (seen.append(features.numpy()), usual(features))[1],
        agent.policy.actor,
    )
    agent.learn(4)
    rollout, _ = agent.make_trainer().collect()
    normalized = agent.observation_normalizer(rollout.observations)
    assert np.array_equal(np.stack(seen[-4:]), normalized[:-1])
    assert not np.array_equal(normalized, rollout.observations)


def test_normalizer_frozen_keeps_and_saves_statistics(counting, tmp_path):
    def world():
        return counting([(5, True), (3, False)])

    agent = A2C(world(), normalize_observation=True, normalize_reward=True, seed=0).learn(40)
    agent.observation_normalizer.frozen = agent.reward_normalizer.frozen = True
    before = agent.observation_normalizer.state_dict(), agent.reward_normalizer.moments.state_dict()
    agent.learn(40)
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=world()).learn(40)
    for one in (agent, loaded):
        now = one.observation_normalizer.state_dict(), one.reward_normalizer.moments.state_dict()
        assert now == before
    alone = A2C.load(tmp_path / "agent")
    raw = np.array([4.0], np.float32)
    scaled = (4.0 - before[0]["parts"][0]["mean"][0]) / np.sqrt(before[0]["parts"][0]["variance"][0])
    policy_sees = alone.policy(torch.tensor([[scaled]], dtype=torch.float32))[0].mode()
    assert alone.predict(raw, deterministic=True)[0] == policy_sees.item()
    assert alone.observation_normalizer(raw) == pytest.approx([scaled], rel=1e-5)


def test_observation_normalizer_of_a_dict_normalizes_each_part():
    space = gym.spaces.Dict(
        {
            "far": gym.spaces.Box(-1e3, 1e3, (2,), np.float32),
            "kind": gym.spaces.Discrete(3),
            "picture": gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
        }
    )
    normalizer = ObservationNormalizer(space)
    rng = np.random.default_rng(0)
    far = rng.normal([100.0, -5.0], [10.0, 0.1], (50, 4, 2)).astype(np.float32)
    observations = {
        "far": far,
        "kind": rng.integers(0, 3, (50, 4)),
        "picture": rng.integers(0, 255, (50, 4, 4, 4, 3), dtype=np.uint8),
    }
    normalizer.update(observations, np.ones((50, 4), bool))
    scaled = normalizer(observations)
    assert scaled["far"].mean((0, 1)) == pytest.approx([0.0, 0.0], abs=1e-3)
    assert scaled["far"].std((0, 1)) == pytest.approx([1.0, 1.0], abs=1e-3)
    assert scaled["kind"] is observations["kind"]
    assert scaled["picture"] is observations["picture"]
    with pytest.raises(ValueError, match=naming("normalize_observation", "Box")):
        ObservationNormalizer(gym.spaces.Discrete(3))
