"""Native vector environments of MuJoCo, and SyncVectorEnvs of the same single environments."""

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from rl_rms.envs.specs import native

RUNNERS = ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Swimmer-v5", "Ant-v5"]
PENDULUMS = ["InvertedPendulum-v5", "InvertedDoublePendulum-v5"]
IDS = RUNNERS + PENDULUMS
MODES = ["NextStep", "SameStep", "Disabled"]


def pair(id, mode="NextStep", limit=40, num_envs=3, num_threads=2, **kwargs):
    """A native vector environment and a SyncVectorEnv."""
    ours = gym.make_vec(
        native(gym.spec(id)), num_envs, "vector_entry_point", None, None, max_episode_steps=limit,
        autoreset_mode=mode, num_threads=num_threads, **kwargs,
    )  # fmt: skip
    theirs = gym.make_vec(id, num_envs, "sync", {"autoreset_mode": mode}, None, max_episode_steps=limit, **kwargs)
    return ours, theirs


def equal_steps(ours, theirs, steps, dtype=np.float32, seed=0):
    """Compare steps with random actions bit by bit, and count the terminations and truncations.

    The actions in the second half of the steps are small, so that pendulums stand longer.
    """
    random, space = np.random.default_rng(seed), ours.action_space
    terminations = truncations = 0
    for step in range(steps):
        actions = random.uniform(space.low, space.high).astype(dtype) * (1 if 2 * step < steps else 0.05)
        mine, other = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine, other, exact=True)
        done = mine[2] | mine[3]
        terminations, truncations = terminations + mine[2].sum(), truncations + mine[3].sum()
        if ours.metadata["autoreset_mode"].value == "Disabled" and done.any():
            resets = [env.reset(options={"reset_mask": done}) for env in (ours, theirs)]
            assert data_equivalence(*resets, exact=True)
    return terminations, truncations


def reset_both(ours, theirs, **kwargs):
    """Compare a reset bit by bit."""
    assert data_equivalence(ours.reset(**kwargs), theirs.reset(**kwargs), exact=True)
