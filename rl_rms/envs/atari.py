"""Atari games of ale-py in its native vector environment, and in a single environment with the same spaces."""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.specs import ATARI, find_spec

# Arguments of the native vector environment, with their defaults. For a single environment, Gymnasium's wrappers
# have equivalent arguments.
_PREPROCESSING = {
    "img_height": 84,
    "img_width": 84,
    "grayscale": True,
    "stack_num": 4,
    "frameskip": 4,
    "noop_max": 30,
}
# Arguments of the native vector environment that `as_single` drops.
_VECTOR_ONLY = (
    "num_threads",
    "thread_affinity_offset",
    "maxpool",
    "episodic_life",
    "life_loss_info",
    "reward_clipping",
    "use_fire_reset",
)


class WholeGames(VectorWrapper):
    """Reports the sum of a game's unclipped rewards at its end as ``info["episode"]["r"]``, and may clip rewards.

    Args:
        env: ale-py's native vector environment without reward clipping.
        clips: Whether rewards are clipped to [-1, 1].
        life_loss_info: Whether each lost life ends an episode. The next episode continues the game until no life
            is left.
    """

    def __init__(self, env: VectorEnv, *, clips: bool, life_loss_info: bool) -> None:
        super().__init__(env)
        self._clips, self._life_loss_info = clips, life_loss_info
        self._returns = np.zeros(self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin games in all sub-environments, or in the sub-environments that ``reset_mask`` marks."""
        result: tuple[Any, dict[str, Any]] = self.env.reset(seed=seed, options=options)
        mask = None if options is None else options.get("reset_mask")
        self._returns[slice(None) if mask is None else mask] = 0.0
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a vector step. In NextStep mode, the step that begins a new game has the reward 0."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        rewards = np.asarray(rewards, dtype=np.float64)
        self._returns += rewards
        over = np.logical_or(terminated, truncated)
        if self._life_loss_info:
            over = truncated | (terminated & (infos["lives"] == 0))
        if over.any():
            infos = {**infos, "episode": {"r": np.where(over, self._returns, 0.0)}, "_episode": over}
            self._returns[over] = 0.0
        if self._clips:
            rewards = np.clip(rewards, -1.0, 1.0)
        return observations, rewards, terminated, truncated, infos


def make_vector(*, reward_clipping: bool = True, life_loss_info: bool = False, **kwargs: Any) -> VectorEnv:
    """Make ale-py's native vector environment in a wrapper that reports the sum of each game's unclipped rewards.

    Args:
        reward_clipping: Whether rewards are clipped to [-1, 1].
        life_loss_info: Whether each lost life ends an episode. The next episode continues the game until no life
            is left.
        **kwargs: Other arguments of ``ale_py.vector_env.AtariVectorEnv``.

    Raises:
        ValueError: If ``episodic_life`` is true, or if ``life_loss_info`` is true and the autoreset mode is not
            ``NextStep``.
    """
    if kwargs.pop("episodic_life", False):
        raise ValueError(
            "episodic_life=True of ale-py begins a new game after each life, so no whole game is played; use "
            "life_loss_info=True"
        )
    mode = AutoresetMode(kwargs.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    if life_loss_info and mode is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"life_loss_info=True needs autoreset_mode NextStep, got {mode.value}; leave autoreset_mode out"
        )
    vector_env: Any = importlib.import_module("ale_py.vector_env")
    env = vector_env.AtariVectorEnv(reward_clipping=False, life_loss_info=life_loss_info, **kwargs)
    return WholeGames(env, clips=reward_clipping, life_loss_info=life_loss_info)


def as_single(config: EnvConfig) -> EnvConfig:
    """Convert a configuration for the native vector environment into a configuration for Gymnasium's wrappers.

    Returns:
        The converted configuration. Its environment has the same spaces, but the arguments in `_VECTOR_ONLY`, such
        as ``reward_clipping``, are dropped. A configuration that has wrappers or is not for Atari is returned
        unchanged.
    """
    if config.wrappers or find_spec(config.id).entry_point != ATARI:
        return config
    kwargs = {key: value for key, value in config.kwargs.items() if key not in _VECTOR_ONLY}
    given = {key: kwargs.pop(key, default) for key, default in _PREPROCESSING.items()}
    preprocessing = {
        "noop_max": given["noop_max"],
        "frame_skip": given["frameskip"],
        "screen_size": (given["img_width"], given["img_height"]),
        "grayscale_obs": given["grayscale"],
    }
    wrappers = [
        {"AtariPreprocessing": preprocessing},
        {"FrameStackObservation": {"stack_size": given["stack_num"]}},
        "drift",
    ]
    return replace(config, vectorization_mode="sync", wrappers=wrappers, kwargs={**kwargs, "frameskip": 1})
