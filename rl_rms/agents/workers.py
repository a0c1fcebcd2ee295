"""Several processes that train one agent, each with a share of the sub-environments.

All workers begin with the same weights and random generators, step their own sub-environments, and take the same
optimizer steps. They exchange gradients and a few counts through torch.distributed, never transitions. torchrun
and Ray can start the processes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from rl_rms.agents.rollout import Episode

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class LostWorkersError(RuntimeError):
    """Another worker has died, or did not answer within the group's time limit."""


class Workers:
    """The group of processes that train one agent together.

    Every method except `of_process_group` is a collective operation: it returns after all workers have called it,
    and raises `LostWorkersError` if they do not. In a group of one process it returns its argument.

    Args:
        rank: Number of this worker, from 0.
        size: Number of workers.
        group: The process group; None is torch.distributed's default.

    Examples:
        >>> alone = Workers()
        >>> alone.alone, alone.sum(np.array([3.0])).tolist()
        (True, [3.0])
    """

    def __init__(self, rank: int = 0, size: int = 1, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.size = rank, size
        self._group = group
        self.alone = size == 1

    @classmethod
    def of_process_group(cls, group: dist.ProcessGroup | None = None) -> "Workers":
        """The workers of a process group (None: torch.distributed's default); one worker if not initialized."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def sum(self, values: Floats) -> Floats:
        """The sum of all workers' values, which have the same shape."""
        if self.alone:
            return values
        total = torch.from_numpy(np.array(values, dtype=np.float64))
        with self._collective():
            dist.all_reduce(total, group=self._group)
        return total.numpy()

    def all_gather(self, values: Floats) -> Floats:
        """All workers' values by rank, shape ``(size, *shape)``."""
        own = torch.from_numpy(np.array(values, dtype=np.float64))
        if self.alone:
            return own.numpy()[None]
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        with self._collective():
            dist.all_gather(gathered, own, group=self._group)
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
            dist.broadcast_object_list(values, group=self._group, group_src=0)
        return values[0]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all workers."""
        if self.alone:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            with self._collective():
                dist.all_reduce(flat, group=self._group)
            for tensor, summed in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(summed.view_as(tensor))

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

    def episodes(self, episodes: Sequence[Episode], counts: Sequence[int], num_envs: int) -> list[Episode]:
        """All workers' episodes in the order of their ends, with sub-environments numbered across workers.

        Args:
            episodes: This worker's episodes.
            counts: Number of episodes of each worker, by rank.
            num_envs: Sub-environments of each worker.
        """
        if self.alone:
            return list(episodes)
        if max(counts) == 0:
            return []
        table = np.full((max(counts), 5), np.nan)
        for row, episode in zip(table, episodes, strict=False):
            success = np.nan if episode.success is None else float(episode.success)
            index = self.rank * num_envs + episode.env_index
            row[:] = episode.ret, episode.length, index, episode.num_timesteps, success
        rows = [
            row
            for part, count in zip(self.all_gather(table), counts, strict=True)
            for row in part[:count].tolist()
        ]
        rows.sort(key=lambda row: (row[3], row[2]))
        return [
            Episode(ret, int(length), int(index), int(steps), None if np.isnan(success) else bool(success))
            for ret, length, index, steps, success in rows
        ]

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostWorkersError(
                f"worker {self.rank} of {self.size} waited for the others in vain: a worker has died or did not "
                f"answer in time ({str(error).splitlines()[0]})"
            ) from error


ALONE = Workers()
"""A group of one process."""


class SharedRandomSource:
    """A random generator for this worker's rows of a batch of all workers.

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
