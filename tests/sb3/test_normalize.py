import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, sync_envs_normalization
from stable_baselines3.common.vec_env import VecNormalize as TheirVecNormalize

from rl_rms.envs.schedules import Step
from rl_rms.sb3 import VecNormalize, make_vec_env
from tests.naming import naming


class Scripted(gym.Env):
    """Gaussian observations with the mean 0 before the step ``jump_at``, and 5 from this step on.

    The mean of the rewards jumps from 0 to 50.
    """

    observation_space = gym.spaces.Dict({name: gym.spaces.Box(-99, 99, (2,)) for name in ("seen", "raw")})
    action_space = gym.spaces.Discrete(2)

    def __init__(self, seed=0, jump_at=10**9):
        self.jump_at, self.steps, self.rng = jump_at, 0, np.random.default_rng(seed)

    @property
    def mean(self):
        return 5.0 if self.steps >= self.jump_at else 0.0

    def observation(self):
        return {name: self.rng.normal(self.mean, 1.0, 2).astype(np.float32) for name in ("seen", "raw")}

    def reset(self, *, seed=None, options=None):
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        return self.observation(), 10.0 * self.mean + float(self.rng.normal()), False, self.steps % 20 == 0, {}


def scripted(num_envs=4, **arguments):
    return DummyVecEnv([lambda seed=seed: Scripted(seed, **arguments) for seed in range(num_envs)])


def play(env, steps):
    """Observations, rewards and terminal observations under random actions."""
    env.seed(0)
    rng, seen = np.random.default_rng(1), [env.reset()]
    for _ in range(steps):
        observations, rewards, _, infos = env.step(rng.integers(0, 2, env.num_envs))
        seen += [observations, rewards, *(info["terminal_observation"] for info in infos if "TimeLimit" in info)]
    return seen


def assert_equal(one, other):
    for own, expected in zip(one, other, strict=True):
        for key in own if isinstance(own, dict) else [...]:
            np.testing.assert_allclose(own[key], expected[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: make_vec_env("CartPole-v1", 3, seed=0), lambda: scripted(3)])
def test_vec_normalize_with_infinite_half_life_equals_stable_baselines3(make):
    assert_equal(play(VecNormalize(make()), 60), play(TheirVecNormalize(make()), 60))


def test_vec_normalize_with_norm_obs_keys_leaves_other_keys():
    arguments = {"norm_obs_keys": ["seen"], "norm_reward": False}
    ours = play(VecNormalize(scripted(), half_life="9 steps", **arguments), 30)
    theirs = play(TheirVecNormalize(scripted(), **arguments), 30)
    np.testing.assert_array_equal(ours[-2]["raw"], theirs[-2]["raw"])
    assert not np.allclose(ours[-2]["seen"], theirs[-2]["seen"])
    np.testing.assert_array_equal(ours[-1], theirs[-1])


def test_vec_normalize_with_a_half_life_follows_a_jump():
    env = VecNormalize(scripted(jump_at=100), half_life="100 steps", norm_obs_keys=["seen"])
    play(env, 300)
    assert env.obs_rms["seen"].mean == pytest.approx([5.0, 5.0], abs=0.5)
    assert env.obs_rms["seen"].count < 150
    assert env.ret_rms.count < 150


def test_vec_normalize_forgets_at_a_jump():
    env = VecNormalize(scripted(num_envs=16, jump_at=100), on_jump="forget")
    play(env, 120)
    assert env.num_jumps == 2
    for one in env.obs_rms.values():
        # The block in which the detector fires also has a few values from before the jump.
        assert one.mean == pytest.approx([5.0, 5.0], abs=1.0)
        assert one.count < 400
    # The rewards jump too, but their statistics never forget.
    assert env.ret_rms.count > 1_900
    env.norm_obs = False
    assert env.num_jumps == 2


def test_vec_normalize_with_statistics_of_stable_baselines3_has_no_jumps():
    env = VecNormalize(scripted(), on_jump="forget")
    sync_envs_normalization(TheirVecNormalize(scripted()), env)
    assert env.num_jumps == 0


def test_vec_normalize_that_does_not_train_keeps_its_statistics():
    env = VecNormalize(scripted(num_envs=16, jump_at=50), half_life="100 steps", on_jump="forget")
    play(env, 40)
    env.training = False
    before = {key: (one.mean.copy(), one.count) for key, one in env.obs_rms.items()}
    play(env, 40)
    for key, (mean, count) in before.items():
        np.testing.assert_array_equal(env.obs_rms[key].mean, mean)
        assert env.obs_rms[key].count == count


def test_vec_normalize_loaded_from_a_file_continues_identically(tmp_path):
    env = VecNormalize(scripted(num_envs=16), half_life="500 steps", on_jump="forget")
    play(env, 40)
    env.save(str(tmp_path / "statistics.pkl"))
    loaded = VecNormalize.load(str(tmp_path / "statistics.pkl"), scripted(num_envs=16, jump_at=30))
    again = VecNormalize.load(str(tmp_path / "statistics.pkl"), scripted(num_envs=16, jump_at=30))
    assert_equal(play(loaded, 60), play(again, 60))
    assert loaded.num_jumps == again.num_jumps == 2
    assert loaded.ret_rms.count < 800
    np.testing.assert_array_equal(env.obs_rms["seen"].copy().mean, env.obs_rms["seen"].mean)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_vec_normalize_trains_stable_baselines3(algorithm):
    changes = {"observation.offset": Step(before=0.0, after=9.0, at=200)}
    env = VecNormalize(make_vec_env("Pendulum-v1", 4, changes, seed=0), half_life="1_000 steps", on_jump="forget")
    options = {"n_steps": 32, "batch_size": 32} if algorithm is PPO else {"learning_starts": 50}
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **options).learn(300)
    assert model.num_timesteps >= 300
    assert env.obs_rms.mean[0] > 0.5
    env.close()


@pytest.mark.parametrize("half_life", [69, "69 updates", 0, "match", None])
def test_vec_normalize_half_life_that_is_not_in_env_steps_is_refused_by_name(half_life):
    with pytest.raises((TypeError, ValueError), match=naming("half_life", "steps")):
        VecNormalize(scripted(), half_life=half_life)


def test_vec_normalize_unknown_response_to_jumps_is_refused_by_name():
    with pytest.raises(ValueError, match=naming("on_jump", "forget", "'reset'")):
        VecNormalize(scripted(), on_jump="reset")


def test_vec_normalize_refuses_a_file_of_stable_baselines3(tmp_path):
    env = make_vec_env("CartPole-v1", 1)
    TheirVecNormalize(env).save(tmp_path / "statistics.pkl")
    with pytest.raises(ValueError, match=naming("statistics.pkl", "rl_rms.sb3.VecNormalize", "stable_baselines3")):
        VecNormalize.load(tmp_path / "statistics.pkl", env)
