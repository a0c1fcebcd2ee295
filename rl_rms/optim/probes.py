"""Probes: a few fixed coordinates of the gradient, from which half-lives are estimated.

Reading sixteen coordinates costs a few microseconds for any size of the network.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.kernels.buckets import FlatBucket, FlatGradients
from rl_rms.optim.rule import gathered, real

_SEED = 0


class Probes:
    """Records the gradient of some coordinates, drawn once among all that have one, in blocks of updates.

    Args:
        params: Parameters that have a gradient, with at least one coordinate together.
        num_probes: Number of coordinates; all if there are fewer.
        block: Updates in a block.
    """

    def __init__(self, params: list[Tensor], num_probes: int, block: int) -> None:
        sizes = torch.tensor([real(param).numel() for param in params])
        ends = torch.cumsum(sizes, 0)
        total = int(ends[-1])
        drawn = torch.randint(total, (4 * num_probes,), generator=torch.Generator().manual_seed(_SEED)).tolist()
        distinct = dict.fromkeys(drawn if total > num_probes else range(total))
        chosen = torch.tensor(list(distinct)[:num_probes])
        owners = torch.searchsorted(ends, chosen, right=True)
        offsets = chosen - (ends - sizes)[owners]
        self._coordinates = [
            (params[owner], offset) for owner, offset in zip(owners, offsets.tolist(), strict=True)
        ]
        double = any(real(param).dtype is torch.float64 for param in params)
        self._block = torch.zeros(block, len(chosen), dtype=torch.float64 if double else torch.float32)
        self._rows = list(self._block)
        self._filled = 0
        self._buckets: list[FlatBucket] | None = None
        # For buckets: number, indices, columns (None for all). For others, by device: parameter, offset, column.
        self._flat: list[tuple[int, Tensor, Tensor | None]] = []
        self._others: list[list[tuple[Tensor, int, int]]] = []

    def record(self, flat: Iterable[FlatGradients] = ()) -> Tensor | None:
        """Read the gradients of one update, after clipping.

        Returns:
            A full block, of shape ``(block, num_probes)``, oldest update first, valid until the next call; None
            while it fills. A parameter without gradient has 0 there.
        """
        whole = [gradients for gradients in flat if gradients.bucket.is_whole]
        buckets = [gradients.bucket for gradients in whole]
        if buckets != self._buckets:
            self._buckets = buckets
            self._find_sources(buckets)
        row = self._rows[self._filled]
        for number, indices, columns in self._flat:
            grad = whole[number].gathered()
            if columns is None:
                torch.index_select(grad, 0, indices, out=row)
            else:
                row[columns] = grad[indices].to(row.dtype)
        for coordinates in self._others:
            values = [
                torch.zeros((), device=param.device) if param.grad is None else _flat_gradient(param.grad)[offset]
                for param, offset, _ in coordinates
            ]
            row[[column for _, _, column in coordinates]] = torch.stack(values).to(row)
        self._filled = (self._filled + 1) % len(self._rows)
        return self._block if self._filled == 0 else None

    def state_dict(self) -> dict[str, Any]:
        """The block in progress."""
        return {"block": self._block.clone(), "filled": self._filled}

    @staticmethod
    def is_state(state: Any) -> bool:
        """Whether something is a `state_dict` of probes."""
        if not isinstance(state, dict):
            return False
        block, filled = state.get("block"), state.get("filled")
        return (
            isinstance(block, Tensor)
            and block.is_floating_point()
            and block.layout is torch.strided
            and isinstance(filled, int)
            and block.ndim == 2
            and 0 <= filled < len(block)
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with a block from `state_dict`, if its shape fits."""
        if state["block"].shape == self._block.shape:
            self._block.copy_(state["block"])
            self._filled = int(state["filled"])

    def _find_sources(self, buckets: list[FlatBucket]) -> None:
        starts = {
            param: (number, start) for number, bucket in enumerate(buckets) for param, start in bucket.starts()
        }
        flat = defaultdict(list)
        others = defaultdict(list)
        for column, (param, offset) in enumerate(self._coordinates):
            if param in starts:
                number, start = starts[param]
                flat[number].append((start + offset, column))
            else:
                others[param.device, real(param).dtype].append((param, offset, column))
        self._flat = []
        for number, entries in flat.items():
            # In the columns' own order, so that a row may be filled as a whole.
            indices, columns = torch.tensor(entries).T.contiguous()
            fills_row = len(entries) == len(self._coordinates) and buckets[number].dtype == self._block.dtype
            self._flat.append((number, indices, None if fills_row else columns))
        self._others = list(others.values())


def _flat_gradient(grad: Tensor) -> Tensor:
    """All coordinates of a gradient, gathered from all processes if it is distributed."""
    return real(gathered(grad.detach())).reshape(-1)
