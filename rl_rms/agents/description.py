"""Descriptions of an agent: its half-lives in updates and env steps, and its hyperparameters by name."""

import math
from typing import Any, get_args

import torch
from torch.optim import Optimizer

from rl_rms.agents.config import AgentConfig
from rl_rms.agents.config_parts import normalizer_config, reward_half_life
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.half_life import Duration, EstimatedHalfLife, HalfLife
from rl_rms.optim.rmsprop import RMSprop


def describe_half_lives(config: AgentConfig, optimizer: Optimizer, steps_per_update: float | None) -> str | None:
    """Describe the finite half-lives of optimizer and normalizers; None without such half-lives.

    Args:
        config: The agent's hyperparameters.
        optimizer: The agent's optimizer.
        steps_per_update: Env steps between two updates; None if the number varies. With a number, the text has
            each fixed half-life in updates and in env steps.
    """
    described = [_describe_optimizer(optimizer, steps_per_update)]
    observation = normalizer_config(config.normalize_observation)
    half_lives = (
        ("observations", None if observation is None else observation.parsed_half_life),
        ("rewards", reward_half_life(config.normalize_reward)),
    )
    for name, half_life in half_lives:
        if half_life is not None and math.isfinite(half_life.value):
            described.append(f"{name}: {_in_both_units(half_life, steps_per_update)}")
    return "; ".join(text for text in described if text is not None) or None


def flat_hyperparameters(agent: TrainedAgent) -> dict[str, Any]:
    """Every hyperparameter of an agent by name, with env, num_envs, seed and the optimizer's half-life."""
    flat, optimizer, env = agent.config.to_dict(), agent.optimizer, agent.env
    if isinstance(optimizer, RMSprop):
        stated = optimizer.param_groups[0]["half_life"]
        flat["half_life"] = f"{optimizer.half_life:.6g} updates" if stated is None else stated
    flat.update({f"policy.{key}": value for key, value in flat.pop("policy").items()})
    flat.update({f"optimizer.{key}": value for key, value in flat.pop("optimizer_kwargs").items()})
    flat.update({f"meta.{key}": value for key, value in (flat.pop("meta") or {}).items()})
    if isinstance(flat["normalize_observation"], dict):
        normalizer = flat.pop("normalize_observation")
        flat.update({f"normalize_observation.{key}": value for key, value in normalizer.items()})
    if env is not None:
        flat["env"] = type(env.unwrapped).__name__ if env.spec is None else env.spec.id
        flat["num_envs"] = env.num_envs
    return {**flat, "seed": agent.seed}


def device_note(agent: TrainedAgent) -> str | None:
    """Say which device ``"auto"`` chose on a machine with CUDA; None without CUDA or with an explicit device."""
    if agent.config.device != "auto" or not torch.cuda.is_available():
        return None
    if agent.device.type == "cpu":
        return 'on the CPU, which is faster for this network; device="cuda" uses the GPU'
    return f"on {agent.device}"


def _describe_optimizer(optimizer: Optimizer, steps_per_update: float | None) -> str | None:
    """Describe the optimizer's half-life; None for an optimizer without a half-life."""
    if not isinstance(optimizer, RMSprop):
        return None
    stated = optimizer.param_groups[0]["half_life"]
    if stated in get_args(EstimatedHalfLife):
        return _describe_estimate(optimizer, stated)
    # With rho = 0 the half-life is 0, which `HalfLife` does not allow.
    half_life = Duration(optimizer.half_life) if stated is None else HalfLife.parse(stated)
    if steps_per_update is None:
        return (
            f"{_in_both_units(half_life, None)} (an update has whole episodes, so its number of env steps varies)"
        )
    # PPO has few env steps per update, and the number can be fractional.
    span = f"{steps_per_update:,.0f}" if steps_per_update >= 100 else f"{steps_per_update:.3g}"
    return f"{_in_both_units(half_life, steps_per_update)} ({span} env steps per update)"


def _in_both_units(half_life: Duration, steps_per_update: float | None) -> str:
    """A half-life in updates and in env steps, or only in its own unit if the conversion is unknown.

    Args:
        half_life: The half-life.
        steps_per_update: Env steps between two updates; None if the number varies.
    """
    if steps_per_update is None:
        return f"half-life {half_life}"
    updates, steps = half_life.in_updates(steps_per_update), half_life.in_steps(steps_per_update)
    return f"half-life {updates:,.1f} updates = {steps:,.0f} env steps"


def _describe_estimate(optimizer: RMSprop, kind: EstimatedHalfLife) -> str:
    shortest, longest = optimizer.controller.bounds
    bounds = f"between {shortest:,.6g} and {longest:,.6g} updates"
    if kind == "auto":
        return f"half-life estimated from the gradients, {bounds}"
    timescale = optimizer.timescale
    if timescale is None:
        return f"half-life matched to the environment's timescale, {bounds}"
    if math.isinf(timescale.value):
        return (
            f"half-life {longest:,.6g} updates, the longest allowed, because nothing in this environment changes"
        )
    unit = "env steps" if timescale.unit == "steps" else "updates"
    return f"half-life matched to a timescale of {timescale.value:,.6g} {unit}, {bounds}"
