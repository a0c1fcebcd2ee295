"""The interface of half-life estimators, for ``half_life="match"`` and ``half_life="auto"``.

The optimizer passes the clipped gradients of a few fixed coordinates, the probes, to an estimator. Before every
update the optimizer reads the estimator's half-life. The time that an estimate takes does not depend on the size
of the network.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor


class HalfLifeEstimator(ABC):
    """Estimates the half-life of an optimizer's second moment during training.

    Attributes:
        block: Updates between two calls of `observe`.
        num_probes: Largest number of coordinates to observe.
        timescale: Autocorrelation time of the environment's changes, in updates. The optimizer sets this attribute
            for ``half_life="match"``; for ``"auto"`` the timescale stays infinite.

    Args:
        bounds: Shortest and longest half-life in updates.

    Raises:
        ValueError: Unless ``0 < shortest <= longest``.
    """

    block: ClassVar[int] = 16
    num_probes: ClassVar[int] = 16
    timescale: float = math.inf

    def __init__(self, bounds: tuple[float, float] = (32.0, 10_000.0)) -> None:
        self.bounds = bounds

    @property
    def bounds(self) -> tuple[float, float]:
        """Shortest and longest half-life in updates; may be set at any time."""
        return self._bounds

    @bounds.setter
    def bounds(self, bounds: tuple[float, float]) -> None:
        shortest, longest = bounds
        if not 0.0 < shortest <= longest:
            raise ValueError(
                "the bounds of a half-life must be (shortest, longest) in updates, with 0 < shortest <= longest, "
                f"got {bounds!r}"
            )
        self._bounds = (float(shortest), float(longest))

    @property
    def half_life(self) -> float:
        """The half-life in updates that the next update should use, within the bounds."""
        shortest, longest = self._bounds
        return min(max(self.unbounded_half_life(), shortest), longest)

    @abstractmethod
    def observe(self, grads: Tensor) -> None:
        """Observe the probes' gradients since the last call.

        Args:
            grads: Gradients of shape (block, at most num_probes), oldest first. An estimator must ignore
                non-finite values, and zeros, which dead units have.
        """

    @abstractmethod
    def diagnostics(self) -> dict[str, float]:
        """Finite numbers for the log, by name."""

    def state_dict(self) -> dict[str, Any]:
        """The exported state with the class name. The bounds are not included."""
        return {"estimator": type(self).__name__, **self.export_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`.

        Args:
            state: State of the same class, with any number of probes.

        Raises:
            ValueError: If the state belongs to another class, or an entry is missing, or has the wrong type or
                shape.
        """
        name, own = state.get("estimator"), type(self).__name__
        if name != own:
            raise ValueError(
                f"cannot load the state of the estimator {name!r} into {own!r}; choose the estimator of the run "
                "that was saved"
            )
        present = self.export_state()
        missing = present.keys() - state.keys()
        if missing:
            raise ValueError(
                f"the state of {own} must hold {sorted(missing)}, got {sorted(state)}; save the optimizer again"
            )
        for key, value in present.items():
            if not _is_alike(state[key], value):
                raise ValueError(
                    f"{key!r} in the state of {own} has another type or shape than in this estimator, which has "
                    f"{value!r:.100}, got {state[key]!r:.100}; load a state that this estimator's optimizer saved"
                )
        self.restore_state({key: _copy(value) for key, value in state.items()})

    @abstractmethod
    def unbounded_half_life(self) -> float:
        """The half-life in updates before it is clipped to the bounds; may be infinite."""

    @abstractmethod
    def export_state(self) -> dict[str, Any]:
        """Copy everything that `restore_state` needs: tensors, numbers, strings and lists of numbers."""

    @abstractmethod
    def restore_state(self, state: dict[str, Any]) -> None:
        """Load an exported state. `load_state_dict` has checked its keys, types and shapes."""


def known_gradients(grads: Tensor) -> tuple[Tensor, Tensor]:
    """Convert gradients to float64, and return the mask of known gradients, which are finite and not 0.

    Non-finite gradients become 0. The mask is 1 for known gradients and 0 for others.
    """
    grads = grads.detach().to(torch.float64).nan_to_num(0.0, 0.0, 0.0)
    return grads, (grads != 0).to(torch.float64)


def _is_alike(given: Any, present: Any) -> bool:
    """Whether a saved entry has the type and the shape of the current entry. The number of probes may differ."""
    if isinstance(present, Tensor):
        return (
            isinstance(given, Tensor)
            and given.is_floating_point() == present.is_floating_point()
            and not given.is_complex()
            and given.layout is torch.strided
            and given.shape[:-1] == present.shape[:-1]
            and given.ndim == present.ndim
        )
    if isinstance(present, list):
        return isinstance(given, list) and len(given) == len(present) and all(map(_is_alike, given, present))
    if isinstance(present, float):
        return isinstance(given, float | int) and not isinstance(given, bool)
    if isinstance(present, int):
        return isinstance(given, int) and not isinstance(given, bool) and given >= 0
    return type(given) is type(present)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
