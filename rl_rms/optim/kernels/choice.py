"""The choice of a kernel: the first of a list, fastest first, that supports a group's options."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from rl_rms.optim.kernels.buckets import FlatGradients
from rl_rms.optim.kernels.flat import FlatKernel
from rl_rms.optim.kernels.foreach import ForeachKernel
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.kernels.kernel import Kernel, Options
from rl_rms.optim.kernels.loose import LooseGradients
from rl_rms.optim.kernels.plain import PlainKernel
from rl_rms.optim.options import takes_tensor_means

Gradients: TypeAlias = FlatGradients | LooseGradients

_FLAT: tuple[Kernel[FlatGradients], ...] = (FusedKernel(), FlatKernel())
_LOOSE: tuple[Kernel[LooseGradients], ...] = (ForeachKernel(), PlainKernel())


def choose_kernel(gradients: Gradients, group: Options) -> Kernel[Any]:
    """The fastest kernel that supports the options of a group."""
    kernels: tuple[Kernel[Any], ...] = _FLAT if type(gradients) is FlatGradients else _LOOSE
    for kernel in kernels:
        if kernel.supports(gradients, group):
            return kernel
    raise NotImplementedError(f"no kernel supports the options {group!r:.200}")


def allows_buckets(group: Options) -> bool:
    """Whether a group's options leave its parameters to flat buckets."""
    lr = group["lr"]
    return (
        group["flat"] is not False
        and not (group["differentiable"] or group["capturable"] or group["foreach"])
        and not takes_tensor_means(group)
        and not torch.is_inference_mode_enabled()
        and not (isinstance(lr, Tensor) and (lr.requires_grad or lr.device.type != "cpu"))
    )
