import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, A2CConfig, PolicyConfig
from rl_rms.agents.adversarial import RobustTraining, Side
from rl_rms.agents.evaluation import evaluate
from rl_rms.envs.pushes import PushedCartPole
from tests.naming import naming


class Recorded(gym.vector.VectorWrapper):
    """Records the pairs of actions of both players."""

    def __init__(self, env):
        super().__init__(env)
        self.pairs = []

    def step(self, actions):
        self.pairs.append(actions)
        return self.env.step(actions)


@pytest.mark.parametrize("player", [0, 1])
def test_side_sets_its_action_and_returns_its_reward(player):
    seen = []

    def rival(observations):
        seen.append(observations.copy())
        return np.array([1, 0]) if player == 1 else np.array([[0.5], [-0.5]])

    env = Recorded(PushedCartPole(2))
    side = Side(env, player, rival)
    assert side.single_action_space == env.single_action_space[player]
    first, _ = side.reset(seed=0)
    own = np.array([0, 1]) if player == 0 else np.array([[1.0], [-1.0]])
    second, rewards, *_ = side.step(own)
    side.step(own)
    assert np.array_equal(env.pairs[0][player], own)
    assert np.array_equal(env.pairs[0][1 - player], rival(first))
    assert all(np.array_equal(one, other) for one, other in zip(seen, (first, second), strict=False))
    assert rewards.tolist() == ([1.0, 1.0] if player == 0 else [-1.0, -1.0])


def test_side_env_with_one_player_raises():
    with pytest.raises(ValueError, match=naming("env", "Tuple", "Discrete")):
        Side(gym.make_vec("CartPole-v1", 2), 0, lambda _: None)


def weights(agent):
    return torch.cat([param.detach().flatten().clone() for param in agent.policy.parameters()])


def make():
    return PushedCartPole(4, strength=0.1)


@pytest.mark.parametrize("turns", ["simultaneous", "alternating"])
def test_adversary_plays_against_the_old_or_the_new_protagonist(turns):
    training = RobustTraining(make, turns=turns, turn=100, seed=3)
    before = weights(training.protagonist), weights(training.adversary)
    training.learn(100)
    after = weights(training.protagonist), weights(training.adversary)
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    met = [weights(shown) for shown in training.rivals]
    assert torch.equal(met[0], after[0] if turns == "alternating" else before[0])
    assert torch.equal(met[1], before[1])
    # In the next round the protagonist plays against the updated adversary.
    training.learn(100)
    assert torch.equal(weights(training.rivals[1]), after[1])


def test_robust_training_same_seed_gives_same_weights_and_env_steps():
    one, other = (RobustTraining(make, turn=60, seed=1).learn(150) for _ in range(2))
    assert one.protagonist.num_timesteps >= 150
    assert one.adversary.num_timesteps >= 150
    assert torch.equal(weights(one.protagonist), weights(other.protagonist))
    assert torch.equal(weights(one.adversary), weights(other.adversary))


def balance(observations):
    return (observations @ np.array([0.1, 0.5, 3.0, 1.0]) > 0).astype(np.int64)


def test_robust_training_adversary_learns_the_harmful_push():
    config = A2CConfig(learning_rate=1e-2, n_steps=8, gae_lambda=0.95, normalize_advantage=True)
    adversary = A2C(Side(PushedCartPole(16, strength=0.2), 1, balance), config=config, seed=0)
    env = Side(PushedCartPole(16, strength=0.2), 1, balance)
    before = evaluate(adversary, env, 16, deterministic=False, seed=1).mean_reward
    after = evaluate(adversary.learn(20_000), env, 16, deterministic=False, seed=1).mean_reward
    assert before < -150
    assert after > 0.6 * before


def test_rival_gets_observations_with_its_own_normalization():
    config = A2CConfig(normalize_observation=True)
    training = RobustTraining(make, protagonist=config, turn=50, turns="alternating").learn(50)
    observations = np.array([[1.0, -2.0, 0.1, 0.5]], dtype=np.float32)
    shown, own = training.rivals[0], training.protagonist
    assert shown.observation_normalizer(observations) == pytest.approx(own.observation_normalizer(observations))
    assert shown.observation_normalizer(observations) != pytest.approx(observations)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns": "by chance"}, ["turns", "simultaneous", "alternating", "'by chance'"]),
        ({"turn": 0}, ["turn", "0"]),
        (
            {"adversary": A2CConfig(policy=PolicyConfig(recurrent="gru"))},
            ["adversary", "'gru'"],
        ),
    ],
)
def test_robust_training_with_a_wrong_argument_names_it(options, message):
    with pytest.raises(ValueError, match=naming(*message)):
        RobustTraining(make, **options)
    with pytest.raises(ValueError, match=naming("total_timesteps", "0")):
        RobustTraining(make).learn(0)
