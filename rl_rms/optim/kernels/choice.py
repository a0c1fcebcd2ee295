"""Chooses the fastest kernel that supports a group's options."""

import torch
from torch import Tensor

from rl_rms.optim.kernels.batch import Batch
from rl_rms.optim.kernels.foreach import ForeachKernel
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.kernels.kernel import Kernel, Options
from rl_rms.optim.kernels.plain import PlainKernel
from rl_rms.optim.options import takes_tensor_means

_KERNELS: tuple[Kernel, ...] = (FusedKernel(), ForeachKernel(), PlainKernel())


def choose_kernel(batch: Batch, group: Options) -> Kernel:
    """The fastest kernel that supports the options of a group."""
    for kernel in _KERNELS:
        if kernel.supports(batch, group):
            break
    return kernel


def allows_uniform(group: Options) -> bool:
    """Whether a group's options allow uniform batches."""
    lr = group["lr"]
    return (
        group["fused"] is not False
        and not (group["differentiable"] or group["capturable"] or group["foreach"])
        and not takes_tensor_means(group)
        and not torch.is_inference_mode_enabled()
        and not (isinstance(lr, Tensor) and (lr.requires_grad or lr.device.type != "cpu"))
    )
