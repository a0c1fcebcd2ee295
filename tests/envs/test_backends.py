import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.envs import ResilientSyncVectorEnv
from rl_rms.envs.backends import make_backend, make_saver
from rl_rms.envs.native import Native
from rl_rms.envs.plain_sync import PlainSync
from rl_rms.envs.sub_envs import SubEnvs


def make():
    return gym.make("CartPole-v1")


@pytest.mark.parametrize(
    ("make_env", "kind"),
    [
        (lambda: gym.make_vec("CartPole-v1", 2), Native),
        (lambda: SyncVectorEnv([make]), SubEnvs),
        (lambda: gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv([make])), SubEnvs),
        (lambda: ResilientSyncVectorEnv([make]), SubEnvs),
        (lambda: AsyncVectorEnv([make]), SubEnvs),
    ],
)
def test_make_backend_goes_by_the_innermost_vector_environment(make_env, kind):
    env = make_env()
    assert type(make_backend(env, (), ())) is kind
    env.close()


@pytest.mark.parametrize(
    ("make_env", "kind"),
    [
        (lambda: gym.make_vec("CartPole-v1", 2), Native),
        (lambda: SyncVectorEnv([make]), PlainSync),
        (lambda: gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv([make])), PlainSync),
        (lambda: ResilientSyncVectorEnv([make]), SubEnvs),
    ],
)
def test_make_saver_leaves_a_users_sync_environment_unwrapped(make_env, kind):
    env = make_env()
    before = [type(one) for one in getattr(env.unwrapped, "envs", [])]
    assert type(make_saver(env)) is kind
    if kind is PlainSync:
        assert [type(one) for one in env.unwrapped.envs] == before
    env.close()
