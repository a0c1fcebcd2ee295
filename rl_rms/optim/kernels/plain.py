"""The update rule with all options, one parameter at a time."""

import torch
from torch import Tensor

from rl_rms.optim.kernels.batch import Batch
from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.options import rule_options
from rl_rms.optim.rule import State, rmsprop_update


class PlainKernel:
    """Calls `rl_rms.optim.rule.rmsprop_update`, with autograd if ``differentiable`` is set."""

    def supports(self, batch: Batch, group: Options) -> bool:
        """Return True for all batches and options."""
        return True

    def update(self, batch: Batch, group: Options, *, scale: float) -> None:
        """Update parameters and states in place."""
        with torch.set_grad_enabled(group["differentiable"]):
            options = rule_options(group)
            batch.scale_(scale)
            for param, grad, state in zip(batch.params, batch.grads, batch.states, strict=True):
                # A differentiable step overwrites the parameter, so autograd must use a copy of the parameter.
                before = param.clone() if group["differentiable"] else param
                descended = -grad if group["maximize"] else grad
                _write(param, state, *rmsprop_update(before, descended, state, **options))


def _write(param: Tensor, state: State, new_param: Tensor, new_state: State) -> None:
    """Write an update in place, because other objects may hold views of the parameter or the state."""
    param.copy_(new_param)
    for name, value in new_state.items():
        if isinstance(state[name], Tensor):
            state[name].copy_(value)
        else:
            state[name] = value
