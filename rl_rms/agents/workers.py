"""Several processes that train one agent together, each in its share of the sub-environments.

All begin with the same weights and the same random generators, live through their own sub-environments, and take
the same optimizer steps: what goes between them is gradients and a few counts, never transitions. It goes over
torch.distributed; who starts the processes, torchrun or Ray, makes no difference.
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
    """A worker waited for the others in vain: one has died, or did not come within the group's time limit."""


class Workers:
    """The processes that train one agent together, as one of them sees them.

    Every method but `of_process_group` is a meeting: all workers have to call it, and none goes on before all
    have; where that does not happen it raises `LostWorkersError`. Alone it gives back what it was given.

    Args:
        rank: Number of this worker, from 0 on.
        size: How many there are.
        group: The process group that they meet in; None is torch.distributed's own.

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
        """Those of a process group, of torch.distributed's own by default; alone where that is not initialized."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def sum(self, values: Floats) -> Floats:
        """The sum of everyone's values, of the same shape everywhere."""
        if self.alone:
            return values
        total = torch.from_numpy(np.array(values, dtype=np.float64))
        with self._meeting():
            dist.all_reduce(total, group=self._group)
        return total.numpy()

    def rows(self, values: Floats) -> Floats:
        """Everyone's values, of the same shape everywhere, by rank: shape ``(size, *shape)``."""
        own = torch.from_numpy(np.array(values, dtype=np.float64))
        if self.alone:
            return own.numpy()[None]
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        with self._meeting():
            dist.all_gather(everyone, own, group=self._group)
        return torch.stack(everyone).numpy()

    def every(self, holds: bool) -> bool:
        """Whether something holds for every worker."""
        return holds if self.alone else bool(self.sum(np.array([float(not holds)]))[0] == 0.0)

    def tell(self, value: Any) -> Any:
        """The first worker's value, everywhere; of any kind that can be pickled."""
        if self.alone:
            return value
        told = [value]
        with self._meeting():
            dist.broadcast_object_list(told, group=self._group, group_src=0)
        return told[0]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum of everyone's tensors in their place."""
        if self.alone:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for alike in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            with self._meeting():
                dist.all_reduce(flat, group=self._group)
            for tensor, summed in zip(alike, torch.split(flat, [tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        """The weighted mean of everyone's numbers, which have the same names everywhere.

        Args:
            metrics: The numbers.
            weight: How much this worker's count.
        """
        if self.alone:
            return dict(metrics)
        names = sorted(metrics)
        # Without any weight they may be nan, as the mean of nothing is.
        own = np.array([*(metrics[name] for name in names), 1.0]) if weight else np.zeros(len(names) + 1)
        summed = self.sum(weight * own)
        return dict(zip(names, (summed[:-1] / summed[-1]).tolist(), strict=True))

    def episodes(self, episodes: Sequence[Episode], counts: Sequence[int], num_envs: int) -> list[Episode]:
        """Everyone's episodes in the order in which they ended, sub-environments numbered through.

        Args:
            episodes: This worker's.
            counts: How many each worker has, by rank.
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
        rows = [row for part, count in zip(self.rows(table), counts, strict=True) for row in part[:count].tolist()]
        rows.sort(key=lambda row: (row[3], row[2]))
        return [
            Episode(ret, int(length), int(index), int(steps), None if np.isnan(success) else bool(success))
            for ret, length, index, steps, success in rows
        ]

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostWorkersError(
                f"worker {self.rank} of {self.size} waited for the others in vain: one of them has died, or did "
                f"not come in time ({str(error).splitlines()[0]})"
            ) from error


ALONE = Workers()
"""Nobody else: what training in one process goes by."""


class SharedChance:
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


Chance = np.random.Generator | SharedChance
"""Where random numbers come from that each row of a batch has its own of."""
