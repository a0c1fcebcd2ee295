"""RMSprop for samples of several groups, such as two populations or two kinds of environments.

A group with noisy gradients has a large second moment. If all groups share one second moment, the noisy groups
shorten the steps of all groups. `GroupRMSprop` keeps a second moment for each group k. The weight of group k is
``w_k``:

    v_k <- rho v_k + (1 - rho) g_k*g_k
    u   =  sum_k w_k g_k / (sqrt(v^_k) + eps)
    p   <- p - lr u

With a single group, this update equals RMSprop with bias correction.

With ``equalize``, the optimizer scales the gradient of each group, so that its noise equals the average noise of
the groups. A single second moment then normalizes the sum of the scaled gradients. ``t_k`` is the number of
updates of group k:

    m_k <- rho m_k + (1 - rho) g_k
    s_k =  sqrt((v_k - m_k**2) / (1 - rho**t_k)),  s = sqrt(sum_k w_k s_k**2)
    g   =  sum_k w_k g_k (s + eps) / (s_k + eps)
    v   <- rho v + (1 - rho) g*g
    p   <- p - lr g / (sqrt(v^) + eps)

``v^`` and the variances are bias-corrected, so a group that appears late is treated like the other groups. With or
without ``equalize``, the updates do not minimize the mean loss over groups. A parameter that groups share
converges to the point at which the scaled gradients of the groups cancel. This point favors groups with little
noise. The optimum of parameters that belong to only one group does not move.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from rl_rms.half_life import HalfLife, check_positive, is_number
from rl_rms.optim.rule import denominator, real, rmsprop_init, rmsprop_update, second_moment
from rl_rms.optim.states import checked_state

Label: TypeAlias = int | str
Gradients: TypeAlias = Mapping[Label, Sequence[Tensor | None]]
"""For each group in a batch: one gradient per parameter; None if a parameter has no gradient."""

# The options of the moments that a checkpoint holds, for `checked_state`.
_OPTIONS = {"momentum": 0, "optimism": 0, "centered": False, "initial_second_moment": 0.0, "alpha": None}


def group_gradients(losses: Tensor, groups: Tensor, params: Iterable[Tensor]) -> dict[Label, list[Tensor | None]]:
    """Compute the gradients of the groups' mean losses, with one backward pass for each group in the batch.

    Args:
        losses: Loss of each sample, such as ``-log_prob * advantage + vf_coef * value_loss``, shape
            ``(num_samples,)``.
        groups: Group of each sample, whole numbers, shape ``(num_samples,)``.
        params: The optimizer's parameters, in the optimizer's order.

    Returns:
        Gradients by group, in the order of ``params``; None for a parameter that is frozen or on which the group's
        losses do not depend. The parameters' ``.grad`` does not change.

    Raises:
        ValueError: Unless both shapes are ``(num_samples,)`` and the groups are whole numbers.

    Examples:
        >>> weight = torch.tensor(2.0, requires_grad=True)
        >>> samples, groups = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1])
        >>> group_gradients(weight * samples, groups, [weight])
        {0: [tensor(2.)], 1: [tensor(5.)]}
    """
    if losses.ndim != 1 or groups.shape != losses.shape:
        raise ValueError(
            "losses and groups must both have the shape (num_samples,), got "
            f"{tuple(losses.shape)} and {tuple(groups.shape)}; flatten them, and do not average the losses"
        )
    if groups.is_floating_point() or groups.is_complex():
        raise ValueError(f"groups must be whole numbers, got {groups.dtype}; convert them with groups.long()")
    params = list(params)
    trained = [param for param in params if param.requires_grad]
    gradients: dict[Label, list[Tensor | None]] = {}
    for label in torch.unique(groups).tolist():
        mean = losses[groups == label].mean()
        found = iter(torch.autograd.grad(mean, trained, retain_graph=True, allow_unused=True))
        gradients[label] = [next(found) if param.requires_grad else None for param in params]
    return gradients


class GroupRMSprop(Optimizer):
    """RMSprop with a second moment for each group of samples, or with equalized noise and one second moment.

    The module docstring has the equations. The state of a parameter has the entry ``"groups"``, a dictionary with
    a `rl_rms.optim.rule.State` for each group label. With ``equalize``, the state also has the entry ``"common"``,
    the `rl_rms.optim.rule.State` of the sum.

    Args:
        params: Parameters, or dictionaries of parameters with their own ``lr``, ``half_life`` (in updates),
            ``eps`` or ``equalize``.
        lr: Learning rate, >= 0.
        half_life: Half-life of all second moments: ``69`` or ``"69 updates"``, ``"20_000 steps"``, or a
            `HalfLife`. A group without samples in a batch keeps its state.
        eps: Constant added to the roots of the second moments, >= 0.
        equalize: Whether to equalize the groups' noise instead of dividing by the root of each group's second
            moment.
        steps_per_update: Env steps per update; needed for a half-life in env steps.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> policy = torch.nn.Linear(4, 1)
        >>> optimizer = GroupRMSprop(policy.parameters(), lr=0.01, half_life=69)
        >>> features, groups = torch.randn(32, 4), torch.arange(32) % 2
        >>> losses = policy(features).squeeze(1).square()
        >>> optimizer.step(group_gradients(losses, groups, policy.parameters()))
    """

    # Env steps of one update, for half-lives in env steps. torch's optimizers do not pickle their own attributes.
    steps_per_update: float | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        half_life: float | str | HalfLife = 69.0,
        *,
        eps: float = 1e-8,
        equalize: bool = False,
        steps_per_update: float | None = None,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps)):
            if not (is_number(value) and value >= 0):
                raise ValueError(f"{name} must be >= 0, got {value!r}")
        if not isinstance(equalize, bool):
            raise ValueError(f"equalize must be True or False, got {equalize!r}")
        check_positive("steps_per_update", steps_per_update, "unknown")
        updates = HalfLife.parse(half_life).in_updates(steps_per_update)
        self.steps_per_update = steps_per_update
        super().__init__(params, {"lr": lr, "half_life": updates, "eps": eps, "equalize": equalize})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own ``lr``, ``half_life``, ``eps`` or ``equalize``.

        Args:
            param_group: ``"params"`` and the options of the group.

        Raises:
            ValueError: If the half-life is out of its range, or in env steps without ``steps_per_update``.
        """
        if "half_life" in param_group:
            half_life = HalfLife.parse(param_group["half_life"])
            param_group = {**param_group, "half_life": half_life.in_updates(self.steps_per_update)}
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, gradients: Gradients, weights: Mapping[Label, float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters from the gradients of the groups in a batch.

        Args:
            gradients: Gradients by group, in the order of the parameters, as from `group_gradients`.
            weights: Weights by group, >= 0. The weights are normalized to the sum 1. None gives equal weights. To
                weight groups by their size, pass each group's number of samples.

        Raises:
            ValueError: If there is no group, if the number of a group's gradients is not the number of parameters,
                or if weights are missing, negative or all 0.
        """
        params = [param for options in self.param_groups for param in options["params"]]
        shares = _shares(gradients, weights)
        for label, of_group in gradients.items():
            if len(of_group) != len(params):
                raise ValueError(
                    f"gradients[{label!r}] must have one gradient for each of the {len(params)} parameters, got "
                    f"{len(of_group)}; give group_gradients the optimizer's parameters"
                )
        number = 0
        for options in self.param_groups:
            for param in options["params"]:
                of_param = {label: of_group[number] for label, of_group in gradients.items()}
                found = {label: real(grad) for label, grad in of_param.items() if grad is not None}
                update = self._update_equalized if options["equalize"] else self._update_by_group
                update(real(param), found, shares, self.state[param], options)
                number += 1

    def _update_by_group(
        self,
        param: Tensor,
        grads: Mapping[Label, Tensor],
        shares: Mapping[Label, float],
        state: dict[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        """Apply one step per group, scaled by the group's weight. All gradients are from before the first step."""
        groups = state.setdefault("groups", {})
        for label, grad in grads.items():
            new, groups[label] = rmsprop_update(
                param,
                grad,
                groups.get(label) or rmsprop_init(param),
                lr=options["lr"] * shares[label],
                half_life=options["half_life"],
                eps=options["eps"],
                bias_correction=True,
            )
            param.copy_(new)

    def _update_equalized(
        self,
        param: Tensor,
        grads: Mapping[Label, Tensor],
        shares: Mapping[Label, float],
        state: dict[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        """Apply one step with the weighted sum of the equalized gradients."""
        if not grads:
            return
        groups = state.setdefault("groups", {})
        variances = {}
        for label, grad in grads.items():
            before = groups.get(label) or rmsprop_init(param, centered=True)
            # With lr=0, the rule updates only the moments.
            _, groups[label] = rmsprop_update(
                grad, grad, before, lr=0.0, half_life=options["half_life"], centered=True
            )
            variances[label] = second_moment(groups[label], centered=True, bias_correction=True)
        eps = options["eps"]
        typical = torch.stack([shares[label] * variance for label, variance in variances.items()]).sum(0)
        noise = denominator(typical, eps, eps_in_sqrt=False)
        equalized = [
            shares[label] * grad * (noise / denominator(variances[label], eps, eps_in_sqrt=False))
            for label, grad in grads.items()
        ]
        new, state["common"] = rmsprop_update(
            param,
            torch.stack(equalized).sum(0),
            state.get("common") or rmsprop_init(param),
            lr=options["lr"],
            half_life=options["half_life"],
            eps=eps,
            bias_correction=True,
        )
        param.copy_(new)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore state and options; all tensors are copied.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If the state dict has another number of parameters than this optimizer, or a state has a
                wrong entry.
        """
        checked: dict[Tensor, dict[str, Any]] = {}
        hook = self.register_load_state_dict_pre_hook(lambda _, final: checked.update(self._checked(final)))
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        self.state.update(checked)

    def _checked(self, state_dict: dict[str, Any]) -> dict[Tensor, dict[str, Any]]:
        """Check and copy the states of all parameters. torch checks the number of parameters."""
        params = [param for options in self.param_groups for param in options["params"]]
        numbers = [number for options in state_dict["param_groups"] for number in options["params"]]
        names = [name for options in self.param_groups for name in options.get("param_names", ())]
        checked = {}
        for place, (param, number) in enumerate(zip(params, numbers, strict=False)):
            saved = state_dict["state"].get(number, {})
            name = f"parameter {place}" + (f" ({names[place]!r})" if names else "")
            state: dict[str, Any] = {}
            if saved.get("groups"):
                state["groups"] = {
                    label: checked_state(one, param, _OPTIONS, name=f"{name}, group {label!r}", needed={})
                    for label, one in saved["groups"].items()
                }
            if "common" in saved:
                state["common"] = checked_state(
                    saved["common"], param, _OPTIONS, name=f"{name}, common", needed={}
                )
            if state:
                checked[param] = state
        return checked


def _shares(gradients: Gradients, weights: Mapping[Label, float] | None) -> dict[Label, float]:
    """The weights of the given groups, normalized to the sum 1."""
    if not gradients:
        raise ValueError("gradients must have at least one group, got none; leave the step out")
    weights = dict.fromkeys(gradients, 1.0) if weights is None else weights
    missing = [label for label in gradients if label not in weights]
    if missing:
        raise ValueError(f"weights must have every group of the gradients, got none for {missing!r}; add it")
    given = {label: float(weights[label]) for label in gradients}
    total = sum(given.values())
    if not (all(weight >= 0 for weight in given.values()) and total > 0):
        raise ValueError(f"weights must be >= 0 and not all 0, got {given!r}")
    return {label: weight / total for label, weight in given.items()}
