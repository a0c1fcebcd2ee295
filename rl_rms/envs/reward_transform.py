"""Transforms rewards with the current values of the targets ``reward.*``."""

from collections.abc import Iterable
from typing import Any

from rl_rms.envs import transforms
from rl_rms.envs.draws import Draws
from rl_rms.envs.targets import TransformTarget, neutral_values


class RewardTransform:
    """Transforms one reward or a batch, see `rl_rms.envs.transforms.reward`.

    Args:
        targets: The targets ``reward.*``.
        draws: The source of random numbers.
        is_batch: Whether rewards are batches, shape ``(num_envs,)``.

    Attributes:
        values: The value of each kind of target, including kinds without a target.
    """

    def __init__(self, targets: Iterable[TransformTarget], draws: Draws, is_batch: bool) -> None:
        self.values = neutral_values("reward")
        self._has_noise = any(one.has_noise for one in targets)
        self._draws = draws
        self._is_batch = is_batch

    def __call__(self, reward: Any) -> Any:
        """Return the transformed rewards."""
        values = self.values
        noise: Any = 0.0
        if self._has_noise:
            noise = values["reward.noise"] * self._draws.normals("reward.noise", 1)[:, 0]
            if not self._is_batch:
                noise = float(noise[0])
        return transforms.reward(reward, values["reward.scale"], values["reward.offset"], noise)
