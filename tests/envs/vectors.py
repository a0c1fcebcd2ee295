"""Vector environments whose rewards are the current values of their parameters."""

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode


class NativeProbes(gym.vector.VectorEnv):
    """Probes as a native vector environment. The parameter `level`, a number or an array, is the reward."""

    single_observation_space = gym.spaces.Box(0.0, 100.0, (2,), np.float32)
    single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, lengths, mode):
        self.num_envs, self.lengths, self.level = len(lengths), np.array(lengths), 1.0
        self.metadata = {"autoreset_mode": mode}
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).pop("reset_mask", np.ones(self.num_envs, bool))
        self.counts = np.where(mask, 0, self.counts) if hasattr(self, "counts") else np.zeros(self.num_envs, int)
        self.done = np.zeros(self.num_envs, bool)
        return self.observe(), {}

    def observe(self):
        return np.repeat(self.counts[:, None], 2, axis=1).astype(np.float32)

    def step(self, actions):
        mode, infos = self.metadata["autoreset_mode"], {}
        resetting = self.done if mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        self.counts = np.where(resetting, 0, self.counts + 1)
        rewards = np.where(resetting, 0.0, self.level)
        self.done = self.counts == self.lengths
        done = self.done
        if mode is AutoresetMode.SAME_STEP and done.any():
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(done):
                infos["final_obs"][i] = self.observe()[i]
            self.counts = np.where(done, 0, self.counts)
        return self.observe(), rewards, done, np.zeros_like(done), infos


def play(env, steps, actions=None):
    """Make vector steps. Without autoreset, reset the sub-environments whose episodes have ended."""
    shown = []
    for k in range(steps):
        action = env.action_space.sample() if actions is None else np.full(env.num_envs, actions[k])
        observations, rewards, terminated, truncated, info = env.step(action)
        shown.append((np.array(observations), np.array(rewards), terminated, info))
        done = terminated | truncated
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and done.any():
            env.reset(options={"reset_mask": done})
    return shown
