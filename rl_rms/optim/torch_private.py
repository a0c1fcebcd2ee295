"""The only module that uses private names of torch.

torch may rename or remove these names in any release. `tests/optim/test_torch_private.py` then fails.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.guards import TensorGuards
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

# Operations on lists of tensors. A trailing underscore marks in-place operations.
foreach_add = torch._foreach_add  # pyright: ignore[reportPrivateImportUsage]
foreach_add_ = torch._foreach_add_  # pyright: ignore[reportPrivateImportUsage]
foreach_addcmul_ = torch._foreach_addcmul_  # pyright: ignore[reportPrivateImportUsage]
foreach_clamp_max_ = torch._foreach_clamp_max_  # pyright: ignore[reportPrivateImportUsage]
foreach_clamp_min = torch._foreach_clamp_min  # pyright: ignore[reportPrivateImportUsage]
foreach_clamp_min_ = torch._foreach_clamp_min_  # pyright: ignore[reportPrivateImportUsage]
foreach_copy_ = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
foreach_div_ = torch._foreach_div_  # pyright: ignore[reportPrivateImportUsage]
foreach_lerp_ = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
foreach_mul = torch._foreach_mul  # pyright: ignore[reportPrivateImportUsage]
foreach_mul_ = torch._foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
foreach_neg = torch._foreach_neg  # pyright: ignore[reportPrivateImportUsage]
foreach_sqrt_ = torch._foreach_sqrt_  # pyright: ignore[reportPrivateImportUsage]
foreach_sub = torch._foreach_sub  # pyright: ignore[reportPrivateImportUsage]
foreach_zero_ = torch._foreach_zero_  # pyright: ignore[reportPrivateImportUsage]

disable_dynamo = _disable_dynamo

# The kernel of `torch.optim.AdamW(fused=True)`. If this function is missing, other kernels make the updates.
fused_adamw_: Any = getattr(torch, "_fused_adamw_", None)

# The context `torch.set_grad_enabled` is slower: it takes a twentieth of the time of a small step.
set_grad_enabled: Any = torch._C._set_grad_enabled

is_profiler_enabled: Any = torch.autograd._profiler_enabled  # type: ignore[attr-defined]


def without_dynamo(method: Any) -> Any:
    """A bound method of an optimizer. A method of torch has no decorator before ``torch._dynamo`` is imported.

    The decorator excludes the method from graphs of ``torch.compile``. The first decorated call imports
    ``torch._dynamo``, which takes as long as the import of torch.
    """
    is_own = method.__func__ is getattr(Optimizer, method.__name__, None)
    if "torch._dynamo" in sys.modules or not is_own:
        return method
    return inspect.unwrap(method.__func__).__get__(method.__self__)


def layout_check(examples: Sequence[Tensor]) -> Callable[..., bool]:
    """A function that checks whether its arguments are tensors with the same layouts as the examples.

    A layout is a tensor's type, precision, device, sizes, strides and ``requires_grad``. One call takes less time
    than reading the sizes of all tensors.
    """
    return TensorGuards(*examples, dynamic_dims_sizes=None, dynamic_dims_strides=None).check


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook observes the module's forward or backward passes."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)


def has_tensor_hooks(param: Tensor) -> bool:
    """Whether a hook observes or replaces the parameter's gradient."""
    return bool(param._backward_hooks or param._post_accumulate_grad_hooks)


def has_step_observers(optimizer: Optimizer) -> bool:
    """Whether a step hook or the profiler observes the optimizer's steps."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or is_profiler_enabled()
    )
