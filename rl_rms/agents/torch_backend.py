"""Acting and gradients in torch, by autograd, for every policy."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents.clipped_loss import Minibatch, Played, clipped_loss, evaluate
from rl_rms.agents.distributions import Distribution
from rl_rms.agents.losses import Batch, actor_critic_loss, distribution_of, encode
from rl_rms.agents.transfers import Scalars, to_device, to_floats
from rl_rms.agents.trees import Tree, tree_map
from rl_rms.agents.workers import ALONE, RandomSource, Workers

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class TorchBackend:
    """The `Backend` of one policy.

    Args:
        policy: Module with `ActorCriticPolicy`'s interface.
        device: The policy's device.
    """

    def __init__(self, policy: nn.Module, device: torch.device) -> None:
        self._policy: Any = policy
        self._device = device

    def limit_threads(self) -> AbstractContextManager[Any]:
        """Do nothing, because ``torch.set_num_threads`` limits torch's threads."""
        return nullcontext()

    def distribution(
        self, observations: Tree, starts: Bools, action_masks: Bools | None, state: Tensor | None
    ) -> tuple[Distribution, Tensor | None]:
        """Compute the distribution over actions and the next recurrent state. See `Backend.act`."""
        features = encode(self._policy, tree_map(lambda leaf: to_device(leaf, self._device), observations))
        if state is not None:
            features, state = self._policy.remember(features, state, to_device(starts, self._device))
        masks = None if action_masks is None else to_device(action_masks, self._device)
        return distribution_of(self._policy, features, masks), state

    @torch.no_grad()
    def act(
        self,
        t: int,
        observations: Tree,
        starts: Bools,
        action_masks: Bools | None,
        state: Tensor | None,
        random: RandomSource,
    ) -> tuple[Array, Tensor | None]:
        """Draw actions. See `Backend.act`."""
        distribution, state = self.distribution(observations, starts, action_masks, state)
        return distribution.sample(random).cpu().numpy(), state

    def gradients(self, batch: Batch, workers: Workers = ALONE, *, with_metrics: bool) -> dict[str, float]:
        """Write the loss's gradients to the parameters. See `Backend.gradients`."""
        with self._training(batch.loss_mask.size > 1):
            loss, metrics = actor_critic_loss(self._policy, batch, workers, with_metrics=with_metrics)
            self._policy.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        return to_floats([metrics])[0]

    def evaluate(self, batch: Batch) -> Played:
        """The inputs of PPO's loss from the policy that collected the batch. See `Backend.evaluate`."""
        return evaluate(self._policy, batch)

    def clipped_gradients(self, minibatch: Minibatch, *, with_metrics: bool) -> Scalars:
        """Write the gradients of PPO's loss to the parameters. See `Backend.clipped_gradients`."""
        with self._training(len(minibatch.rows) > 1):
            loss, metrics = clipped_loss(self._policy, minibatch, with_metrics=with_metrics)
            self._policy.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        return metrics

    @contextmanager
    def _training(self, mode: bool) -> Iterator[None]:
        """Set the policy's training mode in the block, and evaluation mode after it, even if the block fails.

        ``mode`` must be False for a single transition, because batch normalization cannot use its statistics.
        """
        try:
            self._policy.train(mode)
            yield
        finally:
            self._policy.eval()
