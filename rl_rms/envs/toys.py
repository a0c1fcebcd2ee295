"""Two small environments with a known optimal policy: a bandit, and a decision process with two states.

The environments simulate no physics, so an env step takes little time. `GaussianBandit.optimal_reward` and
`TwoStates.optimal_policy` serve as references for the regret. `rl_rms.envs.NonStationary` can change the
parameters, which are attributes.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.parameters import register_parameter

Floats = npt.NDArray[np.float64]
Observation = npt.NDArray[np.float32]


class GaussianBandit(gym.Env[Observation, np.int64]):
    """A bandit whose arm i has the reward ``mean_i + noise * standard normal``.

    The observation is always 0, and an episode never ends by itself. Targets that can change: ``mean_0`` to
    ``mean_{k-1}`` and ``noise``.

    Args:
        num_arms: Number of arms k, >= 1. Arm i starts with the mean ``i / (k - 1)``; a single arm has the mean 0.
        noise: Standard deviation of a reward, >= 0.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> env = GaussianBandit(num_arms=3, noise=0.0)
        >>> _ = env.reset(seed=0)
        >>> env.step(1)[1], env.optimal_reward()
        (0.5, 1.0)
    """

    def __init__(self, num_arms: int = 10, noise: float = 1.0) -> None:
        self.num_arms = check_int("num_arms", num_arms, least=1)
        self.noise = check_number("noise", noise, least=0.0)
        for arm in range(self.num_arms):
            setattr(self, f"mean_{arm}", arm / max(self.num_arms - 1, 1))
        self.observation_space = Box(0.0, 1.0, (1,), np.float32)
        self.action_space = Discrete(self.num_arms)

    @property
    def means(self) -> Floats:
        """The current expected reward of each arm, shape ``(num_arms,)``."""
        return np.array([getattr(self, f"mean_{arm}") for arm in range(self.num_arms)])

    def optimal_reward(self) -> float:
        """Return the current expected reward of the best arm, as a reference for regret."""
        return float(self.means.max())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Pull an arm."""
        reward = float(self.means[action] + self.noise * self.np_random.standard_normal())
        return np.zeros(1, np.float32), reward, False, False, {}


class TwoStates(gym.Env[Observation, np.int64]):
    """Two states and two actions: action 0 stays in the state, and action 1 goes to the other state.

    A transition to state i has the reward ``reward_i``. With probability ``slip`` the other action is executed. If
    two different rewards are swapped, the best action changes in both states, unless ``slip`` is 0.5. A converged
    policy has small gradients. After a swap, an optimizer whose second moment is small makes large steps, and the
    policy can collapse. Dohare, Lan and Mahmood, "Overcoming policy collapse in deep reinforcement learning" (EWRL
    2023), study policy collapse with another two-state process.

    The observation is the state as a one-hot vector. Targets that can change: ``reward_0``, ``reward_1`` and
    ``slip``.

    Args:
        reward_0: Reward of a transition to state 0.
        reward_1: Reward of a transition to state 1.
        slip: Probability in [0, 1] that the other action is executed.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> env = TwoStates()
        >>> env.optimal_policy(gamma=0.9).tolist(), env.values([[0, 1], [1, 0]], gamma=0.9).round(3).tolist()
        ([1, 0], [10.0, 10.0])
    """

    def __init__(self, reward_0: float = 0.0, reward_1: float = 1.0, slip: float = 0.0) -> None:
        self.reward_0 = check_number("reward_0", reward_0)
        self.reward_1 = check_number("reward_1", reward_1)
        self.slip = check_number("slip", slip, least=0, most=1)
        self.observation_space = Box(0.0, 1.0, (2,), np.float32)
        self.action_space = Discrete(2)
        self.state = 0

    def values(self, policy: npt.ArrayLike, gamma: float) -> Floats:
        """Return the exact values of both states under a policy, with the current parameters.

        The values solve ``v = r + gamma P v``.

        Args:
            policy: Probability of each action in each state, shape ``(2, 2)``.
            gamma: Discount per env step, in [0, 1).

        Returns:
            Values, shape ``(2,)``.
        """
        policy = np.asarray(policy, dtype=np.float64)
        goes = policy @ [self.slip, 1.0 - self.slip]
        transitions = np.array([[1.0 - goes[0], goes[0]], [goes[1], 1.0 - goes[1]]])
        rewards = transitions @ [self.reward_0, self.reward_1]
        return np.linalg.solve(np.eye(2) - gamma * transitions, rewards).astype(np.float64)

    def optimal_policy(self, gamma: float) -> npt.NDArray[np.int64]:
        """Return the best action in each state with the current parameters, shape ``(2,)``; 0 for a tie."""
        candidates = [(first, second) for first in (0, 1) for second in (0, 1)]
        best = max(candidates, key=lambda actions: self.values(np.eye(2)[list(actions)], gamma).sum().round(9))
        return np.array(best, dtype=np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in either state, with equal probability."""
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(2))
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make a transition."""
        goes = (action == 1) != (self.np_random.random() < self.slip)
        self.state = 1 - self.state if goes else self.state
        reward = self.reward_1 if self.state else self.reward_0
        return self._observation(), float(reward), False, False, {}

    def _observation(self) -> Observation:
        observation: Observation = np.eye(2, dtype=np.float32)[self.state]
        return observation


for _name in ("reward_0", "reward_1"):
    register_parameter(TwoStates, _name)
register_parameter(TwoStates, "slip", low=0, high=1)
