"""Several processes that train one agent, each with a share of the sub-environments.

All begin with the same weights and random generators, step their own sub-environments, and take the same
optimizer steps. They exchange gradients and a few counts over torch.distributed, never transitions. torchrun and
Ray can start the processes.
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

    Every method but `of_process_group` is a collective operation: all workers must call it, and it returns after
    all have; otherwise it raises `LostWorkersError`. In a group of one process it returns its argument.

    Args:
        rank: Number of this worker, from 0 on.
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
        """The workers of a process group, torch.distributed's default for None; one if it is not initialized."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def sum(self, values: Floats) -> Floats:
        """The sum of all workers' values, which have one shape."""
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
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        with self._collective():
            dist.all_gather(everyone, own, group=self._group)
        return torch.stack(everyone).numpy()

    def all_true(self, holds: bool) -> bool:
        """Whether something holds for every worker."""
        return holds if self.alone else bool(self.sum(np.array([float(not holds)]))[0] == 0.0)

    def broadcast(self, value: Any) -> Any:
        """The first worker's value, which can be pickled."""
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
        for alike in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            with self._collective():
                dist.all_reduce(flat, group=self._group)
            for tensor, summed in zip(alike, torch.split(flat, [tensor.numel() for tensor in alike]), strict=True):
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
        """All workers' episodes in the order in which they ended, with sub-environments numbered over all workers.

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
        for row, one in zip(table, episodes, strict=False):
            success = np.nan if one.success is None else float(one.success)
            row[:] = one.ret, one.length, self.rank * num_envs + one.env_index, one.num_timesteps, success
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
                f"worker {self.rank} of {self.size} waited for the others in vain: one of them has died, or did "
                f"not come in time ({str(error).splitlines()[0]})"
            ) from error


ALONE = Workers()
"""A group of one process."""


class SharedRandomSource:
    """The random numbers of some rows of a larger batch, drawn as for all of it.

    With it every worker's generator goes through the same numbers, so that sub-environments get the same ones
    wherever they are.

    Args:
        generator: The generator; every worker's has the same seed.
        workers: Who shares the batch, each with as many rows.
    """

    def __init__(self, generator: np.random.Generator, workers: Workers) -> None:
        self._generator = generator
        self._rank, self._size = workers.rank, workers.size

    def standard_exponential(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """As a generator's."""
        return self._own(self._generator.standard_exponential(self._all(shape), dtype=dtype), shape)

    def standard_normal(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """As a generator's."""
        return self._own(self._generator.standard_normal(self._all(shape), dtype=dtype), shape)

    def random(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """As a generator's."""
        return self._own(self._generator.random(self._all(shape), dtype=dtype), shape)

    def _all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self._size * shape[0], *shape[1:])

    def _own(self, drawn: Array, shape: tuple[int, ...]) -> Array:
        return drawn[self._rank * shape[0] :][: shape[0]]


RandomSource = np.random.Generator | SharedRandomSource
"""Where random numbers come from that each row of a batch has its own of."""
