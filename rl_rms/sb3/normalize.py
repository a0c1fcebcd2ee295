"""Stable-Baselines3's ``VecNormalize`` and ``RunningMeanStd`` with a half-life."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env import VecNormalize as _VecNormalize

from rl_rms.agents.config_parts import NormalizerConfig, OnJump
from rl_rms.agents.moments import decaying_weights
from rl_rms.agents.normalize import ForgettingMeanVariance

Array = npt.NDArray[Any]


class ForgettingMeanStd(RunningMeanStd):
    """Stable-Baselines3's ``RunningMeanStd`` with a half-life.

    Args:
        config: Configuration with the half-life in env steps and the response to jumps.
        epsilon: Weight of the initial mean 0 and variance 1.
        shape: Shape of one value.

    Attributes:
        moments: The statistics.
    """

    def __init__(self, config: NormalizerConfig, epsilon: float = 1e-4, shape: tuple[int, ...] = ()) -> None:
        self.moments = ForgettingMeanVariance(shape, config)
        self._half_life = config.parsed_half_life.in_steps()
        super().__init__(epsilon, shape)

    @property
    def mean(self) -> Array:
        """Mean of the values."""
        return self.moments.mean

    @mean.setter
    def mean(self, mean: Array) -> None:
        self.moments.mean = mean

    @property
    def var(self) -> Array:
        """Variance of the values."""
        return self.moments.variance

    @var.setter
    def var(self, variance: Array) -> None:
        self.moments.variance = variance

    @property
    def count(self) -> float:
        """Sum of the weights of the values and of the initial mean and variance."""
        return self.moments.weight

    @count.setter
    def count(self, weight: float) -> None:
        self.moments.weight = weight

    def copy(self) -> "ForgettingMeanStd":
        """Copy this object with its statistics."""
        return copy.deepcopy(self)

    def update(self, arr: Array) -> None:
        """Update the statistics with one value of each sub-environment, shape ``(num_envs, *shape)``."""
        valid = np.ones((1, len(arr)), dtype=np.bool_)
        self.moments.update(arr, decaying_weights(valid, self._half_life))


class VecNormalize(_VecNormalize):
    """Stable-Baselines3's ``VecNormalize`` with a half-life for the statistics of observations and rewards.

    With ``half_life=inf`` and ``on_jump="keep"``, the results equal the results of Stable-Baselines3's class up to
    rounding errors. `save` and `load` use pickle, as in Stable-Baselines3, so load only files that you trust.

    Args:
        venv: The vector environment.
        training: Whether the statistics are updated.
        norm_obs: Whether observations are normalized.
        norm_reward: Whether rewards are divided by the standard deviation of the discounted return.
        clip_obs: Normalized observations are clipped to this absolute value.
        clip_reward: Normalized rewards are clipped to this absolute value.
        gamma: Discount per env step.
        epsilon: Constant added to variances before their root is taken.
        norm_obs_keys: Keys of a Dict observation that are normalized; None normalizes all keys.
        half_life: Half-life of the statistics in env steps, summed over all sub-environments, such as
            ``"10_000 steps"``; ``inf`` never forgets.
        on_jump: Response to a jump of the observations' mean, see `rl_rms.agents.jumps.JumpDetector`: ``"keep"``
            all values, or ``"forget"`` the values before the jump. Each key of a Dict observation has its own
            detector.

    Raises:
        ValueError: If ``half_life`` is not in env steps or not above 0, or ``on_jump`` is not allowed.

    Examples:
        >>> from stable_baselines3 import PPO
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> env = VecNormalize(make_vec_env("CartPole-v1", 4), half_life="10_000 steps", on_jump="forget")
        >>> model = PPO("MlpPolicy", env, n_steps=32, batch_size=32).learn(128)
        >>> round(env.obs_rms.count)
        131
    """

    def __init__(
        self,
        venv: VecEnv,
        training: bool = True,
        norm_obs: bool = True,
        norm_reward: bool = True,
        clip_obs: float = 10.0,
        clip_reward: float = 10.0,
        gamma: float = 0.99,
        epsilon: float = 1e-8,
        norm_obs_keys: list[str] | None = None,
        *,
        half_life: float | str = np.inf,
        on_jump: OnJump = "keep",
    ) -> None:
        config = NormalizerConfig(half_life=half_life, on_jump=on_jump)
        parsed = config.parsed_half_life
        if parsed.unit == "updates" and np.isfinite(parsed.value):
            raise ValueError(
                f'half_life must be in env steps, such as "10_000 steps", or inf, got {half_life!r}, which counts '
                "updates"
            )
        super().__init__(
            venv, training, norm_obs, norm_reward, clip_obs, clip_reward, gamma, epsilon, norm_obs_keys
        )
        if self.norm_obs:
            # obs_rms is a dict for Dict observations, but Stable-Baselines3 does not annotate it.
            original: Any = self.obs_rms
            forgetting: Any = (
                {key: ForgettingMeanStd(config, shape=rms.mean.shape) for key, rms in original.items()}
                if isinstance(original, dict)
                else ForgettingMeanStd(config, shape=original.mean.shape)
            )
            self.obs_rms = forgetting
        self.ret_rms = ForgettingMeanStd(NormalizerConfig(half_life=half_life, on_jump="keep"))

    @property
    def num_jumps(self) -> int:
        """Number of jumps at which the statistics of observations restarted."""
        # Without norm_obs there may be no obs_rms, and `sync_envs_normalization` may copy a RunningMeanStd.
        statistics: Any = vars(self).get("obs_rms", {})
        parts = statistics.values() if isinstance(statistics, dict) else [statistics]
        detectors = [part.moments.detector for part in parts if isinstance(part, ForgettingMeanStd)]
        return sum(detector.num_jumps for detector in detectors if detector is not None)

    @staticmethod
    def load(load_path: str, venv: VecEnv) -> "VecNormalize":
        """Load an object that `save` wrote.

        Args:
            load_path: The file.
            venv: The vector environment to normalize.

        Raises:
            ValueError: If the file has an object of another class, such as Stable-Baselines3's ``VecNormalize``.
        """
        loaded = _VecNormalize.load(load_path, venv)
        if not isinstance(loaded, VecNormalize):
            raise ValueError(
                f"{load_path} must have an rl_rms.sb3.VecNormalize, got an object of {type(loaded).__module__}, "
                "which never forgets; load the file with its own class, or make a new rl_rms.sb3.VecNormalize"
            )
        return loaded
