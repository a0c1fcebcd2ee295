"""Makes the backend that fits a vector environment."""

from collections.abc import Sequence

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from rl_rms.envs.backend import Backend
from rl_rms.envs.native import Native
from rl_rms.envs.plain_sync import PlainSync
from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv
from rl_rms.envs.sub_envs import SubEnvs


def make_backend(env: VectorEnv, targets: Sequence[str], arrays: Sequence[str]) -> Backend:
    """Make the backend for a vector environment.

    Args:
        env: The vector environment.
        targets: Names of the targets.
        arrays: Targets whose values are arrays of shape ``(num_envs,)``.

    Raises:
        ValueError: If the environment cannot set a target, or its sub-environments are non-stationary already or
            were made for other targets.
    """
    if isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):
        return SubEnvs(env, targets)
    return Native(env, targets, arrays)


def make_saver(env: VectorEnv) -> Backend | PlainSync:
    """Make the object that saves and restores the state of a vector environment without targets."""
    if isinstance(env.unwrapped, SyncVectorEnv) and not isinstance(env.unwrapped, ResilientSyncVectorEnv):
        return PlainSync(env)
    return make_backend(env, (), ())
