"""Code that depends on undocumented names of Gymnasium.

`tests/envs/test_gymnasium_internals.py` fails if an upgrade of Gymnasium removes one of these names.
"""

import importlib
import inspect
import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import synchronized
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, async_vector_env
from gymnasium.vector.utils import CloudpickleWrapper, clear_mpi_env_vars, iterate
from gymnasium.wrappers import OrderEnforcing, TimeLimit

# Seconds to wait for events after a fault, such as the end of a failed worker.
GRACE = 5.0
# The undocumented attributes of vector environments that `check_attributes` requires, by class.
ATTRIBUTES: Mapping[type, tuple[str, ...]] = {
    SyncVectorEnv: ("_env_obs", "_autoreset_envs"),
    AsyncVectorEnv: ("observations", "parent_pipes", "processes", "error_queue"),
}

# The attributes that these wrappers have in addition to the attributes of `gymnasium.Wrapper`.
WRAPPER_STATES: Mapping[type, tuple[str, ...]] = {
    TimeLimit: ("_max_episode_steps", "_elapsed_steps"),
    OrderEnforcing: ("_has_reset", "_disable_render_order_enforcing"),
}


def check_attributes(env: SyncVectorEnv | AsyncVectorEnv) -> None:
    """Raise an error if Gymnasium's vector environment lacks an attribute that this library uses.

    Raises:
        RuntimeError: If an attribute is missing.
    """
    for kind, names in ATTRIBUTES.items():
        missing = [name for name in names if isinstance(env, kind) and not hasattr(env, name)]
        if missing:
            raise RuntimeError(
                f"{kind.__name__} of gymnasium {gym.__version__} has no attribute {missing[0]!r}; install a "
                "version of gymnasium that rl_rms supports"
            )


def continue_plain_sync(env: SyncVectorEnv, observations: Any, pending: npt.NDArray[np.bool_]) -> None:
    """Restore the observations and the pending autoresets of a SyncVectorEnv whose sub-environments are restored.

    Args:
        env: The vector environment.
        observations: The batch of last observations; None keeps the environment's batch.
        pending: Whether each sub-environment begins an episode in the next step, shape ``(num_envs,)``.
    """
    check_attributes(env)
    if observations is not None:
        env._env_obs[:] = iterate(env.observation_space, observations)
    env._autoreset_envs[:] = pending


def ended_workers(env: AsyncVectorEnv, error: Exception) -> list[int]:
    """Return the indices of the workers that caused an error of a step or a reset; empty if unknown."""
    check_attributes(env)
    # Gymnasium removes the pipes of workers that report an error.
    reported = [i for i, pipe in enumerate(env.parent_pipes) if pipe is None]
    if reported or not isinstance(error, (EOFError, OSError)):
        return reported
    sentinels = [process.sentinel for process in env.processes]
    ended = wait(sentinels, timeout=GRACE)
    return [i for i, sentinel in enumerate(sentinels) if sentinel in ended]


def start_worker(env: AsyncVectorEnv, i: int, make: Callable[[], gym.Env[Any, Any]]) -> Any:
    """Start a worker process in place of a worker that has ended and whose pipe is closed.

    Returns:
        The worker's shared memory; None if the workers do not use shared memory. The caller must keep this object,
        because a spawned worker can open the memory's lock only while the object exists.
    """
    context: Any = multiprocessing.get_context(env.context)
    here, there = context.Pipe()
    worker: Callable[..., None] = env.worker or async_vector_env._async_worker
    memory = _memory(env.single_observation_space, env.observations, context) if env.shared_memory else None
    arguments = [i, CloudpickleWrapper(make), there, here, memory, env.error_queue, env.autoreset_mode]
    # Since Gymnasium 1.4, workers get a semaphore, which is None without max_concurrency.
    arguments += [None] * (len(inspect.signature(worker).parameters) - len(arguments))
    process = context.Process(target=worker, name=f"Worker<{type(env).__name__}>-{i}", args=arguments)
    process.daemon = env.daemon
    with clear_mpi_env_vars():
        process.start()
    there.close()
    env.parent_pipes[i], env.processes[i] = here, process
    return memory


def stored_as(argument: str) -> str:
    """Return the name of the attribute in which Gymnasium's MuJoCo environments store a constructor argument."""
    return f"_{argument}"


def new_box2d_world(env: Any) -> None:
    """Give an unwrapped Box2D environment a new ``b2World`` with the old gravity."""
    box2d: Any = importlib.import_module("Box2D")
    env._destroy()
    env.world = box2d.b2World(gravity=env.world.gravity)


def _memory(space: Any, observations: Any, context: Any) -> Any:
    """Return the shared memory of the workers' observations, taken from the arrays that refer to this memory."""
    if isinstance(space, spaces.Dict):
        return {key: _memory(part, observations[key], context) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_memory(part, observations[i], context) for i, part in enumerate(space))
    memory: Any = observations
    while isinstance(memory, np.ndarray):
        memory = memory.base
    return synchronized(memory, ctx=context)
