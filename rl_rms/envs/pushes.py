"""CartPole for two players: the first balances the pole, and the second pushes it."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rl_rms.envs.checks import check_int, check_number

Array = npt.NDArray[Any]


class PushedCartPole(gym.vector.VectorWrapper):
    """A vector environment of Gymnasium's CartPole-v1 in which a second player pushes the poles at every env step.

    An action is a pair. The first player's action, 0 or 1, pushes the cart with 10 N, which changes the pole's
    angular velocity by about 0.3 rad/s. The second player's action in [-1, 1], times ``strength``, is added to the
    angular velocity before the cart is pushed. `step` returns the first player's reward. The second player's
    reward is minus the first player's reward.

    Args:
        num_envs: Number of sub-environments, >= 1.
        strength: Largest push, in rad/s for each env step, >= 0.

    Raises:
        ValueError: If an argument is out of its range.

    Source: the disturbances of Pinto et al., "Robust adversarial reinforcement learning" (ICML 2017).

    Examples:
        >>> env = PushedCartPole(2, strength=0.5)
        >>> before, _ = env.reset(seed=0)
        >>> after, *_ = env.step((np.array([0, 0]), np.array([0.0, 0.0])))
        >>> _ = env.reset(seed=0)
        >>> pushed, *_ = env.step((np.array([0, 0]), np.array([0.0, 1.0])))
        >>> (pushed - after)[:, 3].round(2).tolist()
        [0.0, 0.5]
    """

    def __init__(self, num_envs: int = 1, strength: float = 0.1) -> None:
        num_envs = check_int("PushedCartPole: num_envs", num_envs, least=1)
        self.strength = check_number("PushedCartPole: strength", strength, least=0.0)
        super().__init__(gym.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point"))
        pair = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1.0, 1.0)))
        self.single_action_space, self.action_space = pair, batch_space(pair, num_envs)

    def step(self, actions: tuple[Array, Array]) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Push the poles, then the carts.

        Args:
            actions: The actions of the first and of the second player, shape ``(num_envs,)`` each. The second
                player's actions are clipped to [-1, 1].
        """
        moves, pushes = actions
        cart: Any = self.env.unwrapped
        # If the step resets a sub-environment, the push has no effect, because the reset replaces the state.
        cart.state[3] += self.strength * np.clip(np.reshape(pushes, -1), -1.0, 1.0)
        return self.env.step(moves)
