import numpy as np

from rl_rms.envs.draws import Draws
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.reward_transform import RewardTransform
from rl_rms.envs.targets import parse_targets


def transform_of(*targets, is_batch=False, **values):
    transform = RewardTransform(parse_targets(targets), Draws(), is_batch)
    transform.values.update({f"reward.{name}": value for name, value in values.items()})
    return transform


def test_scale_and_offset_change_rewards():
    assert transform_of("reward.scale", "reward.offset", scale=2.0, offset=-1.0)(3.0) == 5.0
    batch = transform_of("reward.scale", is_batch=True, scale=np.array([1.0, 2.0]))
    assert batch(np.array([3.0, 3.0])).tolist() == [3.0, 6.0]


def test_noise_depends_on_the_noise_key():
    draws = Draws()
    transform = RewardTransform(parse_targets(["reward.noise"]), draws, False)
    transform.values["reward.noise"] = 1.0
    rewards = []
    for clock in (17, 18, 17):
        draws.noise_key = NoiseKey(3, (0,), (0,), (clock,))
        rewards.append(transform(0.0))
    assert rewards[0] == rewards[2] != rewards[1]
    assert type(rewards[0]) is float
