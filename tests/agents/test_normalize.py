import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, PPO, Reinforce
from rl_rms.agents.config_parts import NormalizerConfig
from rl_rms.agents.metrics import read_metrics
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer, make_observation_normalizer
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step
from rl_rms.half_life import AverageHalfLife
from tests.naming import naming


def test_observation_normalizer_with_a_half_life_follows_an_offset():
    config = NormalizerConfig(half_life="100 steps")
    space = gym.spaces.Dict({"a": gym.spaces.Box(-9, 9, (1,)), "b": gym.spaces.Box(-9, 9, (1,))})
    forgets, remembers = ObservationNormalizer(space, config), ObservationNormalizer(space)
    rng = np.random.default_rng(0)
    for offset in (0.0, 5.0):
        observations = {"a": rng.normal(offset, 1.0, (500, 2, 1)), "b": rng.normal(0.0, 1.0, (500, 2, 1))}
        for normalizer in (forgets, remembers):
            normalizer.update(observations, np.ones((500, 2), bool))
    seen = {"a": np.array([5.0]), "b": np.array([0.0])}
    assert abs(forgets(seen)["a"]) < 0.3
    assert remembers(seen)["a"] > 0.8
    assert abs(forgets(seen)["b"]) < 0.3


def test_reward_normalizer_with_a_half_life_follows_the_scale_of_rewards():
    forgets, remembers = (RewardNormalizer(1, 0.0, AverageHalfLife.parse(one)) for one in ("50 steps", math.inf))
    rng = np.random.default_rng(0)
    for scale in (100.0, 1.0):
        rewards = rng.normal(0.0, scale, (1_000, 1)).astype(np.float32)
        ended = np.ones_like(rewards, bool)
        scaled = [normalizer(rewards, ended, ended) for normalizer in (forgets, remembers)]
    assert scaled[0].std() == pytest.approx(1.0, rel=0.2)
    assert scaled[1].std() < 0.1


def test_observation_normalizer_forgets_the_part_whose_mean_jumps():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-9, 9, (1,)), "b": gym.spaces.Box(-9, 9, (1,))})
    normalizer = ObservationNormalizer(space, NormalizerConfig(on_jump="forget"))
    rng = np.random.default_rng(0)
    for offset in [0.0] * 50 + [5.0]:
        rollout = {"a": rng.normal(offset, 1.0, (8, 16, 1)), "b": rng.normal(0.0, 1.0, (8, 16, 1))}
        normalizer.update(rollout, np.ones((8, 16), bool))
    jumped, other = normalizer.state_dict()["parts"]
    assert (jumped["weight"], other["weight"]) == (128, 51 * 128)
    assert jumped["mean"] == pytest.approx(rollout["a"].mean((0, 1)))
    assert jumped["variance"] == pytest.approx(rollout["a"].var((0, 1)))
    assert normalizer.num_jumps == 1


def test_frozen_normalizer_does_not_respond_to_a_jump():
    normalizer = ObservationNormalizer(gym.spaces.Box(-9, 9, (1,)), NormalizerConfig(on_jump="forget"))
    for _ in range(50):
        normalizer.update(np.zeros((8, 16, 1)), np.ones((8, 16), bool))
    normalizer.frozen = True
    before = normalizer.state_dict()
    normalizer.update(np.full((8, 16, 1), 5.0), np.ones((8, 16), bool))
    assert normalizer.state_dict() == before


def test_jumps_are_logged_and_marked(tmp_path):
    changes = {"observation.offset": Step(before=0.0, after=9.0, at=3_000)}
    agent = A2C(
        make_vec("CartPole-v1", 16, changes, seed=0),
        normalize_observation={"on_jump": "forget"},
        seed=0,
    )
    agent.learn(5_000, log_dir=tmp_path, log_interval=1)
    rows = read_metrics(tmp_path / "metrics.csv").rows
    logged = [row for row in rows if row["normalizer/jumps"]]
    counts = {int(row["time/total_timesteps"]): float(row["normalizer/jumps"]) for row in logged}
    assert counts[max(counts)] == 1
    (first, *_) = (step for step, count in counts.items() if count)
    assert 3_000 <= first <= 3_160
    keeps = A2C("CartPole-v1", normalize_observation={"on_jump": "keep"})
    assert "normalizer/jumps" not in keeps.learner.scalars(0)
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    texts = [
        (event.step, event.tensor_proto.string_val[0].decode())
        for tag in accumulator.Tags()["tensors"]
        if tag.startswith("events/changes")
        for event in accumulator.Tensors(tag)
    ]
    assert [(step, text) for step, text in texts if "observations" in text] == [
        (first, "jump of observations: forget")
    ]


def test_half_life_in_updates_decays_by_the_same_factor_in_rollouts_of_any_length():
    agent = Reinforce("CartPole-v1", normalize_observation="1 update", seed=0)
    weights, lengths = [], []

    def record(trained):
        weights.append(trained.observation_normalizer.state_dict()["parts"][0]["weight"])
        lengths.append(trained.new_episodes[0].length)

    agent.learn(200, callback=record)
    within = [sum(2.0 ** (-age / length) for age in range(length)) for length in lengths]
    expected = 0.0
    for weight, own in zip(weights, within, strict=True):
        expected = expected / 2 + own
        assert weight == pytest.approx(expected)
    assert len(set(lengths)) > 1


@pytest.mark.parametrize(
    ("observation", "reward", "logged"),
    [
        ("10_000 steps", "10_000 steps", 10_000.0),
        (3, 3, 60.0),
        ({"half_life": "2 updates"}, "2 updates", 40.0),
        (True, True, None),
        (math.inf, math.inf, None),
    ],
)
def test_half_lives_of_normalizers_are_logged_in_env_steps(observation, reward, logged):
    vector = gym.make_vec("CartPole-v1", 4, "sync", {"autoreset_mode": AutoresetMode.SAME_STEP})
    options = {"normalize_observation": observation, "normalize_reward": reward}
    agent = A2C(vector, n_steps=5, seed=0, **options).learn(40)
    scalars = agent.learner.scalars(agent.num_timesteps)
    assert scalars.get("half_life/observation") == scalars.get("half_life/reward") == logged
    assert ("observations" in agent.describe_half_life()) == (logged is not None)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_reward_normalizer_resets_returns_at_episode_ends(counting, rollout_of, mode, truncates):
    # Episodes have two steps with rewards 10 and 20, so at gamma 0.5 the returns are 10 and 25.
    frames = 3 if mode is AutoresetMode.NEXT_STEP else 2
    rollout = rollout_of(counting([(2, truncates)], mode), 4 * frames)
    normalizer = RewardNormalizer(num_envs=1, gamma=0.5)
    scaled = normalizer(rollout.rewards, rollout.valid, rollout.done)
    assert normalizer.moments.weight == 8
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
    assert (one.weight, one.mean, one.variance) == pytest.approx((other.weight, other.mean, other.variance))
    assert whole.returns == pytest.approx(cut.returns)


def test_normalizer_clips_outliers():
    normalizer = RewardNormalizer(1, 0.9)
    rewards = np.array([[1.0], [-1.0], [1.0]] * 100 + [[1e4]], np.float32)
    scaled = normalizer(rewards, np.ones_like(rewards, bool), np.ones_like(rewards, bool))
    assert scaled.max() == 10.0


def test_reinforce_reward_normalizer_drops_the_return_of_an_aborted_episode(counting):
    # When the long episode ends, both sub-environments are reset. The sub-environment with short episodes has then
    # made three steps of its second episode.
    agent = Reinforce(
        counting([(4, False), (7, False)], AutoresetMode.SAME_STEP), gamma=1.0, normalize_reward=True
    )
    agent.learn(60)
    short, long = np.cumsum([10.0, 20.0, 30.0, 40.0]), np.cumsum(10.0 * np.arange(1, 8))
    assert agent.reward_normalizer.moments.mean == pytest.approx(np.concatenate([short, short[:3], long]).mean())


def test_agent_with_reward_normalizer_reports_unscaled_returns_and_saves_the_scale(counting, tmp_path):
    def make_env():
        return counting([(3, False), (4, True)])

    agent = A2C(make_env(), normalize_reward=True, seed=0).learn(100)
    assert {episode.ret for episode in agent.episodes} == {60.0, 100.0}
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make_env())
    assert loaded.reward_normalizer.moments.variance == agent.reward_normalizer.moments.variance
    assert loaded.reward_normalizer.moments.weight == agent.reward_normalizer.moments.weight > 50
    assert A2C(make_env(), normalize_reward=False, seed=0).reward_normalizer is None


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_observation_normalizer_counts_each_acted_on_observation_once(counting, mode, truncates):
    # Episodes have three steps from observations 0, 1 and 2. No action follows the final observation 3.
    agent = A2C(counting([(3, truncates)], mode), n_steps=4, normalize_observation=True, seed=0)
    agent.learn(9, callback=lambda one: one.num_timesteps < 9)
    (moments,) = agent.observation_normalizer.state_dict()["parts"]
    seen = np.arange(moments["weight"]) % 3
    assert moments["weight"] == agent.num_timesteps >= 9
    assert moments["mean"] == pytest.approx([seen.mean()])
    assert moments["variance"] == pytest.approx([seen.var()])
    expected = (np.array([[5.0]]) - seen.mean()) / seen.std()
    assert agent.observation_normalizer(np.array([[5.0]], np.float32)) == pytest.approx(expected)


def test_observation_normalizer_learns_from_the_observations_acted_on(counting):
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
    def make_env():
        return counting([(5, True), (3, False)])

    agent = A2C(make_env(), normalize_observation=True, normalize_reward=True, seed=0).learn(40)
    agent.observation_normalizer.frozen = agent.reward_normalizer.frozen = True
    before = agent.observation_normalizer.state_dict(), agent.reward_normalizer.moments.state_dict()
    agent.learn(40)
    loaded = A2C.load(agent.save(tmp_path / "agent"), env=make_env()).learn(40)
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


IMAGE = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
NOTHING_TO_NORMALIZE = [
    gym.spaces.Discrete(3),
    IMAGE,
    gym.spaces.Box(-1.0, 1.0, (2, 0)),
    gym.spaces.Dict({"kind": gym.spaces.Discrete(3), "picture": IMAGE}),
]


@pytest.mark.parametrize("space", NOTHING_TO_NORMALIZE, ids=["categories", "image", "empty", "dict"])
def test_half_life_for_a_space_with_nothing_to_normalize_raises(space):
    assert make_observation_normalizer(space, True) is None
    with pytest.raises(ValueError, match=naming("normalize_observation", "Box", str(space), "true", "false")):
        make_observation_normalizer(space, "690 steps")
    with pytest.raises(ValueError, match=naming("normalize_observation", "Box")):
        make_observation_normalizer(space, NormalizerConfig(on_jump="keep"))
    assert make_observation_normalizer(space, False) is None


@pytest.mark.parametrize("algorithm", [A2C, PPO, Reinforce])
def test_agent_with_default_arguments_normalizes_observations_with_jumps_and_rewards(algorithm):
    agent = algorithm("CartPole-v1")
    assert agent.observation_normalizer.num_jumps == 0
    assert agent.observation_normalizer.half_life == agent.reward_normalizer.half_life == math.inf
    assert agent.learner.scaling.num_jumps == 0


class Picture(gym.Env):
    """Random images; episodes of three steps."""

    observation_space = IMAGE
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.image(), {}

    def step(self, action):
        self.steps += 1
        return self.image(), float(action), self.steps == 3, False, {}

    def image(self):
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


@pytest.mark.parametrize("env", ["FrozenLake-v1", Picture()], ids=["categories", "image"])
def test_agent_with_default_arguments_leaves_categories_and_images_unchanged(env):
    agent = A2C(env, seed=0).learn(20)
    assert agent.observation_normalizer is None
    assert agent.learner.scaling.num_jumps is None
    assert agent.reward_normalizer.moments.weight >= 20
    with pytest.raises(ValueError, match=naming("normalize_observation", "Box")):
        A2C(env, normalize_observation="690 steps")
