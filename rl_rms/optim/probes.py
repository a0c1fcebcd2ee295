"""Probes: a few fixed coordinates of the gradient. Half-life estimators read only the probes.

The time to read the probes does not depend on the size of the network.
"""

from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.rule import gathered, real

_SEED = 0


class Probes:
    """Records the gradients of up to ``num_probes`` randomly drawn coordinates, in blocks of updates.

    Args:
        params: Parameters that have a gradient. Together, the parameters must have at least one coordinate.
        num_probes: Maximum number of coordinates.
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
        # For each parameter with probes: the probes' coordinates in its flattened gradient.
        self._sources = [
            (params[owner], offsets[owners == owner].to(params[owner].device))
            for owner in sorted(set(owners.tolist()))
        ]
        double = any(real(param).dtype is torch.float64 for param in params)
        self._block = torch.zeros(block, len(chosen), dtype=torch.float64 if double else torch.float32)
        self._rows = list(self._block)
        self._filled = 0

    def record(self) -> Tensor | None:
        """Read the gradients of one update, after clipping and without autograd.

        Returns:
            None until the block is full; then the block's gradients, oldest update first, shape
            ``(block, num_probes)``. The next call overwrites this tensor. Parameters without a gradient have
            zeros.
        """
        row = self._rows[self._filled]
        torch.cat([_take(param.grad, offsets) for param, offsets in self._sources], out=row)
        self._filled = (self._filled + 1) % len(self._rows)
        return self._block if self._filled == 0 else None

    def state_dict(self) -> dict[str, Any]:
        """The unfinished block."""
        return {"block": self._block.clone(), "filled": self._filled}

    @staticmethod
    def is_state(state: Any) -> bool:
        """Whether a value is a `state_dict` of probes."""
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
        """Load the unfinished block of a `state_dict`. A block of another shape is ignored."""
        if state["block"].shape == self._block.shape:
            self._block.copy_(state["block"])
            self._filled = int(state["filled"])


def _take(grad: Tensor | None, offsets: Tensor) -> Tensor:
    """Read coordinates of a gradient, from all processes if it is distributed; 0 without a gradient."""
    if grad is None:
        return torch.zeros(offsets.shape)
    return torch.take(real(gathered(grad)), offsets).cpu()
