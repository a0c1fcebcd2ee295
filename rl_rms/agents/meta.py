"""Hyperparameters by meta-gradient: how the policy after some updates would have been better with other ones.

With log hyperparameters x (learning rate, half-life, epsilon), the last ``window`` updates are done once more from
where they began, differentiably, on the rollouts that they were done on:

    p_{k+1}, s_{k+1} = rmsprop_update(p_k, grad L(p_k), s_k; x)        J(x) = L_policy(p_K) + c Var_k L(p_k)

L_policy is the policy's own loss on rollouts that none of these updates has seen, and x takes a step down
``dJ/dx``. What is trained meanwhile is trained as ever, by the optimizer itself.

L_policy has no critic's loss, which still falls with larger steps where the policy gets worse by them, and whose
gradient is the larger one. Its advantages are normalized: while a critic lags behind, all have one sign, policies
are pushed to whatever they do, and more of it looks good from then on. Otherwise learning rates can run away.

Source: Xu, van Hasselt and Silver, "Meta-gradient reinforcement learning", 2018, for the objective on later data;
Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, for windows of 1.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from rl_rms.agents.checkpoint import check_like, check_numbers, check_optimizer, check_options
from rl_rms.agents.config import MetaConfig
from rl_rms.agents.losses import LossTerms, actor_critic_loss
from rl_rms.agents.rollout import Bools, Rollout
from rl_rms.agents.trees import tree_map
from rl_rms.envs.snapshots import decode, encode
from rl_rms.half_life import rho_from_half_life
from rl_rms.optim.options import rule_options, state_options
from rl_rms.optim.rmsprop import RMSprop
from rl_rms.optim.rule import State, rmsprop_init, rmsprop_update


@dataclass(frozen=True)
class Experience:
    """A rollout as the policy saw it, and what makes a loss of it.

    Attributes:
        rollout: With arrays of its own.
        used: Which transitions count, shape ``(num_steps, num_envs)``.
        terms: The loss's discounts and weights.
        state: What a recurrent policy remembered at its beginning, None for one that does not.
        groups: Of each of the optimizer's groups, the rule's arguments at the update on it, before they were
            adapted; none where there was no update.
    """

    rollout: Rollout
    used: Bools
    terms: LossTerms
    state: Tensor | None
    groups: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def copied(cls, rollout: Rollout, used: Bools, terms: LossTerms, state: Tensor | None) -> "Experience":
        """One that stays as it is when the collector fills its arrays again."""
        copies = {
            one.name: tree_map(np.array, getattr(rollout, one.name))
            for one in dataclasses.fields(rollout)
            if one.name not in ("episodes", "action_masks", "left_out")
        }
        masks = None if rollout.action_masks is None else rollout.action_masks.copy()
        kept = Rollout(**copies, action_masks=masks, episodes=[], left_out=rollout.left_out)
        return cls(kept, used.copy(), terms, state)


class _Loss(nn.Module):
    """The loss as a module's call, which is what `functional_call` takes.

    Args:
        policy: Whose parameters are this module's, under ``policy.``.
    """

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, experience: Experience, *, with_critic: bool) -> Tensor:
        terms = experience.terms
        if not with_critic:
            terms = dataclasses.replace(terms, vf_coef=0.0, normalize_advantage=True)
        return actor_critic_loss(self.policy, experience.rollout, experience.used, terms, experience.state)[0]


class MetaGradient:
    """Adapts an optimizer's hyperparameters while it trains a policy.

    Args:
        policy: The policy.
        optimizer: Its optimizer.
        config: What is adapted, and how.

    Attributes:
        logs: Logarithms of the ratios in which the adapted hyperparameters stand to what was stated.
        path: ``logs`` after each step of them.
        scalars: What the last step of them saw and what is in force, the first group's, by TensorBoard tag.
            ``meta/agreement/NAME`` is the mean of the hyperparameter's gradients over the last fresh rollouts by
            their root mean square: -1 or 1 where all say the same, about 0 where they are noise; above 0 they say
            that it should be smaller.
        saved_bytes: The most that the graph of a window has held, by its saved tensors.

    Raises:
        ValueError: If the optimizer or the policy is of a kind that cannot be unrolled.
    """

    def __init__(self, policy: nn.Module, optimizer: RMSprop, config: MetaConfig) -> None:
        _check(policy, optimizer, config)
        self._loss = _Loss(policy)
        self._optimizer = optimizer
        self._config = config
        self._params = {name: param for name, param in self._loss.named_parameters() if param.requires_grad}
        names = {id(param): name for name, param in self._params.items()}
        groups = optimizer.param_groups
        self._names = [[names[id(param)] for param in group["params"] if id(param) in names] for group in groups]
        # What the groups state of what is adapted; in force is this times the ratios.
        stated = [entry for name in config.adapt for entry in _ENTRIES[name]]
        self._stated = [{entry: group[entry] for entry in stated} for group in groups]
        self.logs = torch.zeros(len(config.adapt), dtype=torch.float64)
        # Steps as long as the rate, whatever the meta-gradient's scale, and none that follows an outlier. A long
        # memory: a policy that has stopped learning gives tiny gradients, whose noise is not to be scaled up.
        self._steps = RMSprop(
            [self.logs], lr=config.rate, half_life=1_000.0, debias=True, max_grad_ratio=2.0, flat=False
        )
        self.path: list[list[float]] = []
        self.scalars: dict[str, float] = {}
        self.saved_bytes = 0
        self._start: tuple[dict[str, Tensor], dict[str, State]] = ({}, {})
        self._window: list[Experience] = []
        self._fresh: list[Experience] = []
        self._next: Experience | None = None
        # Running mean and mean square of each log hyperparameter's gradient, and the weight of 0 in them.
        self._moments = torch.zeros(2, len(config.adapt), dtype=torch.float64)
        self._initial_weight = 1.0

    @property
    def ratios(self) -> dict[str, float]:
        """What each adapted hyperparameter is multiplied with now."""
        return dict(zip(self._config.adapt, self.logs.exp().tolist(), strict=True))

    def learns_from(self, experience: Experience) -> bool:
        """Whether the policy is to learn from a rollout, or only the hyperparameters are.

        Args:
            experience: The rollout, which the policy has played as it is now.
        """
        if len(self._window) == self._config.window:
            self._fresh.append(experience)
            if len(self._fresh) < self._config.fresh:
                return False
            self._adapt()
            self.restart()
        self._next = experience
        return True

    def before_step(self) -> None:
        """Put the hyperparameters in force into the optimizer's groups, before its step on the rollout."""
        assert self._next is not None
        if not self._window:
            self._start = self._snapshot()
        self._keep_within_bounds()
        ratios = self.ratios
        bases = []
        for group, stated in zip(self._optimizer.param_groups, self._stated, strict=True):
            group.update(stated)
            half_life = self._optimizer.memory.half_life(group)
            bases.append({**rule_options(group), "half_life": half_life})
            group["lr"] *= ratios.get("learning_rate", 1.0)
            group["eps"] *= ratios.get("eps", 1.0)
            if "half_life" in ratios:
                group.update(half_life=None, alpha=rho_from_half_life(half_life * ratios["half_life"]))
        self._window.append(dataclasses.replace(self._next, groups=bases))
        stated = {"learning_rate": bases[0]["lr"], "half_life": bases[0]["half_life"], "eps": bases[0]["eps"]}
        self.scalars.update({f"meta/{name}": stated[name] * ratio for name, ratio in ratios.items()})

    def _keep_within_bounds(self) -> None:
        """Keep numbers numbers, and a half-life within the bounds of the optimizer's memory."""
        with torch.no_grad():
            self.logs.clamp_(-_LARGEST_LOG, _LARGEST_LOG)
            if "half_life" in self._config.adapt:
                memory, own = self._optimizer.memory, self._config.adapt.index("half_life")
                # Of the first group; the others have the same memory unless somebody gave them another.
                stated = memory.half_life({**self._optimizer.param_groups[0], **self._stated[0]})
                shortest, longest = memory.bounds
                self.logs[own].clamp_(math.log(shortest / stated), math.log(longest / stated))

    def state_rate(self, group: int, lr: float) -> None:
        """Tell the learning rate that a group's schedule has come to."""
        if "lr" in self._stated[group]:
            self._stated[group]["lr"] = lr

    def restart(self) -> None:
        """Begin a new window, after a step of the hyperparameters or where something else moved the optimizer."""
        self._window, self._fresh = [], []

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, State]]:
        params = {name: param.detach().clone() for name, param in self._params.items()}
        states: dict[str, State] = {}
        for group, names in zip(self._optimizer.param_groups, self._names, strict=True):
            for name in names:
                state = self._optimizer.state.get(self._params[name]) or rmsprop_init(
                    self._params[name], **state_options(group)
                )
                states[name] = {key: _apart(value) for key, value in state.items()}
        return params, states

    def _adapt(self) -> None:
        """One step of the hyperparameters, down the gradient of what fresh rollouts say."""
        logs = self.logs.clone().requires_grad_()
        params, losses = self._unroll(dict(zip(self._config.adapt, logs.exp(), strict=True)))
        judged = [functional_call(self._loss, params, (fresh,), {"with_critic": False}) for fresh in self._fresh]
        penalty = torch.zeros(())
        if self._config.fluctuation and len(losses) > 1:
            penalty = self._config.fluctuation * torch.stack(losses).var()
        parts = torch.stack([torch.autograd.grad(loss + penalty, logs, retain_graph=True)[0] for loss in judged])
        gradient = parts.mean(0)
        self.scalars.update(
            {
                "meta/loss": (torch.stack(judged).mean() + penalty).item(),
                "meta/gradient_norm": float(gradient.norm()),
            }
        )
        if not gradient.isfinite().all():
            return
        agreement = self._agreement(parts).tolist()
        self.scalars.update(
            {f"meta/agreement/{name}": one for name, one in zip(self._config.adapt, agreement, strict=True)}
        )
        self.logs.grad = gradient
        self._steps.step()
        self._keep_within_bounds()
        self.path.append(self.logs.tolist())

    def _agreement(self, parts: Tensor) -> Tensor:
        """How far the gradients of fresh rollouts agree, of each hyperparameter.

        Args:
            parts: The latest gradients, shape ``(fresh, num_hyperparameters)``.
        """
        for part in parts:
            self._moments.lerp_(torch.stack([part, part.square()]), 1 - _AGREEMENT_RHO)
            self._initial_weight *= _AGREEMENT_RHO
        mean, square = (self._moments / (1 - self._initial_weight)).unbind()
        return mean / square.sqrt().clamp_min(1e-300)

    def _unroll(self, ratios: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The window's updates once more, as functions of the ratios.

        Args:
            ratios: By hyperparameter.

        Returns:
            The parameters after them, and the losses on the way.
        """
        start, states = self._start
        params = {name: param.requires_grad_() for name, param in start.items()}
        losses: list[Tensor] = []
        limit = self._config.memory_mb * 2**20
        saved = SavedTensors()
        for experience in self._window:
            before = saved.bytes
            with saved:
                loss = functional_call(self._loss, params, (experience,), {"with_critic": True})
                found = torch.autograd.grad(loss, list(params.values()), create_graph=True, materialize_grads=True)
                grads = self._clipped(dict(zip(params, found, strict=True)))
                after: dict[str, Tensor] = {}
                for names, base in zip(self._names, experience.groups, strict=True):
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
            # The next update will want as much as this one did.
            if saved.bytes + (saved.bytes - before) > limit:
                params = {name: param.detach().requires_grad_() for name, param in params.items()}
                states = {name: {key: _apart(value) for key, value in one.items()} for name, one in states.items()}
                losses = [loss.detach() for loss in losses]
                saved.bytes = 0
        return params, losses

    def _clipped(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients whose global norm is at most the optimizer's ``max_grad_norm``."""
        most = self._optimizer.guard.max_grad_norm
        if most is None:
            return grads
        norm = torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt()
        scale = torch.where(norm > most, most / norm, 1.0)
        return {name: grad * scale for name, grad in grads.items()}

    # -- saving -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs, the window in progress included."""
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
            "window": [_to_plain(one) for one in self._window],
            "fresh": [_to_plain(one) for one in self._fresh],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`.

        Raises:
            ValueError: If a part has another structure than this object's own.
        """
        own = self.state_dict()
        for name in ("path", "window", "fresh", "scalars"):
            if type(state[name]) is not type(own[name]):
                raise ValueError(f"meta.{name} must be of type {type(own[name]).__name__}, got {state[name]!r}")
        for name in ("logs", "moments", "initial_weight", "stated"):
            check_like(f"meta.{name}", state[name], own[name])
        if state["start"] != {"params": {}, "states": {}}:
            params, states = self._snapshot()
            check_like("meta.start", state["start"], {"params": params, "states": states})
        options = [{**rule_options(group), "half_life": 1.0} for group in self._optimizer.param_groups]
        for number, one in enumerate((*state["window"], *state["fresh"])):
            # Updates were made on the window's rollouts alone.
            groups = options if number < len(state["window"]) else []
            for like, loaded in zip(groups, one["groups"], strict=True):
                check_options("meta.window.groups", loaded, like)
                check_numbers("meta.window.groups", loaded)
                for name in ("momentum", "optimism"):  # which the saved averages go with
                    if loaded[name] != like[name]:
                        raise ValueError(f"meta.window.groups.{name} must be {like[name]!r}, got {loaded[name]!r}")
            is_recurrent = bool(getattr(self._loss.policy, "state_size", 0))
            if not isinstance(one["state"], Tensor if is_recurrent else type(None)):
                raise ValueError(f"meta.window.state does not fit the policy: got {one['state']!r}")
            for name, term in one["terms"].items():
                if not isinstance(term, (int, float)):
                    raise ValueError(f"meta.window.terms.{name} must be a number, got {term!r}")
        check_like("meta.path", state["path"], [[0.0] * len(self.logs) for _ in state["path"]])
        check_like("meta.scalars", state["scalars"], dict.fromkeys(state["scalars"], 0.0))
        window, fresh = (list(map(_from_plain, state[name])) for name in ("window", "fresh"))
        with torch.no_grad():
            for one in (*window, *fresh):
                self._loss(one, with_critic=True)  # which fails for arrays of other shapes
        check_optimizer(state["steps"], self._steps, "meta.steps")
        self._steps.load_state_dict(state["steps"])
        with torch.no_grad():
            self.logs.copy_(state["logs"])
        self._stated, self.path = state["stated"], state["path"]
        self._moments, self._initial_weight = state["moments"].clone(), state["initial_weight"]
        self.scalars = state["scalars"]
        self._start = (state["start"]["params"], state["start"]["states"])
        self._window, self._fresh = window, fresh


# What a group's entries of each hyperparameter are called.
_ENTRIES = {"learning_rate": ("lr",), "half_life": ("half_life", "alpha"), "eps": ("eps",)}
# Of the agreement over batches, fresh rollouts: a half-life of ten.
_AGREEMENT_RHO = rho_from_half_life(10.0)
# A hyperparameter stays within this ratio of what was stated, so that it stays a number.
_LARGEST_LOG = math.log(1e4)


def _check(policy: nn.Module, optimizer: RMSprop, config: MetaConfig) -> None:
    others = [name for name in optimizer.guard.in_use() if name not in ("max_grad_norm", "on_nonfinite")]
    if others:
        raise ValueError(
            f"meta unrolls updates that max_grad_norm alone clips; leave {others[0]} out of optimizer_kwargs"
        )
    estimated = [group["half_life"] for group in optimizer.param_groups if group["half_life"] in ("match", "auto")]
    if estimated and "half_life" in config.adapt:
        raise ValueError(
            f"meta adapts a half-life that is stated, got half_life={estimated[0]!r}; state one, or leave "
            "half_life out of meta.adapt"
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules()):
        raise ValueError(
            'meta does not go with norm="batch", whose running statistics every loss would move; take norm="layer"'
        )


def _adapted(base: Mapping[str, Any], ratios: Mapping[str, Tensor]) -> dict[str, Any]:
    """The rule's arguments, as functions of the ratios."""
    options = {name: value for name, value in base.items() if name != "rho"}
    for name, ratio in ratios.items():
        argument = "lr" if name == "learning_rate" else name
        options[argument] = options[argument] * ratio
    return options


def _apart(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


class SavedTensors:
    """Counts what autograd saves for backward passes, while it is entered.

    Attributes:
        bytes: Of all tensors saved so far, each time that it was.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._hooks: Any = None

    def __enter__(self) -> None:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
        self._hooks.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._hooks.__exit__(*raised)

    def _count(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.numel() * tensor.element_size()
        # Without its history, which autograd puts back: a node that saves its output would hold itself for ever.
        return tensor.detach()


def _to_plain(one: Experience) -> dict[str, Any]:
    arrays = {field.name: getattr(one.rollout, field.name) for field in dataclasses.fields(one.rollout)}
    arrays["episodes"] = []
    return {
        "rollout": json.dumps(encode({**arrays, "used": one.used})),
        "terms": dataclasses.asdict(one.terms),
        "state": one.state,
        "groups": [dict(group) for group in one.groups],
    }


def _from_plain(plain: Mapping[str, Any]) -> Experience:
    arrays = decode(json.loads(plain["rollout"]))
    used = arrays.pop("used")
    return Experience(Rollout(**arrays), used, LossTerms(**plain["terms"]), plain["state"], plain["groups"])
