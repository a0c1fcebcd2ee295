"""Adapts RMSprop's hyperparameters by the gradient of the loss after several updates (meta-gradient).

The log hyperparameters x are the logarithms of the adapted hyperparameters: by default learning rate and
half-life, and epsilon with ``adapt=[..., "eps"]``. The last ``window`` updates are repeated differentiably on
their rollouts, from the parameters before the first update:

    p_{k+1}, s_{k+1} = rmsprop_update(p_k, grad L(p_k), s_k; x)        J(x) = L_policy(p_K) + c Var_k L(p_k)

p_k are the parameters and s_k RMSprop's state after k of the K repeated updates, and L is the loss of actor and
critic. L_policy is the policy's loss on rollouts that none of these updates used, and c is ``fluctuation``. A
separate RMSprop optimizer updates x with ``dJ/dx``. The policy's own optimizer trains the policy as usual.

L_policy excludes the critic's loss. The gradient of the critic's loss would dominate, and larger steps decrease
this loss even if the policy gets worse. L_policy standardizes the advantages. Without standardization, an
inaccurate critic can give all advantages the same sign. The meta-gradient then favors larger steps for any policy,
and the learning rate can diverge.

Source: Xu, van Hasselt and Silver, "Meta-gradient reinforcement learning", 2018, for the objective on later data;
Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, for windows of 1.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from rl_rms.agents.checkpoint_checks import check_like, check_optimizer
from rl_rms.agents.config import DEFAULT_OPTIMIZER
from rl_rms.agents.config_parts import MetaConfig
from rl_rms.agents.losses import Batch
from rl_rms.agents.meta_checks import check_unrollable, check_update
from rl_rms.agents.meta_window import LossModule, SavedTensors, Update, from_plain, to_plain
from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.options import rule_options, state_options
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.optim.rule import State, rmsprop_init, rmsprop_update


class MetaGradient:
    """Adapts an optimizer's hyperparameters while the optimizer trains a policy.

    Args:
        policy: The policy.
        optimizer: The policy's optimizer.
        config: The hyperparameters to adapt, and the settings of the adaptation.

    Attributes:
        logs: Logarithms of the ratios of the adapted hyperparameters to their configured values.
        path: ``logs`` after each meta-gradient step.
        scalars: The last value of J, the norm of J's gradient, and the first group's hyperparameters, by
            TensorBoard tag. ``meta/agreement/NAME`` is the running mean of the hyperparameter's gradients on
            evaluation rollouts, divided by the root of their running mean square. The value is -1 or 1 if all
            gradients are equal, and about 0 for noise. A positive value means that a smaller hyperparameter
            decreases the loss.
        saved_bytes: Largest number of bytes that autograd has saved for a window's graph.

    Raises:
        ValueError: If the optimizer is not `RMSprop`, or its updates of the policy cannot be repeated
            differentiably.
    """

    def __init__(self, policy: nn.Module, optimizer: Optimizer, config: MetaConfig) -> None:
        if not isinstance(optimizer, RMSprop):
            raise ValueError(
                f"meta needs the optimizer {DEFAULT_OPTIMIZER}, got {type(optimizer).__name__}; leave out meta "
                "or optimizer"
            )
        check_unrollable(policy, optimizer, config)
        self._loss = LossModule(policy)
        self._optimizer = optimizer
        self._config = config
        self._params = {name: param for name, param in self._loss.named_parameters() if param.requires_grad}
        names = {id(param): name for name, param in self._params.items()}
        groups = optimizer.param_groups
        self._names = [[names[id(param)] for param in group["params"] if id(param) in names] for group in groups]
        # The configured values. The optimizer uses the products of the configured values and the ratios.
        stated = [entry for name in config.adapt for entry in _ENTRIES[name]]
        self._stated = [{entry: group[entry] for entry in stated} for group in groups]
        self.logs = torch.zeros(len(config.adapt), dtype=torch.float64)
        # RMSprop makes steps independent of the meta-gradient's scale, and max_grad_ratio clips outliers. With a
        # long half-life, noise is not amplified when a policy stops learning and its gradients become tiny.
        self._steps = RMSprop(
            [self.logs], lr=config.rate, half_life=1_000.0, bias_correction=True, max_grad_ratio=2.0, fused=False
        )
        self.path: list[list[float]] = []
        self.scalars: dict[str, float] = {}
        self.saved_bytes = 0
        self._start: tuple[dict[str, Tensor], dict[str, State]] = ({}, {})
        self._window: list[Update] = []
        self._eval_batches: list[Batch] = []
        self._next: Batch | None = None
        # Running mean and mean square of each log hyperparameter's gradient, and the weight of their initial
        # zeros.
        self._moments = torch.zeros(2, len(config.adapt), dtype=torch.float64)
        self._initial_weight = 1.0

    @property
    def ratios(self) -> dict[str, float]:
        """The ratio of each adapted hyperparameter to its configured value."""
        return dict(zip(self._config.adapt, self.logs.exp().tolist(), strict=True))

    def learns_from(self, batch: Batch) -> bool:
        """Take the next batch, and return whether the policy learns from it.

        After ``window`` updates, the next ``num_eval_rollouts`` batches evaluate the hyperparameters. With the
        last of these batches, this method takes a meta-gradient step and begins a new window. The policy learns
        from the last evaluation batch, but not from earlier evaluation batches.

        Args:
            batch: A batch of a rollout of the current policy. No other object may change the batch's arrays.
        """
        if len(self._window) == self._config.window:
            self._eval_batches.append(batch)
            if len(self._eval_batches) < self._config.num_eval_rollouts:
                return False
            self._adapt()
            self.restart()
        self._next = batch
        return True

    def before_step(self) -> None:
        """Set the optimizer's hyperparameters for the step on the batch given to `learns_from`."""
        if self._next is None:
            raise RuntimeError("learns_from() must be called before each step")
        if not self._window:
            self._start = self._snapshot()
        self._keep_within_bounds()
        ratios = self.ratios
        bases = []
        for group, stated in zip(self._optimizer.param_groups, self._stated, strict=True):
            group.update(stated)
            half_life = self._optimizer.controller.half_life(group)
            bases.append(_fixed_options(group, half_life))
            group["lr"] *= ratios.get("learning_rate", 1.0)
            group["eps"] *= ratios.get("eps", 1.0)
            if "half_life" in ratios:
                group.update(half_life=None, alpha=rho_from_half_life(half_life * ratios["half_life"]))
        self._window.append(Update(self._next, bases))
        stated = {"learning_rate": bases[0]["lr"], "half_life": bases[0]["half_life"], "eps": bases[0]["eps"]}
        self.scalars.update({f"meta/{name}": stated[name] * ratio for name, ratio in ratios.items()})

    def _keep_within_bounds(self) -> None:
        """Keep hyperparameters finite, and a half-life within the optimizer's bounds."""
        with torch.no_grad():
            self.logs.clamp_(-_LARGEST_LOG, _LARGEST_LOG)
            if "half_life" in self._config.adapt:
                controller, index = self._optimizer.controller, self._config.adapt.index("half_life")
                # The bounds apply to the first group's half-life. Usually all groups have the same half-life.
                stated = controller.half_life({**self._optimizer.param_groups[0], **self._stated[0]})
                shortest, longest = controller.bounds
                self.logs[index].clamp_(math.log(shortest / stated), math.log(longest / stated))

    def state_rate(self, group: int, lr: float) -> None:
        """Set a group's configured learning rate to the current value of its schedule."""
        if "lr" in self._stated[group]:
            self._stated[group]["lr"] = lr

    def restart(self) -> None:
        """Begin a new window of updates, after a meta-gradient step or after another change of the optimizer."""
        self._window, self._eval_batches = [], []

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, State]]:
        params = {name: param.detach().clone() for name, param in self._params.items()}
        states: dict[str, State] = {}
        for group, names in zip(self._optimizer.param_groups, self._names, strict=True):
            for name in names:
                state = self._optimizer.state.get(self._params[name]) or rmsprop_init(
                    self._params[name], **state_options(group)
                )
                states[name] = {key: _detached(value) for key, value in state.items()}
        return params, states

    def _adapt(self) -> None:
        """Update the hyperparameters along the negative meta-gradient."""
        logs = self.logs.clone().requires_grad_()
        params, losses = self.unroll(dict(zip(self._config.adapt, logs.exp(), strict=True)))
        eval_losses = [
            functional_call(self._loss, params, (batch,), {"with_critic": False}) for batch in self._eval_batches
        ]
        penalty = torch.zeros(())
        if self._config.fluctuation and len(losses) > 1:
            penalty = self._config.fluctuation * torch.stack(losses).var()
        parts = torch.stack(
            [torch.autograd.grad(loss + penalty, logs, retain_graph=True)[0] for loss in eval_losses]
        )
        gradient = parts.mean(0)
        self.scalars.update(
            {
                "meta/loss": (torch.stack(eval_losses).mean() + penalty).item(),
                "meta/gradient_norm": float(gradient.norm()),
            }
        )
        if not gradient.isfinite().all():
            return
        agreement = self.update_agreement(parts).tolist()
        self.scalars.update(
            {f"meta/agreement/{name}": value for name, value in zip(self._config.adapt, agreement, strict=True)}
        )
        self.logs.grad = gradient
        self._steps.step()
        self._keep_within_bounds()
        self.path.append(self.logs.tolist())

    def update_agreement(self, parts: Tensor) -> Tensor:
        """Average the evaluation rollouts' gradients, and return the agreement of each hyperparameter's gradients.

        Args:
            parts: The gradient of each evaluation rollout, shape ``(num_eval_rollouts, num_hyperparameters)``.
        """
        for part in parts:
            self._moments.lerp_(torch.stack([part, part.square()]), 1 - _AGREEMENT_RHO)
            self._initial_weight *= _AGREEMENT_RHO
        mean, square = (self._moments / (1 - self._initial_weight)).unbind()
        return mean / square.sqrt().clamp_min(1e-300)

    def unroll(self, ratios: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Repeat the window's updates as differentiable functions of the ratios.

        If the graph would exceed ``memory_mb``, its earlier updates are detached.

        Args:
            ratios: Ratio of each adapted hyperparameter to its configured value.

        Returns:
            The parameters after the last update, and the loss before each update.
        """
        start, states = self._start
        params = {name: param.requires_grad_() for name, param in start.items()}
        losses: list[Tensor] = []
        limit = self._config.memory_mb * 2**20
        saved = SavedTensors()
        before = 0
        for update in self._window:
            # An update probably saves as many bytes as the previous update. The graph is cut before an update, so
            # the graph always contains the last update.
            if saved.bytes + (saved.bytes - before) > limit:
                params = {name: param.detach().requires_grad_() for name, param in params.items()}
                states = {
                    name: {key: _detached(value) for key, value in state.items()} for name, state in states.items()
                }
                losses = [loss.detach() for loss in losses]
                saved.bytes = 0
            before = saved.bytes
            with saved:
                loss = functional_call(self._loss, params, (update.batch,), {"with_critic": True})
                gradients = torch.autograd.grad(
                    loss, list(params.values()), create_graph=True, materialize_grads=True
                )
                grads = self._clipped(dict(zip(params, gradients, strict=True)))
                after: dict[str, Tensor] = {}
                for names, base in zip(self._names, update.groups, strict=True):
                    updated, new_states = rmsprop_update(
                        {name: params[name] for name in names},
                        {name: grads[name] for name in names},
                        {name: states[name] for name in names},
                        **_adapted(base, ratios),
                    )
                    after.update(updated)
                    states = {**states, **new_states}
            params = after
            losses.append(loss)
            self.saved_bytes = max(self.saved_bytes, saved.bytes)
        return params, losses

    def _clipped(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Clip gradients to the optimizer's ``max_grad_norm``, as a differentiable function."""
        max_norm = self._optimizer.guard.max_grad_norm
        if max_norm is None:
            return grads
        norm = torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt()
        scale = torch.where(norm > max_norm, max_norm / norm, 1.0)
        return {name: grad * scale for name, grad in grads.items()}

    # -- saving -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state for a resumed training run, including the updates of the unfinished window."""
        params, states = self._start
        return {
            "logs": self.logs,
            "steps": self._steps.state_dict(),
            "stated": self._stated,
            "path": self.path,
            "moments": self._moments,
            "initial_weight": self._initial_weight,
            "scalars": self.scalars,
            "start": {"params": params, "states": states},
            "window": [to_plain(update) for update in self._window],
            "eval_batches": [to_plain(Update(batch)) for batch in self._eval_batches],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`.

        Raises:
            ValueError: If a part has a wrong type, structure or value.
        """
        own = self.state_dict()
        for name in ("path", "window", "eval_batches", "scalars"):
            if type(state[name]) is not type(own[name]):
                raise ValueError(f"meta.{name} must be of type {type(own[name]).__name__}, got {state[name]!r}")
        for name in ("logs", "moments", "initial_weight", "stated"):
            check_like(f"meta.{name}", state[name], own[name])
        if state["start"] != {"params": {}, "states": {}}:
            params, states = self._snapshot()
            check_like("meta.start", state["start"], {"params": params, "states": states})
        options = [_fixed_options(group, 1.0) for group in self._optimizer.param_groups]
        is_recurrent = bool(getattr(self._loss.policy, "state_size", 0))
        for update in state["window"]:
            check_update(update, options, is_recurrent=is_recurrent)
        for update in state["eval_batches"]:
            check_update(update, [], is_recurrent=is_recurrent)
        check_like("meta.path", state["path"], [[0.0] * len(self.logs) for _ in state["path"]])
        check_like("meta.scalars", state["scalars"], dict.fromkeys(state["scalars"], 0.0))
        window = list(map(from_plain, state["window"]))
        eval_batches = [from_plain(update).batch for update in state["eval_batches"]]
        with torch.no_grad():
            for batch in (*(update.batch for update in window), *eval_batches):
                self._loss(batch, with_critic=True)  # fails for arrays of wrong shapes
        check_optimizer(state["steps"], self._steps, "meta.steps")
        self._steps.load_state_dict(state["steps"])
        with torch.no_grad():
            self.logs.copy_(state["logs"])
        self._stated, self.path = state["stated"], state["path"]
        self._moments, self._initial_weight = state["moments"].clone(), state["initial_weight"]
        self.scalars = state["scalars"]
        self._start = (state["start"]["params"], state["start"]["states"])
        self._window, self._eval_batches = window, eval_batches


# The entries of a parameter group that contain each hyperparameter.
_ENTRIES = {"learning_rate": ("lr",), "half_life": ("half_life", "alpha"), "eps": ("eps",)}
# Decay of the agreement's averages, with a half-life of 10 evaluation rollouts.
_AGREEMENT_RHO = rho_from_half_life(10.0)
# Largest absolute logarithm of the ratio of a hyperparameter to its configured value. This limit keeps the
# hyperparameter finite.
_LARGEST_LOG = math.log(1e4)


def _fixed_options(group: Mapping[str, Any], half_life: float) -> dict[str, Any]:
    """The arguments of `rmsprop_update` for a group, with a half-life in updates instead of rho."""
    options = {**rule_options(group), "half_life": half_life}
    del options["rho"]
    return options


def _adapted(base: Mapping[str, Any], ratios: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `rmsprop_update`, as functions of the ratios."""
    options = {name: value for name, value in base.items() if name != "rho"}
    for name, ratio in ratios.items():
        argument = "lr" if name == "learning_rate" else name
        options[argument] = options[argument] * ratio
    return options


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
