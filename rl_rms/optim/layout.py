"""Which parameters of an optimizer are updated in flat buckets, and which one by one."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_rms.optim.flat import FlatBucket, can_flatten
from rl_rms.optim.rule import State, real

Groups = list[dict[str, Any]]
_get_grad = operator.attrgetter("grad")


class _Group(NamedTuple):
    """A parameter group: its buckets, the other parameters, and whether its options allow buckets."""

    params: list[Tensor]
    is_flat: bool
    buckets: list[FlatBucket]
    others: list[Tensor]


class Layout:
    """Flat buckets of all parameter groups, each of one precision and one past.

    A layout depends on nothing but the parameters, their gradients and their states, so a resumed optimizer has
    the layout of the uninterrupted one.

    Args:
        param_groups: The optimizer's groups.
        state: The optimizer's states.
        make_state: Returns the state of a parameter of a group, made if it has none.

    Attributes:
        groups: One entry for each parameter group.
        buckets: All buckets.

    Raises:
        ValueError: If a group has ``flat=True`` and a parameter with a gradient that no bucket takes.
    """

    def __init__(
        self,
        param_groups: Groups,
        state: Mapping[Tensor, State],
        make_state: Callable[[Tensor, dict[str, Any]], State],
    ) -> None:
        # A parameter that is listed twice is updated twice, which a list of one kernel call does not say.
        uses = Counter(id(param) for group in param_groups for param in group["params"])
        self._repeated = {identity for identity, number in uses.items() if number > 1}
        self.groups: list[_Group] = []
        for group in param_groups:
            is_flat = _may_be_flat(group)
            by_past: dict[Any, tuple[list[Tensor], list[State]]] = defaultdict(lambda: ([], []))
            others: list[Tensor] = []
            for param in group["params"]:
                if is_flat and self._takes(param):
                    past = make_state(param, group)
                    key = (param.dtype, past["initial_weight"], float(past["step"]), past["step"].dtype)
                    params, states = by_past[key]
                    params.append(param)
                    states.append(past)
                else:
                    others.append(param)
            if group["flat"] is True and is_flat:
                _refuse_stuck(others)
            buckets = [FlatBucket(*members) for members in by_past.values()]
            self.groups.append(_Group(list(group["params"]), is_flat, buckets, others))
        self.buckets = [bucket for group in self.groups for bucket in group.buckets]
        self._states = list(state.values())

    def collect(self, param_groups: Groups, state: Mapping[Tensor, State]) -> bool:
        """Have every bucket collect its gradients.

        Args:
            param_groups: The optimizer's present groups.
            state: Its present states.

        Returns:
            Whether the layout still describes parameters, gradients and states. If not, it must not be used.
        """
        if len(param_groups) != len(self.groups) or not self._knows(state):
            return False
        for own, group in zip(self.groups, param_groups, strict=True):
            if not _are_same(own.params, group["params"]) or own.is_flat != _may_be_flat(group):
                return False
            if own.is_flat and any(map(self._takes, own.others)):
                return False
        return all(map(FlatBucket.collect, self.buckets))

    def gradients(self) -> list[Tensor]:
        """All gradients as of the last `collect`, those of a small bucket as one tensor."""
        grads = [grad for bucket in self.buckets for grad in bucket.gradients]
        return grads + [
            real(grad) for group in self.groups for grad in map(_get_grad, group.others) if grad is not None
        ]

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
            if not all(bucket.owns_states(state) for bucket in self.buckets):
                return False
            self._states = list(states)
        return True


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


def _refuse_stuck(params: list[Tensor]) -> None:
    stuck = [param for param in params if param.grad is not None]
    if stuck:
        raise ValueError(
            "flat=True needs contiguous float32 or float64 parameters on the CPU with dense gradients, got a "
            f'parameter of shape {tuple(stuck[0].shape)}, {stuck[0].dtype}, on {stuck[0].device}; use flat="auto"'
        )
