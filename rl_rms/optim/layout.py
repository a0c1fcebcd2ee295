"""The layout of an optimizer: the parameters in flat buckets, and the parameters that are updated one by one."""

import operator
from collections import Counter, defaultdict
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_rms.optim.kernels.buckets import FlatBucket, FlatGradients, can_flatten
from rl_rms.optim.kernels.choice import Gradients, allows_buckets
from rl_rms.optim.kernels.loose import collect_loose
from rl_rms.optim.rule import State
from rl_rms.optim.states import complete_state

Groups = list[dict[str, Any]]
States = MutableMapping[Tensor, State]


class _Group(NamedTuple):
    """A parameter group: its buckets, the other parameters, and whether its options allow buckets."""

    params: list[Tensor]
    is_flat: bool
    buckets: list[FlatBucket]
    others: list[Tensor]


class Layout:
    """Flat buckets of all parameter groups, each of one precision and one update history.

    A layout depends on nothing but the parameters, their gradients and their states, so a resumed optimizer has
    the layout of the uninterrupted one.

    Raises:
        ValueError: If a group has ``flat=True`` and a parameter with a gradient that no bucket takes.
    """

    def __init__(self, param_groups: Groups, state: States) -> None:
        # A parameter that is listed twice is updated twice, which one kernel call cannot do.
        uses = Counter(id(param) for group in param_groups for param in group["params"])
        self._repeated = {identity for identity, number in uses.items() if number > 1}
        self._groups = [self._lay_out(group, state) for group in param_groups]
        self._states = list(state.values())

    def _lay_out(self, group: dict[str, Any], state: States) -> _Group:
        is_flat = allows_buckets(group)
        by_past: dict[Any, tuple[list[Tensor], list[State]]] = defaultdict(lambda: ([], []))
        others: list[Tensor] = []
        for param in group["params"]:
            if is_flat and self._takes(param):
                past = complete_state(state[param], param, group)
                key = (param.dtype, past["initial_weight"], float(past["step"]), past["step"].dtype)
                params, states = by_past[key]
                params.append(param)
                states.append(past)
            else:
                others.append(param)
        if group["flat"] is True and is_flat:
            _refuse_stuck(others)
        buckets = [FlatBucket(*members) for members in by_past.values()]
        return _Group(list(group["params"]), is_flat, buckets, others)

    def collect(self, param_groups: Groups, state: States) -> list[list[Gradients]] | None:
        """Read all gradients.

        Returns:
            The gradients of each group. None if the layout no longer describes parameters, gradients and states;
            it must then not be used.

        Raises:
            RuntimeError: If a gradient is sparse, or ``capturable`` is set for a parameter on a CPU.
        """
        if len(param_groups) != len(self._groups) or not self._knows(state):
            return None
        found: list[list[Gradients]] = []
        for own, group in zip(self._groups, param_groups, strict=True):
            if not _are_same(own.params, group["params"]) or own.is_flat != allows_buckets(group):
                return None
            if own.is_flat and any(map(self._takes, own.others)):
                return None
            of_group: list[Gradients] = []
            for bucket in own.buckets:
                gradients = bucket.collect()
                if gradients is None:
                    return None
                of_group.append(gradients)
            found.append(of_group)
        for own, group, of_group in zip(self._groups, param_groups, found, strict=True):
            if own.others:
                of_group.append(collect_loose(own.others, group, state))
        return found

    def _takes(self, param: Tensor) -> bool:
        """Whether a parameter may be in a bucket."""
        grad = param.grad
        return (
            grad is not None
            and grad.layout is torch.strided
            and grad.shape == param.shape
            and can_flatten(param)
            and id(param) not in self._repeated
        )

    def _knows(self, state: Mapping[Tensor, State]) -> bool:
        """Whether all states are those that the buckets were built with."""
        states = state.values()
        # torch hashes tensors in Python, so a look at the keys would cost more than the rest of a step.
        if not _are_same(self._states, states):
            if not all(bucket.owns_states(state) for own in self._groups for bucket in own.buckets):
                return False
            self._states = list(states)
        return True


def collect_gradients(
    layout: Layout | None, param_groups: Groups, state: States
) -> tuple[Layout, list[list[Gradients]]]:
    """Read all gradients with a layout, or with a new one if it does not fit any more.

    Returns:
        The layout that fits, and the gradients of each group.

    Raises:
        RuntimeError: If gradients or states change meanwhile, or a gradient is sparse.
    """
    gradients = None if layout is None else layout.collect(param_groups, state)
    if layout is None or gradients is None:
        layout = Layout(param_groups, state)
        gradients = layout.collect(param_groups, state)
    if gradients is None:
        raise RuntimeError(
            "parameters, gradients or states must not change while step() reads them; keep other threads from "
            "writing to them"
        )
    return layout, gradients


def flat_gradients(collected: list[list[Gradients]]) -> list[FlatGradients]:
    """The gradients that lie in buckets."""
    return [one for group in collected for one in group if isinstance(one, FlatGradients)]


def _are_same(these: Any, those: Any) -> bool:
    """Whether two collections hold the very same objects in the same order."""
    return len(these) == len(those) and all(map(operator.is_, these, those))


def _refuse_stuck(params: list[Tensor]) -> None:
    stuck = [param for param in params if param.grad is not None]
    if stuck:
        raise ValueError(
            "flat=True needs contiguous float32 or float64 parameters on the CPU with dense gradients, got a "
            f'parameter of shape {tuple(stuck[0].shape)}, {stuck[0].dtype}, on {stuck[0].device}; use flat="auto"'
        )
