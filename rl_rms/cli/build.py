"""Builds the environment and the agent of a configuration, and reports wrong settings as `UserError`."""

import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rl_rms.agents.config_file import CONFIG
from rl_rms.cli.config import RunConfig
from rl_rms.cli.errors import UserError
from rl_rms.cli.trust import own_optimizer, own_policy

if TYPE_CHECKING:
    from rl_rms.agents.agent import Agent
    from rl_rms.agents.workers import Workers
    from rl_rms.envs import NonStationaryVector
    from rl_rms.envs.faults import EnvError

# Maps the lower-case name of a module to the extra of this package that installs the module.
EXTRAS = {
    "ale_py": "atari",
    "box2d": "box2d",
    "gymnasium_robotics": "robotics",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
    "shimmy": "dm-control",
}


def make_env(config: RunConfig, workers: "Workers | None" = None) -> "NonStationaryVector":
    """Make a run's vector environment; with several workers, only the sub-environments of this worker.

    Raises:
        UserError: If the environment cannot be made or lacks a parameter of env.changes.
    """
    from gymnasium.error import DependencyNotInstalled, Error

    from rl_rms.envs.make import make_from_config
    from rl_rms.envs.wrappers import WrapperNeedsError

    try:
        shard = (0, 1) if workers is None else (workers.rank, workers.size)
        return make_from_config(config.env, config.seed, shard)
    except WrapperNeedsError as error:
        raise UserError(f"env.wrappers: {error}") from error
    except DependencyNotInstalled as error:
        name = str(error).split()[0]
        extra = EXTRAS.get(name.lower())
        mend = f"; install it with pip install 'rl_rms[{extra}]'" if extra else f": {error}"
        raise UserError(f"env: {config.env.id} needs {name}, which is not installed{mend}") from error
    except ModuleNotFoundError as error:
        mend = "start rl-rms in the folder of the module, or install the module"
        raise UserError(_missing_extra(config, error) or f"env: {error}; {mend}") from error
    except (Error, ValueError, TypeError, ImportError) as error:
        # A wrapper's import path may name a module of an extra that is not installed.
        text = f"env: {error}{how_to_register(config.env.id, error)}"
        raise UserError(_missing_extra(config, error) or text) from error


def how_to_register(env_id: str, error: BaseException) -> str:
    """Return a sentence about ``module:Id`` for an unknown id without a module; empty for other errors."""
    from gymnasium.error import NameNotFound, NamespaceNotFound

    if ":" in env_id or not isinstance(error, (NameNotFound, NamespaceNotFound)):
        return ""
    return f" If a module registers the environment, write module:{env_id}."


def _missing_extra(config: RunConfig, error: BaseException) -> str | None:
    """Return the message for a missing module that an extra of this package installs; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        name = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if name in EXTRAS:
            return (
                f"env: {config.env.id} needs {name}, which is not installed; install it with pip install "
                f"'rl_rms[{EXTRAS[name]}]'"
            )
        cause = cause.__cause__
    return None


def check_video(config: RunConfig, agent: "Agent") -> None:
    """Check that the videos of a run can be recorded, if the configuration asks for videos.

    Raises:
        UserError: If moviepy is missing, the environment cannot render, or its spaces differ from the agent's.
    """
    from rl_rms.agents.video import check_spaces

    if config.video_every is None or agent.workers.rank > 0:
        return
    env = make_rendered_env(config)
    try:
        check_spaces(agent, env)
    except ValueError as error:
        raise UserError(
            f"video_every: {error}. Leave video_every out, or set env.vectorization_mode to sync, so that the "
            "agent trains on the spaces of the single environment"
        ) from error
    finally:
        env.close()


def make_rendered_env(config: RunConfig) -> "NonStationaryVector":
    """Make an environment like one sub-environment of a run, with rendered images and without the curriculum.

    Raises:
        UserError: If moviepy is missing, or the environment cannot render.
    """
    from gymnasium.error import Error

    from rl_rms.envs.atari import as_single
    from rl_rms.envs.make import make_from_config

    if find_spec("moviepy") is None:
        raise UserError(
            "video_every needs moviepy, which is not installed; install it with pip install 'rl_rms[video]'"
        )
    try:
        single = as_single(config.env) if config.env.vectorization_mode not in ("sync", "async") else config.env
        env = replace(
            single,
            num_envs=1,
            vectorization_mode="sync",
            autoreset_mode=None,
            curriculum=None,
            kwargs={**single.kwargs, "render_mode": "rgb_array"},
        )
        return make_from_config(env, config.seed)
    except (Error, ValueError, TypeError, ImportError) as error:
        raise UserError(f"video_every: {error}") from error


def build(
    config: RunConfig,
    env: "NonStationaryVector",
    workers: "Workers | None" = None,
    checkpoint: Path | None = None,
    *,
    may_differ: Sequence[str] = (),
) -> "Agent":
    """Build the agent of a run, new or from a checkpoint.

    Args:
        config: The configuration.
        env: The environment.
        workers: The processes that train the agent; None for one process.
        checkpoint: The checkpoint; None for a new agent.
        may_differ: Hyperparameters of the checkpoint that may differ from the configuration.

    Raises:
        UserError: If the environment does not support the configuration, the checkpoint cannot be read, or the
            checkpoint's hyperparameters or seed differ from the configuration.
    """
    from rl_rms.agents.a2c import A2C
    from rl_rms.agents.ppo import PPO
    from rl_rms.agents.reinforce import Reinforce
    from rl_rms.envs.faults import EnvError

    agents = {agent.algorithm: agent for agent in (A2C, PPO, Reinforce)}
    kind = agents[config.agent.algorithm]
    try:
        if checkpoint is None:
            agent: Agent = kind(env, config=config.agent, seed=config.seed)
        else:
            agent = kind.load(
                checkpoint,
                env,
                policy=own_policy(config),
                optimizer=own_optimizer(config),
                device=config.agent.device,
            )
            _check_unedited(config, agent, may_differ)
        if workers is not None:
            agent.join(workers, config.scale.sync)
        agent.prepare()
    except EnvError as error:
        print_cause(error)
        raise UserError(f"env: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"agent: {error}") from error
    return agent


def _check_unedited(config: RunConfig, agent: "Agent", may_differ: Sequence[str]) -> None:
    """Check that a run's configuration and checkpoint have the same seed and hyperparameters.

    The device and the hyperparameters in ``may_differ`` may differ.

    Raises:
        ValueError: If a hyperparameter or the seed differs.
    """
    given, trained = config.agent.to_dict(), agent.config.to_dict()
    pairs = {f"agent.policy.{key}": (one, trained["policy"][key]) for key, one in given.pop("policy").items()}
    pairs |= {
        f"agent.{key}": (one, trained[key]) for key, one in given.items() if key not in ("device", *may_differ)
    }
    pairs["seed"] = (config.seed, agent.seed)
    for name, (value, before) in pairs.items():
        if value != before:
            raise ValueError(
                f"{name} is {value!r} in {CONFIG}, but the checkpoint was trained with {before!r}. Set it to "
                f"{before!r} again to resume, or train a new run with rl-rms train"
            )


def print_cause(error: "EnvError") -> None:
    """Print the traceback of the exception that caused an error of the environment, if there is one."""
    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
