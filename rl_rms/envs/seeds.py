"""Checks, draws and derives the seeds of non-stationary changes and of environments."""

from collections.abc import Sequence

import numpy as np

from rl_rms.envs.checks import check_int


def first_seed(seed: int | None) -> int:
    """Check the seed of non-stationary changes, or draw a random seed for None.

    Raises:
        ValueError: If the seed is not a whole number >= 0.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    return check_int("seed", seed, least=0)


def derive_seeds(entropy: int | Sequence[int], count: int = 1) -> list[int]:
    """Derive seeds for environments from other seeds.

    Args:
        entropy: Seeds >= 0.
        count: Number of seeds.

    Returns:
        Seeds below 2**30, because some simulators store a seed as a signed 32-bit integer, and vector environments
        add the index of the sub-environment.
    """
    return [int(word) % 2**30 for word in np.random.SeedSequence(entropy).generate_state(count)]
