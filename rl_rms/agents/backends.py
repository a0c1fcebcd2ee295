"""The interface for acting and gradients, and the choice between its numpy and torch implementations."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rl_rms.agents import numpy_backend
from rl_rms.agents.clipped_loss import Minibatch, Played
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.losses import Batch
from rl_rms.agents.numpy_backend import NumpyBackend
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.torch_backend import TorchBackend
from rl_rms.agents.transfers import Scalars
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import ALONE, RandomSource, Workers

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


class Backend(Protocol):
    """Draws a policy's actions and computes the gradients of its loss."""

    def act(
        self,
        t: int,
        observations: Tree,
        starts: Bools,
        action_masks: Bools | None,
        state: Tensor | None,
        random: RandomSource,
    ) -> tuple[Array, Tensor | None]:
        """Draw one action for each sub-environment.

        Args:
            t: Index of the step in its rollout.
            observations: Inputs of the policy, shape ``(num_envs, *observation)``.
            starts: Whether each observation is the first of its episode, shape ``(num_envs,)``.
            action_masks: The valid actions, shape ``(num_envs, entries)``; None if all actions are valid.
            state: Recurrent state, shape ``(num_envs, state_size)``; None unless the policy is recurrent.
            random: The random generator.

        Returns:
            Actions, shape ``(num_envs, *action)``, and the next recurrent state.
        """
        ...

    def gradients(self, batch: Batch, workers: Workers = ALONE, *, with_metrics: bool) -> dict[str, float]:
        """Write the gradients of `rl_rms.agents.losses.actor_critic_loss` to the parameters.

        Args:
            batch: The rollout whose actions `act` drew last, with its loss mask and coefficients.
            workers: The processes whose advantages are standardized together.
            with_metrics: Whether the metrics are needed.

        Returns:
            The loss's metrics by TensorBoard tag. The dictionary may be empty without ``with_metrics``.
        """
        ...

    def evaluate(self, batch: Batch) -> Played:
        """Compute the values, log-probabilities, advantages and returns that PPO's loss treats as constants.

        Args:
            batch: The rollout whose actions `act` drew last, with its loss mask and coefficients. The policy has
                taken no optimizer step on this rollout yet.
        """
        ...

    def clipped_gradients(self, minibatch: Minibatch, *, with_metrics: bool) -> Scalars:
        """Write the gradients of `rl_rms.agents.clipped_loss.clipped_loss` to the parameters.

        Args:
            minibatch: Transitions of the batch in the last call of `evaluate`.
            with_metrics: Whether the metrics are needed.

        Returns:
            The loss's metrics by TensorBoard tag. The dictionary may be empty without ``with_metrics``.
        """
        ...

    def limit_threads(self) -> AbstractContextManager[Any]:
        """Return a context that may limit the threads of the backend's libraries during a training run."""
        ...


def choose_backend(policy: nn.Module, device: torch.device, config: AgentConfig) -> Backend:
    """The fastest backend for a policy: numpy if the configuration and the policy allow it, else torch."""
    return NumpyBackend(policy) if _runs_in_numpy(policy, config) else TorchBackend(policy, device)


def choose_device(policy: nn.Module, config: AgentConfig) -> torch.device:
    """The torch device of a configuration.

    ``"auto"`` is the CPU for a policy that runs in numpy, because a small network is slower on a GPU. For other
    policies, ``"auto"`` is CUDA if CUDA is available, and otherwise the CPU.

    Args:
        policy: The policy on its initial device.
        config: The configuration.

    Raises:
        ValueError: If the device is not available on this machine.
    """
    name = config.device
    if name == "auto":
        uses_cuda = torch.cuda.is_available() and not _runs_in_numpy(policy, config)
        return torch.device("cuda" if uses_cuda else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f'device {name!r} is not available here ({cause}); give device="cpu", "auto", or a torch device of '
            "this machine"
        ) from error
    return device


def _runs_in_numpy(policy: nn.Module, config: AgentConfig) -> TypeGuard[ActorCriticPolicy]:
    return config.fused and not config.mask_actions and numpy_backend.supports(policy)
