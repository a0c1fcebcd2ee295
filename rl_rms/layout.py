"""Where an optimizer's parameters lie: which in flat buckets, which by themselves, and whether it is still so."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_rms.flat import FlatBucket, can_flatten
from rl_rms.update import State, real

Groups = list[dict[str, Any]]
Places = list[list[list[int]]]
_get_grad = operator.attrgetter("grad")
_get_others = operator.attrgetter("others")
_get_is_in_place = operator.attrgetter("is_in_place")


class _Group(NamedTuple):
    """A parameter group: its buckets, and what lies by itself, some of it only until it has a gradient."""

    params: list[Tensor]
    is_flat: bool
    buckets: list[FlatBucket]
    others: list[Tensor]
    waiting: list[Tensor]


class Layout:
    """Flat buckets for what may be moved of all parameter groups, each of one precision and one past.

    Args:
        param_groups: The optimizer's groups; whatever has a gradient now and may be moved is moved.
        state: The optimizer's states.
        make_state: Gives a parameter's state, made if it has none, for a parameter and its group.
        flat: Whether to make buckets at all.
        like: What `places` told of a layout that is to be made again, as far as parameters and states allow it.

    Attributes:
        groups: One entry for each parameter group.
        buckets: All buckets.

    Raises:
        ValueError: If a group has ``flat=True`` and a parameter with a gradient that cannot be moved.
    """

    def __init__(
        self,
        param_groups: Groups,
        state: Mapping[Tensor, State],
        make_state: Callable[[Tensor, dict[str, Any]], State],
        *,
        flat: bool,
        like: Places | None = None,
    ) -> None:
        # What two parameters share would come apart.
        uses = Counter(_storage(param) for group in param_groups for param in group["params"])
        self.groups: list[_Group] = []
        for i, group in enumerate(param_groups):
            is_flat = _may_be_flat(group)
            before = _bucket_by_param(group, like[i]) if like is not None and i < len(like) else None
            movable: list[Tensor] = []
            others: list[Tensor] = []
            waiting: list[Tensor] = []
            for param in group["params"]:
                if flat and is_flat and uses[_storage(param)] == 1:
                    moves = _is_flattenable(param) if before is None else param in before and can_flatten(param)
                    (movable if moves else waiting).append(param)
                else:
                    others.append(param)
            if group["flat"] is True and flat and is_flat and before is None:
                _refuse_stuck([*others, *waiting])
            by_past: dict[Any, tuple[list[Tensor], list[State]]] = defaultdict(lambda: ([], []))
            for param in movable:
                param_state = make_state(param, group)
                bucket = 0 if before is None else before[param]
                params, states = by_past[bucket, param.dtype, param_state["initial_weight"]]
                params.append(param)
                states.append(param_state)
            buckets = [FlatBucket(*members) for members in by_past.values()]
            self.groups.append(_Group(list(group["params"]), is_flat, buckets, others + waiting, waiting))
        self.buckets = [bucket for group in self.groups for bucket in group.buckets]
        self._flat = flat
        self._states = list(state.values())

    def collect(self, param_groups: Groups, state: Mapping[Tensor, State]) -> bool:
        """Have every bucket collect its gradients.

        Args:
            param_groups: The optimizer's present groups.
            state: Its present states.

        Returns:
            Whether everything still lies where it lay and has a gradient if it had one; if not, a new layout is
            wanted.
        """
        if len(param_groups) != len(self.groups) or not self._knows(state):
            return False
        for own, group in zip(self.groups, param_groups, strict=True):
            if not _are_same(own.params, group["params"]) or (self._flat and own.is_flat != _may_be_flat(group)):
                return False
            for param in own.waiting:
                if _is_flattenable(param):
                    return False
        return all(map(FlatBucket.collect, self.buckets))

    def places(self) -> Places:
        """Which parameters lie in which bucket, as plain data: by group and bucket, their numbers in the group."""
        number = [{id(param): i for i, param in enumerate(group.params)} for group in self.groups]
        return [
            [[numbers[id(param)] for param in bucket.params] for bucket in group.buckets]
            for numbers, group in zip(number, self.groups, strict=True)
        ]

    def is_in_place(self) -> bool:
        """Whether all parameters lie in buckets, and their gradients did at the last `collect`."""
        return not any(map(_get_others, self.groups)) and all(map(_get_is_in_place, self.buckets))

    def gradients(self) -> list[Tensor]:
        """All gradients as of the last `collect`, those of a bucket as one tensor where it is whole."""
        grads = [grad for bucket in self.buckets for grad in bucket.gradients]
        return grads + [
            real(grad) for group in self.groups for grad in map(_get_grad, group.others) if grad is not None
        ]

    def zero_grad(self, param_groups: Groups) -> bool:
        """Set all gradients to 0 in their buckets.

        Args:
            param_groups: The optimizer's present groups.

        Returns:
            Whether that could be done.
        """
        if len(param_groups) != len(self.groups):
            return False
        for own, group in zip(self.groups, param_groups, strict=True):
            if own.others or not _are_same(own.params, group["params"]):
                return False
        return all(map(FlatBucket.zero_grad, self.buckets))

    def _knows(self, state: Mapping[Tensor, State]) -> bool:
        """Whether all states are those that the buckets were built with."""
        states = state.values()
        # Without a look at the keys: torch hashes tensors in Python, which costs more than all the rest.
        if not _are_same(self._states, states):
            if not all(bucket.owns_states(state) for bucket in self.buckets):
                return False
            self._states = list(states)
        return True


def _bucket_by_param(group: dict[str, Any], places: list[list[int]]) -> dict[Tensor, int]:
    """Which bucket each of a group's parameters lay in, for those that lay in one."""
    params = group["params"]
    return {params[i]: bucket for bucket, members in enumerate(places) for i in members if i < len(params)}


def _are_same(these: Any, those: Any) -> bool:
    """Whether two collections hold the very same objects in the same order."""
    return len(these) == len(those) and all(map(operator.is_, these, those))


def _may_be_flat(group: dict[str, Any]) -> bool:
    """Whether a group's options leave its parameters to flat buckets."""
    lr = group["lr"]
    return (
        group["flat"] is not False
        and not (group["differentiable"] or group["capturable"] or group["foreach"])
        and not torch.is_inference_mode_enabled()
        and not (isinstance(lr, Tensor) and (lr.requires_grad or lr.device.type != "cpu"))
    )


def _is_flattenable(param: Tensor) -> bool:
    return param.grad is not None and not param.grad.is_sparse and can_flatten(param)


def _storage(param: Tensor) -> int:
    """What tells the memory of a parameter from others'."""
    try:
        return param.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # it has none, as a sparse one, or hides it
        return id(param)


def _refuse_stuck(params: list[Tensor]) -> None:
    stuck = [param for param in params if param.grad is not None]
    if stuck:
        raise ValueError(
            "flat=True needs dense float32 or float64 parameters on the CPU with memory of their own, got one of "
            f'shape {tuple(stuck[0].shape)}, {stuck[0].dtype}, on {stuck[0].device}; use flat="auto"'
        )
