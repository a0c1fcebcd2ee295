"""Random minibatches of a rollout, drawn over the transitions of all workers together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl_rms.agents.workers import ALONE, Workers

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A worker's part of a minibatch.

    Attributes:
        epoch: Index of the pass over the rollout, from 0.
        rows: This worker's transitions in the minibatch as ``step * num_envs + env_index``, shape ``(size,)``.
        share: Number of this worker's transitions in the minibatch, divided by the minibatch's size.
        fraction: Size of the minibatch divided by the number of transitions of all workers.
    """

    epoch: int
    rows: Rows
    share: float
    fraction: float


class Minibatches:
    """Divides the transitions of all workers at random into minibatches.

    All workers draw the same minibatches if their generators have the same state. One process with
    all sub-environments draws the same minibatches as several workers.

    Args:
        loss_mask: This worker's transitions in the loss, shape ``(num_steps, num_envs)``.
        batch_size: Transitions of a minibatch; the last minibatch may be smaller.
        whole_rollouts: Whether a minibatch has the full rollouts of ``max(1, batch_size // num_steps)``
            sub-environments.
        workers: The processes that train the policy together.
    """

    def __init__(
        self, loss_mask: Bools, batch_size: int, *, whole_rollouts: bool = False, workers: Workers = ALONE
    ) -> None:
        self._num_envs = loss_mask.shape[1]
        self._first_env = workers.rank * self._num_envs
        global_mask = loss_mask
        if not workers.alone:
            global_mask = np.concatenate(workers.all_gather(loss_mask.astype(np.float64)) > 0, axis=1)
        self._num_all = global_mask.shape[1]
        self._rows = np.flatnonzero(global_mask)
        self._batch_size = batch_size
        self._num_sequences = max(1, batch_size // len(loss_mask)) if whole_rollouts else None

    def epochs(self, n_epochs: int, generator: np.random.Generator) -> Iterator[Part]:
        """Yield the minibatches of all epochs. Each epoch has every transition of the loss once.

        Args:
            n_epochs: Number of epochs.
            generator: Random generator that shuffles the transitions in each epoch.
        """
        for epoch in range(n_epochs):
            for chunk in self._chunks(generator):
                rows = self._own(chunk)
                yield Part(epoch, rows, len(rows) / len(chunk), len(chunk) / len(self._rows))

    def _chunks(self, generator: np.random.Generator) -> list[Rows]:
        """The minibatches of an epoch, as rows of the joint rollout of all workers."""
        if self._num_sequences is None:
            return _divided(generator.permutation(self._rows), self._batch_size)
        envs = self._rows % self._num_all
        groups = _divided(generator.permutation(np.unique(envs)), self._num_sequences)
        return [self._rows[np.isin(envs, group)] for group in groups]

    def _own(self, rows: Rows) -> Rows:
        """Select this worker's transitions from the rows of all workers, as rows of its own rollout."""
        if self._num_all == self._num_envs:
            return rows
        steps, envs = np.divmod(rows, self._num_all)
        envs = envs - self._first_env
        is_own = (envs >= 0) & (envs < self._num_envs)
        own: Rows = steps[is_own] * self._num_envs + envs[is_own]
        return own


def _divided(order: Rows, size: int) -> list[Rows]:
    return [order[i : i + size] for i in range(0, len(order), size)]
