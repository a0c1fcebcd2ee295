"""Taking an agent's optimizer steps: rates in force, gradients clipped or refused, workers' steps put together."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rl_rms.agents.config import AgentConfig, as_schedule
from rl_rms.agents.meta import MetaGradient
from rl_rms.agents.optimizers import group_rates
from rl_rms.agents.workers import ALONE, Workers
from rl_rms.envs.schedules import Constant, Key, Schedule
from rl_rms.optim.guard import GradientGuard, mend_
from rl_rms.optim.rmsprop import RMSprop

Where = Literal["global", "local"]
"""Whether workers clip and normalize the mean of their gradients, or each its own, see `OnPolicyAgent.join`."""
# Schedules of the agents' own numbers have no chance in them.
NO_CHANCE = Key(0)


class Stepper:
    """Takes the steps of one agent's optimizer.

    Args:
        policy: What is trained.
        optimizer: What trains it.
        config: Learning rates, clipping, and what is to be done about gradients that are not finite.
        meta: What adapts the optimizer's hyperparameters, None where they stay.

    Attributes:
        workers: The processes that take each step together.
        where: Where they clip and normalize.
    """

    def __init__(
        self, policy: nn.Module, optimizer: Optimizer, config: AgentConfig, meta: MetaGradient | None
    ) -> None:
        self._policy, self._optimizer, self._config, self._meta = policy, optimizer, config, meta
        # Constant rates are left to whoever changes them in the optimizer.
        schedules = [as_schedule(group_rate) for group_rate in group_rates(config)]
        self._rates: list[Schedule | None] = [None if isinstance(one, Constant) else one for one in schedules]
        self.workers: Workers = ALONE
        self.where: Where = "global"

    def prepare(self, num_timesteps: int, share: float) -> None:
        """Everything before a step, the gradients being there: what fails here has moved no weight.

        Args:
            num_timesteps: Env steps lived.
            share: This worker's part of the transitions that the gradients are of.
        """
        if self.where == "global" and not self.workers.alone:
            self._average([param.grad for param in self._policy.parameters() if param.grad is not None], share)
        for i, (rate, group) in enumerate(zip(self._rates, self._optimizer.param_groups, strict=True)):
            if rate is not None:
                group["lr"] = rate.value(num_timesteps, NO_CHANCE)
                if self._meta is not None:
                    self._meta.state_rate(i, group["lr"])
        if self._meta is not None:
            self._meta.before_step()

    def step(self, share: float, metrics: dict[str, float]) -> int:
        """One step.

        Args:
            share: As in `prepare`.
            metrics: The gradients' norm is added where the optimizer does not know it.

        Returns:
            The number of steps whose gradients were not finite, 0 or 1.

        Raises:
            FloatingPointError: If that is to be raised; nothing has been moved then.
        """
        if not isinstance(self._optimizer, RMSprop):
            norm = metrics["optim/gradient_norm"] = self.clip()
            is_finite = math.isfinite(norm)
            if is_finite or self._config.on_nonfinite == "clip":
                self._move(share)
            return int(not is_finite)
        before = self._optimizer.guard.num_nonfinite
        self._move(share)
        found = self._optimizer.guard.num_nonfinite - before
        if found and self._meta is not None:
            # What it would go back through is no update.
            self._meta.restart()
        return found

    def clip(self) -> float:
        """Clip the gradients by norm, for an optimizer that does not do it itself.

        Returns:
            Their norm before; nan where they were not finite.

        Raises:
            FloatingPointError: If they are not finite and that is to be raised.
        """
        on_nonfinite, bound = self._config.on_nonfinite, self._config.max_grad_norm
        params = [param for param in self._policy.parameters() if param.grad is not None]
        grads = [param.grad for param in params if param.grad is not None]
        max_norm = math.inf if bound is None else bound
        norm = nn.utils.get_total_norm(grads)
        if not math.isfinite(norm):
            guard = GradientGuard(max_grad_norm=bound, on_nonfinite=on_nonfinite)
            if guard.admit(grads):
                # Only the squares overflow.
                assert guard.gradient_norm is not None
                torch._foreach_mul_(grads, guard.scale(guard.gradient_norm))
                return guard.gradient_norm
            if on_nonfinite == "skip":
                return math.nan
            mend_(grads)
            nn.utils.clip_grads_with_norm_(
                params, max_norm, nn.utils.get_total_norm([one.double() for one in grads])
            )
            return math.nan
        nn.utils.clip_grads_with_norm_(params, max_norm, norm)
        return float(norm)

    def _move(self, share: float) -> None:
        """The optimizer's step, and where each worker takes its own, their mean."""
        if self.where == "global":
            self._optimizer.step()
            return
        params = [param for param in self._policy.parameters() if param.requires_grad]
        before = [param.detach().clone() for param in params]
        self._optimizer.step()
        steps = [param.detach() - start for param, start in zip(params, before, strict=True)]
        self._average(steps, share)
        for param, start, step in zip(params, before, steps, strict=True):
            param.detach().copy_(start + step)

    def _average(self, tensors: list[Tensor], share: float) -> None:
        """Put everyone's mean in the tensors' place, each worker's weighted with its share of the transitions."""
        torch._foreach_mul_(tensors, share)
        self.workers.add_up(tensors)


def name_nonfinite_gradient(policy: nn.Module) -> str:
    """A sentence about the first parameter whose gradient is not finite; empty where all are."""
    for name, param in policy.named_parameters():
        if param.grad is not None and not param.grad.isfinite().all():
            wrong = param.grad[~param.grad.isfinite()]
            return (
                f"the gradient of {name} must be finite, got {float(wrong[0]):g} in {len(wrong)} of "
                f'{param.numel()} numbers; nothing was updated; mend the loss, or set on_nonfinite to "skip", '
                'which leaves such updates out, or to "clip", which replaces such numbers'
            )
    return ""
