"""Robust training: a protagonist, and an adversary whose reward is minus the reward of the protagonist.

Source: Pinto et al., "Robust adversarial reinforcement learning" (ICML 2017).
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy.typing as npt
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rl_rms.agents.a2c import A2C
from rl_rms.agents.config import A2CConfig
from rl_rms.envs.checks import check_int, check_one_of

Array = npt.NDArray[Any]
# Maps a batch of observations to one player's actions.
Rival = Callable[[Any], Array]
Turns = Literal["simultaneous", "alternating"]


class Side(gym.vector.VectorWrapper):
    """A two-player game as an environment for one player. A function, the rival, acts for the other player.

    Args:
        env: Vector environment with pairs of actions and the first player's reward.
        player: 0 for the first player, 1 for the second, whose reward is minus the first player's reward.
        rival: Function from a batch of observations to the other player's actions.

    Raises:
        ValueError: If the environment's actions are not pairs.

    Examples:
        >>> import numpy as np
        >>> from rl_rms.envs.pushes import PushedCartPole
        >>> side = Side(PushedCartPole(2), 1, lambda observations: np.zeros(2, dtype=np.int64))
        >>> _ = side.reset(seed=0)
        >>> _, rewards, *_ = side.step(np.zeros((2, 1), dtype=np.float32))
        >>> rewards.tolist()
        [-1.0, -1.0]
    """

    def __init__(self, env: VectorEnv, player: Literal[0, 1], rival: Rival) -> None:
        super().__init__(env)
        spaces = env.single_action_space
        if not (isinstance(spaces, gym.spaces.Tuple) and len(spaces) == 2):
            raise ValueError(f"env must have a Tuple of two action spaces, one for each player, got {spaces}")
        self.player, self.rival = player, rival
        self.single_action_space = spaces[player]
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._observations: Any = None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin episodes, see `gymnasium.vector.VectorEnv.reset`."""
        self._observations, info = self.env.reset(**options)
        return self._observations, info

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take one vector step with this player's actions and the rival's actions."""
        other = self.rival(self._observations)
        pair = (actions, other) if self.player == 0 else (other, actions)
        self._observations, rewards, terminated, truncated, info = self.env.step(pair)
        return self._observations, rewards if self.player == 0 else -rewards, terminated, truncated, info


class RobustTraining:
    """Trains two A2C agents in turns. Each agent has its own environment, and learns against the other's policy.

    Args:
        make_env: Function that makes the game: a vector environment with pairs of actions and the protagonist's
            reward. The function is called once for each player.
        protagonist: The first player's hyperparameters; None for A2C's defaults.
        adversary: The second player's hyperparameters; None for A2C's defaults.
        turns: The adversary learns against the protagonist's newest policy (``"alternating"``), or against the
            protagonist's policy at the beginning of the round (``"simultaneous"``).
        turn: Minimum env steps of each player in a round, >= 1.
        seed: Seed of the protagonist; the adversary's seed is ``seed + 1``.

    Attributes:
        protagonist: The first player, an `A2C`.
        adversary: The second player, an `A2C`.
        rivals: Copies of the protagonist and the adversary, which act as rivals and do not learn.

    Raises:
        ValueError: If an argument is out of its range, if a policy is recurrent, or if the game's actions are not
            pairs.

    Examples:
        >>> from rl_rms.envs.pushes import PushedCartPole
        >>> training = RobustTraining(lambda: PushedCartPole(4, strength=0.1), turn=100).learn(200)
        >>> training.protagonist.num_timesteps >= 200, training.adversary.num_timesteps >= 200
        (True, True)
    """

    def __init__(
        self,
        make_env: Callable[[], VectorEnv],
        *,
        protagonist: A2CConfig | None = None,
        adversary: A2CConfig | None = None,
        turns: Turns = "alternating",
        turn: int = 1_000,
        seed: int = 0,
    ) -> None:
        check_one_of("turns", turns, get_args(Turns))
        turn = check_int("turn", turn, least=1, unit="env steps")
        seed = check_int("seed", seed, least=0)
        protagonist, adversary = protagonist or A2CConfig(), adversary or A2CConfig()
        for name, config in (("protagonist", protagonist), ("adversary", adversary)):
            if config.policy.recurrent != "none":
                raise ValueError(
                    f"{name} must not be recurrent, because rivals keep no recurrent state, got policy.recurrent="
                    f'{config.policy.recurrent!r}; use "none"'
                )
        self.turns, self.turn = turns, turn
        self.protagonist = A2C(Side(make_env(), 0, self._push), config=protagonist, seed=seed)
        self.adversary = A2C(Side(make_env(), 1, self._move), config=adversary, seed=seed + 1)
        self.rivals = _frozen(self.protagonist), _frozen(self.adversary)

    def learn(self, total_timesteps: int) -> "RobustTraining":
        """Train in rounds until the protagonist has taken at least ``total_timesteps`` more env steps.

        In every round each player takes at least ``turn`` env steps.

        Args:
            total_timesteps: Env steps of the protagonist, all sub-environments together.

        Returns:
            This object.

        Raises:
            ValueError: If ``total_timesteps`` is not a whole number >= 1.
        """
        total_timesteps = check_int("total_timesteps", total_timesteps, least=1, unit="env steps")
        target = self.protagonist.num_timesteps + total_timesteps
        while self.protagonist.num_timesteps < target:
            self._show(0)
            self._show(1)
            self.protagonist.learn(self.turn)
            if self.turns == "alternating":
                self._show(0)
            self.adversary.learn(self.turn)
        return self

    def _show(self, player: Literal[0, 1]) -> None:
        _copy((self.protagonist, self.adversary)[player], self.rivals[player])

    def _move(self, observations: Any) -> Array:
        return self.rivals[0].predict(observations)[0]

    def _push(self, observations: Any) -> Array:
        return self.rivals[1].predict(observations)[0]


def _frozen(agent: A2C) -> A2C:
    """A copy of an agent that only acts, without an environment to learn in."""
    other = A2C(
        None,
        config=agent.config,
        seed=agent.seed,
        observation_space=agent.observation_space,
        action_space=agent.action_space,
    )
    _copy(agent, other)
    return other


def _copy(agent: A2C, other: A2C) -> None:
    """Copy the policy and the observation statistics to another agent of the same configuration."""
    other.policy.load_state_dict(agent.policy.state_dict())
    if agent.observation_normalizer is not None and other.observation_normalizer is not None:
        other.observation_normalizer.load_state_dict(agent.observation_normalizer.state_dict())
