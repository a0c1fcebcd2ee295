"""Applies an agent's settings for failing sub-environments to the agent's vector environment.

Only `ResilientSyncVectorEnv` and `ResilientAsyncVectorEnv` restart sub-environments. In another SyncVectorEnv or
AsyncVectorEnv, the traceback or the dead workers show which sub-environment failed.
"""

from types import TracebackType
from typing import Any

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from rl_rms.envs.config import OnEnvError
from rl_rms.envs.faults import EnvError, Fault, FaultLog
from rl_rms.envs.gymnasium_internals import ended_workers
from rl_rms.envs.resilient_async import ResilientAsyncVectorEnv
from rl_rms.envs.resilient_sync import ResilientSyncVectorEnv
from rl_rms.envs.restarts import check_restartable

_MAKE = "make the environment with rl_rms.envs.make_vec(..., vectorization_mode={mode!r}) or rl_rms.envs.{kind}"


def set_reaction(
    env: VectorEnv, on_env_error: OnEnvError | None = None, env_timeout: float | None = None
) -> FaultLog | None:
    """Set the reaction of a vector environment to failing sub-environments.

    Args:
        env: The vector environment.
        on_env_error: ``"restart"`` restarts sub-environments that fail; ``"raise"`` and None keep the setting of
            the environment.
        env_timeout: Seconds that a worker may take for a step or a reset; None keeps the environment's limit.

    Returns:
        The counters of faults and restarts; None if the environment has no counters.

    Raises:
        ValueError: If the environment cannot restart sub-environments and ``on_env_error`` is ``"restart"``, or
            cannot end workers and ``env_timeout`` is given.
    """
    base: Any = env.unwrapped
    kind = type(base).__name__
    if env_timeout is not None and not isinstance(base, ResilientAsyncVectorEnv):
        mend = _MAKE.format(mode="async", kind=ResilientAsyncVectorEnv.__name__)
        raise ValueError(
            f"env_timeout needs sub-environments in workers that can be ended, got {env_timeout!r} with {kind}; "
            f"{mend}, or leave env_timeout out"
        )
    if not isinstance(base, (ResilientSyncVectorEnv, ResilientAsyncVectorEnv)):
        if on_env_error == "restart":
            mend = _MAKE.format(mode="sync", kind=ResilientSyncVectorEnv.__name__)
            raise ValueError(
                f"on_env_error='restart' needs sub-environments that can be restarted one by one, got {kind}; "
                f"{mend}, or leave on_env_error out"
            )
        return None
    if on_env_error == "restart":
        check_restartable(base)
        base.fault_log.on_env_error = on_env_error
    if env_timeout is not None and isinstance(base, ResilientAsyncVectorEnv):
        base.env_timeout = env_timeout
    log: FaultLog = base.fault_log
    return log


def named(env: VectorEnv, error: Exception, seeds: list[int | None], first_index: int = 0) -> EnvError | None:
    """Name the sub-environments that caused a vector environment's error.

    Args:
        env: The vector environment.
        error: The error that a step or a reset of ``env`` raised.
        seeds: The seed of each sub-environment's last seeded reset.
        first_index: Index that error messages give to the first sub-environment of ``env``.

    Returns:
        The error with the indices and seeds of the sub-environments that failed; None if they are unknown.
    """
    base = env.unwrapped
    if isinstance(error, EnvError):
        return error
    if isinstance(base, (ResilientSyncVectorEnv, ResilientAsyncVectorEnv)):
        return None
    if isinstance(base, AsyncVectorEnv):
        indices, message = ended_workers(base, error), str(error) or "its worker ended"
        fault = Fault(f"{type(error).__name__}: {message}", error)
    elif isinstance(base, SyncVectorEnv):
        indices, fault = _failed_in(base, error.__traceback__), Fault.of(error)
    else:
        return None
    if not indices:
        return None
    mend = "fix the environment, or make it with rl_rms.envs.make_vec and set on_env_error='restart'"
    found = EnvError([first_index + i for i in indices], [seeds[i] for i in indices], fault.problem, mend)
    found.__cause__ = error
    return found


def _failed_in(env: SyncVectorEnv, trace: TracebackType | None) -> list[int]:
    """Return the index of the sub-environment that raised the error, in a list; empty if none raised the error."""
    numbers = {id(one): i for i, one in enumerate(env.envs)}
    is_inside = False
    while trace is not None:
        frame = trace.tb_frame
        # The first local variable of a method is its object (self).
        owner = frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))
        if is_inside and id(owner) in numbers:
            return [numbers[id(owner)]]
        is_inside = is_inside or owner is env
        trace = trace.tb_next
    return []
