"""The plan of a step: the batches of parameters that kernels update. A plan is used in many steps.

A uniform batch (`UniformBatch`) has parameters that the fused kernel can update together.
"""

import operator
from collections import Counter, defaultdict
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_rms.optim.kernels.batch import Batch, UniformBatch
from rl_rms.optim.kernels.choice import allows_uniform
from rl_rms.optim.rule import State
from rl_rms.optim.states import complete_state

Groups = list[dict[str, Any]]
States = MutableMapping[Tensor, State]
Batches = list[tuple[dict[str, Any], Batch]]
"""Batches, each with its parameter group."""

_DTYPES = (torch.float32, torch.float64)
_CAPTURABLE_DEVICES = frozenset({"cuda", "xpu", "hpu", "xla"})


class _Group(NamedTuple):
    """A group's parameters, the options on which its batches depend, its uniform batches, its other parameters."""

    params: list[Tensor]
    options: tuple[Any, ...]
    batches: list[UniformBatch]
    others: list[Tensor]


class Plan:
    """The batches of all parameter groups.

    A plan depends only on the parameters, their gradients, their states and the options. A resumed optimizer
    therefore has the same plan as an uninterrupted optimizer.

    Raises:
        ValueError: If a group has ``fused=True`` and a parameter with a gradient cannot be part of a uniform
            batch, or if a state has a wrong entry.
    """

    def __init__(self, param_groups: Groups, state: States) -> None:
        # A parameter that is listed twice is updated twice. One kernel call cannot update a parameter twice.
        uses = Counter(id(param) for group in param_groups for param in group["params"])
        self._repeated = {identity for identity, number in uses.items() if number > 1}
        self._groups = [self._plan(group, state) for group in param_groups]
        self._states = list(state.values())

    def _plan(self, group: dict[str, Any], state: States) -> _Group:
        options = _options(group)
        by_past: dict[Any, tuple[list[Tensor], list[State]]] = defaultdict(lambda: ([], []))
        others: list[Tensor] = []
        for param in group["params"]:
            if options[0] and self._takes(param):
                past = complete_state(state[param], param, group)
                params, states = by_past[param.dtype, past["initial_weight"], past["step"].dtype]
                params.append(param)
                states.append(past)
            else:
                others.append(param)
                if options[0] and group["fused"] and param.grad is not None:
                    raise ValueError(
                        "fused=True needs contiguous float32 or float64 parameters on the CPU with dense, "
                        f"contiguous gradients, got a parameter of shape {tuple(param.shape)}, {param.dtype}, on "
                        f"{param.device}; use fused=None"
                    )
        batches = [UniformBatch(*members) for members in by_past.values()]
        return _Group(list(group["params"]), options, batches, others)

    def collect(self, param_groups: Groups, state: States) -> Batches | None:
        """Read all gradients.

        Returns:
            The batches. None if a new plan is needed, because the parameters or states are other objects, the
            layout of a parameter or gradient is different, or an option on which batches depend has another value.

        Raises:
            RuntimeError: If a gradient is sparse, or ``capturable`` is set for a parameter on a CPU.
            ValueError: If a state has a wrong entry.
        """
        # The keys of ``state`` are not compared, because hashing the tensors would take longer than the rest of a
        # step.
        if len(param_groups) != len(self._groups) or not _are_same(self._states, state.values()):
            return None
        batches: Batches = []
        for own, group in zip(self._groups, param_groups, strict=True):
            if not _are_same(own.params, group["params"]) or own.options != _options(group):
                return None
            for batch in own.batches:
                if not batch.collect():
                    return None
                batches.append((group, batch))
            if own.others:
                if own.options[0] and any(map(self._takes, own.others)):
                    return None
                others = _collect_others(own.others, group, state)
                if others.params:
                    batches.append((group, others))
                self._states = list(state.values())
        return batches

    def _takes(self, param: Tensor) -> bool:
        """Whether a parameter can be part of a uniform batch."""
        grad = param.grad
        return (
            grad is not None
            and type(param.data) is Tensor
            and param.is_cpu
            and param.dtype in _DTYPES
            and all(
                (one.layout, one.dtype, one.shape) == (torch.strided, param.dtype, param.shape)
                and one.is_contiguous()
                for one in (param, grad)
            )
            and param.numel() > 0
            and id(param) not in self._repeated
        )


def collect_batches(plan: Plan | None, param_groups: Groups, state: States) -> tuple[Plan, Batches]:
    """Read all gradients with the old plan, or with a new plan if the old plan is no longer valid.

    Returns:
        The plan used in this step, and its batches.

    Raises:
        ValueError: As in `Plan`.
        RuntimeError: If parameters, gradients or states change during the call, a gradient is sparse, or
            ``capturable`` is set for a parameter on a CPU.
    """
    batches = None if plan is None else plan.collect(param_groups, state)
    if plan is None or batches is None:
        plan = Plan(param_groups, state)
        batches = plan.collect(param_groups, state)
    if batches is None:
        raise RuntimeError(
            "parameters, gradients or states must not change while step() reads them; keep other threads from "
            "writing to them"
        )
    return plan, batches


def _options(group: Mapping[str, Any]) -> tuple[Any, ...]:
    """The options on which a group's batches depend. The first entry is True if the batches may be uniform."""
    return allows_uniform(group), bool(group["momentum"]), bool(group["optimism"]), bool(group["centered"])


def _collect_others(params: list[Tensor], group: dict[str, Any], states: States) -> Batch:
    """The batch of all parameters that have a gradient, with complete states."""
    params = [param for param in params if param.grad is not None]
    grads = [param.grad for param in params if param.grad is not None]
    for param, grad in zip(params, grads, strict=True):
        if grad.layout is not torch.strided:
            raise RuntimeError(
                "RMSprop does not support sparse gradients, got one for a parameter of shape "
                f"{tuple(param.shape)}; build the embedding with sparse=False"
            )
        if group["capturable"] and param.device.type not in _CAPTURABLE_DEVICES:
            raise RuntimeError(
                f"capturable=True needs parameters on a device of {sorted(_CAPTURABLE_DEVICES)}, got a parameter "
                f"on {param.device.type}; leave capturable out"
            )
    return Batch(params, grads, [complete_state(states[param], param, group) for param in params])


def _are_same(these: Any, those: Any) -> bool:
    """Whether two collections hold the same objects in the same order."""
    return len(these) == len(those) and all(map(operator.is_, these, those))
