"""Several processes that train one agent, each with a share of the sub-environments.

All workers begin with the same weights and random generators, step their own sub-environments, and take the same
optimizer steps. The workers exchange data such as gradients, statistics and counts, but no observations. On one
machine with Linux and x86-64, CPU arrays, except bfloat16 tensors, go through shared memory. All other data go
through torch.distributed. torchrun and Ray can start the processes.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from rl_rms.agents import shared_memory
from rl_rms.agents.rollout import Episode
from rl_rms.agents.shared_memory import SharedMemory
from rl_rms.optim.torch_private import foreach_copy_

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# The message with the counts of a rollout has room for this many episodes. More episodes need a second message.
_EPISODES_IN_MESSAGE = 32


class LostWorkersError(RuntimeError):
    """Another worker has died, or did not answer within the group's time limit."""


class Workers:
    """The group of processes that train one agent together.

    Every method is a collective operation: it returns after all workers have called it. If a worker dies or does
    not call the method in time, the method raises `LostWorkersError` in the other workers. In a group of one
    process, the method returns at once.

    Args:
        rank: Rank of this worker, from 0.
        size: Number of workers.

    Examples:
        >>> alone = Workers()
        >>> alone.alone, alone.sum(np.array([3.0])).tolist()
        (True, [3.0])
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._memory: SharedMemory | None = None
        self.alone = size == 1

    @classmethod
    def of_process_group(cls) -> "Workers":
        """The workers of torch.distributed's default process group; one worker without a process group."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        workers = cls(dist.get_rank(), dist.get_world_size())
        if not workers.alone:
            workers._memory = workers._share_memory()
        return workers

    def sum(self, values: Floats) -> Floats:
        """The sum of all workers' values, which have the same shape."""
        if self.alone:
            return values
        total = torch.from_numpy(np.array(values, dtype=np.float64))
        self._all_reduce(total)
        return total.numpy()

    def all_gather(self, values: Floats) -> Floats:
        """All workers' values by rank, shape ``(size, *shape)``."""
        own = torch.from_numpy(np.array(values, dtype=np.float64))
        if self.alone:
            return own.numpy()[None]
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        with self._collective():
            if self._memory is not None:
                return self._memory.all_gather(own.numpy())
            dist.all_gather(gathered, own)
        return torch.stack(gathered).numpy()

    def all_true(self, holds: bool) -> bool:
        """Whether ``holds`` is true in every worker."""
        return holds if self.alone else bool(self.sum(np.array([float(not holds)]))[0] == 0.0)

    def broadcast(self, value: Any) -> Any:
        """The first worker's value, which must support pickle."""
        if self.alone:
            return value
        values = [value]
        with self._collective():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace tensors by their weighted mean over all workers.

        Args:
            tensors: This worker's tensors.
            share: This worker's weight. The weights of all workers have the sum 1.
        """
        if self.alone:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group]).mul_(share)
            self._all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in group])
            foreach_copy_(group, [part.view_as(tensor) for part, tensor in zip(parts, group, strict=True)])

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        """The weighted mean of all workers' metrics, which have the same names.

        Args:
            metrics: This worker's metrics.
            weight: This worker's weight.
        """
        if self.alone:
            return dict(metrics)
        names = sorted(metrics)
        # Metrics of weight 0 may be nan.
        own = np.array([*(metrics[name] for name in names), 1.0]) if weight else np.zeros(len(names) + 1)
        summed = self.sum(weight * own)
        return dict(zip(names, (summed[:-1] / summed[-1]).tolist(), strict=True))

    def gather_rollouts(
        self, counts: Floats, episodes: Sequence[Episode], num_envs: int
    ) -> tuple[Floats, list[Episode]]:
        """All workers' counts by rank, and all workers' episodes.

        Args:
            counts: Counts of this worker's rollout, shape ``(num_counts,)``.
            episodes: This worker's episodes.
            num_envs: Sub-environments of each worker.

        Returns:
            The counts, shape ``(size, num_counts)``, and the episodes in the order of their ends. The
            ``env_index`` of an episode counts the sub-environments of all workers.
        """
        if self.alone:
            return counts[None], list(episodes)
        first_env = self.rank * num_envs
        table = np.array([value for episode in episodes for value in _row(episode, first_env)]).reshape(-1, 5)
        first = np.concatenate(([len(table)], counts, _padded(table[:_EPISODES_IN_MESSAGE], _EPISODES_IN_MESSAGE)))
        received = self.all_gather(first)
        lengths, gathered = received[:, 0].astype(int), received[:, 1 : 1 + len(counts)]
        tables = received[:, 1 + len(counts) :]
        num_left = lengths.max() - _EPISODES_IN_MESSAGE
        if num_left > 0:
            rest = self.all_gather(_padded(table[_EPISODES_IN_MESSAGE:], num_left))
            tables = np.concatenate((tables, rest), axis=1)
        rows = [
            row
            for part, length in zip(tables.reshape(self.size, -1, 5), lengths, strict=True)
            for row in part[:length].tolist()
        ]
        rows.sort(key=lambda row: (row[3], row[2]))
        return gathered, [
            Episode(ret, int(length), int(index), int(steps), None if math.isnan(success) else bool(success))
            for ret, length, index, steps, success in rows
        ]

    def _all_reduce(self, flat: Tensor) -> None:
        """Replace a contiguous tensor by its sum over all workers."""
        with self._collective():
            if self._memory is None or flat.device.type != "cpu" or flat.dtype == torch.bfloat16:
                dist.all_reduce(flat)
            else:
                self._memory.all_reduce(flat.detach().numpy())

    def _share_memory(self) -> SharedMemory | None:
        """Create memory that all workers share; None if a worker cannot use the memory, as on another machine."""
        created = address = opened = memory = None
        if self.rank == 0:
            with suppress(OSError):
                created, address = shared_memory.create(self.size)
        address = self.broadcast(address)
        if address is None:
            return None
        with suppress(OSError):
            opened = shared_memory.open_address(address)
        pids = self.all_gather(np.array([0 if opened is None else os.getpid()], dtype=np.float64))[:, 0]
        if opened is not None and pids.all():
            # torch's type annotations of stores lack their timeout.
            group: Any = dist.group.WORLD
            timeout = group.get_group_store().timeout.total_seconds()
            with suppress(OSError):
                memory = SharedMemory(opened, pids.astype(int).tolist(), self.rank, timeout)
        for fd in (created, opened):
            if fd is not None:
                os.close(fd)
        return memory if self.all_true(memory is not None) else None

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostWorkersError(
                f"worker {self.rank} of {self.size} lost another worker, which has died or did not answer in time "
                f"({str(error).splitlines()[0]})"
            ) from error


def _row(episode: Episode, first_env: int) -> tuple[float, ...]:
    success = math.nan if episode.success is None else float(episode.success)
    return episode.ret, episode.length, first_env + episode.env_index, episode.num_timesteps, success


def _padded(table: Floats, length: int) -> Floats:
    """Flatten the rows of a table, and append zeros up to ``length`` rows."""
    padded = np.zeros((length, table.shape[1]))
    padded[: len(table)] = table
    return padded.reshape(-1)


ALONE = Workers()
"""A group of one process."""


class SharedRandomSource:
    """Draws random numbers for one worker's rows of a batch that all workers share.

    Every worker draws the random numbers of the full batch and keeps its own rows, so that a sub-environment gets
    the same random numbers for any number of workers.

    Args:
        generator: The random generator, with the same seed in every worker.
        workers: The workers, each with equally many rows of the batch.
    """

    def __init__(self, generator: np.random.Generator, workers: Workers) -> None:
        self._generator = generator
        self._rank, self._size = workers.rank, workers.size

    def standard_exponential(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """See `numpy.random.Generator.standard_exponential`."""
        return self._own(self._generator.standard_exponential(self._all(shape), dtype=dtype), shape)

    def standard_normal(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """See `numpy.random.Generator.standard_normal`."""
        return self._own(self._generator.standard_normal(self._all(shape), dtype=dtype), shape)

    def random(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """See `numpy.random.Generator.random`."""
        return self._own(self._generator.random(self._all(shape), dtype=dtype), shape)

    def _all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self._size * shape[0], *shape[1:])

    def _own(self, drawn: Array, shape: tuple[int, ...]) -> Array:
        return drawn[self._rank * shape[0] :][: shape[0]]


RandomSource = np.random.Generator | SharedRandomSource
"""Generators of random numbers for the rows of a batch."""
