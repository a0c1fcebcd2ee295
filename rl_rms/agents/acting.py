"""Draws a policy's actions, and stores the policy's recurrent state and the agent's random generator."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.backends import Backend
from rl_rms.agents.masks import as_action_masks, check_action_masks
from rl_rms.agents.normalize import ObservationNormalizer
from rl_rms.agents.spaces import env_actions, observed_action_mask
from rl_rms.agents.torch_backend import TorchBackend
from rl_rms.agents.trees import Tree, first_leaf, tree_map
from rl_rms.agents.workers import RandomSource, SharedRandomSource, Workers

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class Actor:
    """Chooses a policy's actions.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        observation_space: Observation space of one sub-environment.
        action_space: Action space of one sub-environment.
        num_envs: Number of sub-environments; None for an agent without an environment.
        normalizer: Standardizes the observations; None leaves them unchanged.
        mask_actions: Whether `predict` without ``action_masks`` reads ``action_mask`` of a Dict observation.
        seed: Seed of the random generator.
        device: The policy's device.

    Attributes:
        generator: The agent's random generator.
        state: Recurrent state of the episodes in progress, shape ``(num_envs, state_size)``; None unless the
            policy is recurrent.
    """

    def __init__(
        self,
        policy: nn.Module,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        num_envs: int | None,
        normalizer: ObservationNormalizer | None,
        mask_actions: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self._policy, self._device = policy, device
        self._observation_space, self._action_space = observation_space, action_space
        self._to_env = env_actions(action_space, squash=getattr(policy, "squashes", False))
        self._normalizer = normalizer
        self._mask_actions = mask_actions
        self._torch = TorchBackend(policy, device)
        self.generator = np.random.default_rng(seed)
        self._random: RandomSource = self.generator
        self.state = self._initial_state(num_envs or 1)
        self._has_envs = num_envs is not None

    def join(self, workers: Workers) -> None:
        """Join the other workers. Each worker then draws random numbers for all workers, and uses its share."""
        self._random = self.generator if workers.alone else SharedRandomSource(self.generator, workers)

    def act(
        self, backend: Backend, t: int, observations: Tree, starts: Bools, action_masks: Bools | None
    ) -> tuple[Array, Array]:
        """Draw actions, and advance the recurrent state.

        Args:
            backend: The policy's backend.
            t: Index of the step in its rollout.
            observations: Observations of the environment, not normalized, shape ``(num_envs, *observation)``.
            starts: Whether each observation is the first of its episode, shape ``(num_envs,)``.
            action_masks: The valid actions, shape ``(num_envs, entries)``; None if all actions are valid.

        Returns:
            The policy's actions, and these actions converted to the environment's action space.
        """
        if self._normalizer is not None:
            observations = self._normalizer(observations)
        actions, self.state = backend.act(t, observations, starts, action_masks, self.state, self._random)
        return actions, self._to_env(actions)

    @torch.no_grad()
    def predict(
        self,
        observation: Tree | int,
        state: Array | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Compute the policy's action for one observation or a batch, see `rl_rms.agents.agent.Agent.predict`."""
        batch, single = self._batch(observation)
        num = len(first_leaf(batch))
        if action_masks is None and self._mask_actions:
            action_masks = observed_action_mask(batch)
        masks = None
        if action_masks is not None:
            masks = as_action_masks(action_masks, self._action_space, num, "action_masks")
            check_action_masks(masks, self._action_space, "action_masks, row")
        recurrent = self._initial_state(num)
        if recurrent is not None and state is not None:
            recurrent = torch.as_tensor(state, device=self._device)
        starts = np.zeros(num, np.bool_) if episode_start is None else np.asarray(episode_start, dtype=np.bool_)
        normalized = batch if self._normalizer is None else self._normalizer(batch)
        distribution, recurrent = self._torch.distribution(normalized, starts, masks, recurrent)
        action = distribution.mode() if deterministic else distribution.sample(self.generator)
        actions = self._to_env(action.cpu().numpy())
        return (actions[0] if single else actions), None if recurrent is None else recurrent.cpu().numpy()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Return a context whose end restores the random generator's state."""
        before = self.generator.bit_generator.state
        try:
            yield
        finally:
            self.generator.bit_generator.state = before

    def state_dict(self) -> dict[str, Any]:
        """The state of the random generator, and the recurrent state."""
        return {"generator": json.dumps(self.generator.bit_generator.state), "state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`. A recurrent state of another number of sub-environments is ignored.

        An agent without an environment keeps the recurrent state of any number, so that it can save it again.
        """
        self.generator.bit_generator.state = json.loads(state["generator"])
        own, saved = self.state, state["state"]
        if own is not None and (
            own.shape == saved.shape or (not self._has_envs and own.shape[1] == saved.shape[1])
        ):
            self.state = saved.to(self._device)

    def _initial_state(self, num_envs: int) -> Tensor | None:
        size = getattr(self._policy, "state_size", 0)
        return torch.zeros(num_envs, size, device=self._device) if size else None

    def _batch(self, observation: Tree | int) -> tuple[Tree, bool]:
        """Return the observation as a batch, and whether the argument is a single observation.

        Raises:
            ValueError: If the observation's first array is missing or has a wrong shape.
        """
        space = self._observation_space
        tree = tree_map(np.asarray, observation)
        part: Any = space
        leaf = tree
        try:
            while isinstance(part, (gym.spaces.Dict, gym.spaces.Tuple)):
                key: Any = next(iter(part.spaces)) if isinstance(part, gym.spaces.Dict) else 0
                part, leaf = part[key], leaf[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"observation must be of {space}, got {observation!r}") from error
        shape: tuple[int, ...] = part.shape
        single = leaf.shape == shape
        if not single and leaf.shape[1:] != shape:
            raise ValueError(
                f"observation must have shape {shape} or (batch, *{shape}), got {leaf.shape}; "
                f"the policy was built for {space}"
            )
        return (tree_map(lambda leaf: leaf[None], tree) if single else tree), single
