"""The update rule on flat tensors: each operation is one launch for all parameters of a bucket."""

import torch

from rl_rms.optim.kernels.buckets import FlatGradients
from rl_rms.optim.kernels.foreach import advance_
from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.rule import largest_root
from rl_rms.optim.torch_private import foreach_add_, foreach_mul_


class FlatKernel:
    """Updates the flat state, and each parameter where it lies."""

    def supports(self, gradients: FlatGradients, group: Options) -> bool:
        """Always: buckets are built only for groups without tensor means."""
        return True

    @torch.no_grad()
    def update(self, gradients: FlatGradients, group: Options, *, scale: float) -> None:
        """Update parameters and states in place."""
        bucket, lr, weight_decay = gradients.bucket, float(group["lr"]), float(group["weight_decay"])
        decoupled = group["decoupled_weight_decay"]
        if scale != 1.0:
            gradients.scale_(scale)
        grad, _ = gradients.descended(maximize=group["maximize"], weight_decay=0.0 if decoupled else weight_decay)
        bound = largest_root(bucket.dtype)
        (u,) = advance_([grad.clamp(-bound, bound)], [bucket.state], group, lr=lr)
        bucket.set_initial_weight(bucket.state["initial_weight"])
        if decoupled and weight_decay:
            foreach_mul_(bucket.params, 1.0 - lr * weight_decay)
        foreach_add_(bucket.params, bucket.split(u), alpha=-1.0 if group["lr_in_momentum"] else -lr)
