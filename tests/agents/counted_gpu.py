"""A device that computes on the CPU, and counts transfers and synchronizations as if it were a GPU."""

from contextlib import ExitStack

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA, META, CPU = (torch.device(name) for name in ("cuda", "meta", "cpu"))
# These operations read values, so the CPU waits until the GPU has computed the values.
READS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_dim",
}
# If an index is a boolean mask, the CPU waits for the number of chosen elements.
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class OnGpu(Tensor):
    """A tensor on the counted GPU.

    In torch's C++ code, the tensor's device is ``meta``, because ``cuda`` needs a GPU.

    Attributes:
        values: The tensor's values, on the CPU.
    """

    @staticmethod
    def __new__(cls, values):
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=META, **layout)

    def __init__(self, values):
        self.values = values

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} used a tensor of the counted GPU outside of its context")


class CountedGpu:
    """A context manager that simulates the device ``cuda`` and counts its transfers and synchronizations.

    Attributes:
        uploads: Bytes of each copy from the CPU to the GPU.
        waits: The operations in which the CPU waits for the GPU. These are copies to the CPU, copies to the GPU
            that block or come from memory that is not pinned, and operations that read values.
    """

    def __init__(self):
        self.uploads, self.waits = [], []
        self._pinned = {}

    def __enter__(self):
        self._stack = ExitStack()
        self._stack.enter_context(_Names(self))
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *raised):
        self._stack.close()

    def restart(self):
        self.uploads.clear()
        self.waits.clear()

    def pin(self, tensor):
        """Return a copy that counts as pinned memory."""
        pinned = tensor.clone()
        self._pinned[pinned.untyped_storage().data_ptr()] = pinned
        return pinned

    def run(self, func, args, kwargs):
        """Run an operation on the values, and record its transfers and waits."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_gpu = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
        device, name = kwargs.get("device"), func._schema.name
        to_gpu = bool(on_gpu) if device is None else device.type == "meta"
        if name == "aten::copy_":
            to_gpu = isinstance(args[0], OnGpu)
            self._count_copy(args[1], to_gpu, non_blocking=args[2:] == (True,))
        elif name == "aten::_to_copy":
            self._count_copy(args[0], to_gpu, non_blocking=kwargs.get("non_blocking", False))
        elif on_gpu:
            if any(tensor.ndim for tensor in tensors if not isinstance(tensor, OnGpu)):
                raise RuntimeError(f"{func} expects all tensors on the same device, but found cuda and cpu")
            indices = tree_leaves(args[1]) if name in INDEXING else []
            if name in READS or any(getattr(index, "dtype", None) == torch.bool for index in indices):
                self.waits.append(str(func))
        by_values = {id(tensor.values): tensor for tensor in on_gpu}
        args, kwargs = tree_map(lambda leaf: leaf.values if isinstance(leaf, OnGpu) else leaf, (args, kwargs))
        result = func(*args, **(kwargs if device is None else {**kwargs, "device": CPU}))
        if not to_gpu:
            return result

        def on_the_gpu(leaf):
            if not isinstance(leaf, Tensor):
                return leaf
            # An in-place operation returns its argument.
            return by_values[id(leaf)] if id(leaf) in by_values else OnGpu(leaf)

        return tree_map(on_the_gpu, result)

    def _count_copy(self, source, to_gpu, *, non_blocking):
        if isinstance(source, OnGpu):
            if not to_gpu:
                self.waits.append("copy to the CPU")
        elif to_gpu:
            self.uploads.append(source.nbytes)
            if not non_blocking or source.untyped_storage().data_ptr() not in self._pinned:
                self.waits.append("blocking copy to the GPU")


class _Names(TorchFunctionMode):
    """Translates the device ``cuda`` in Python to ``meta`` in torch's C++ code and back."""

    def __init__(self, gpu):
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        first = args[0] if args else None
        if func is Tensor.pin_memory:
            return self._gpu.pin(first)
        if isinstance(first, OnGpu):
            answers = {Tensor.device.__get__: CUDA, Tensor.is_cuda.__get__: True, Tensor.is_meta.__get__: False}
            if func in answers:
                return answers[func]
            if func is Tensor.tolist:
                return first.cpu().tolist()
        args, kwargs = tree_map(_translated, (args, kwargs or {}))
        if func is torch.tensor and kwargs.get("device") == META:
            # The dispatch mode does not see torch.tensor on the device meta.
            return func(*args, **{**kwargs, "device": CPU}).to(META)
        return func(*args, **kwargs)


def _translated(leaf):
    return META if isinstance(leaf, torch.device) and leaf.type == "cuda" else leaf


class _Operations(TorchDispatchMode):
    """Passes every operation to ``CountedGpu.run``."""

    def __init__(self, gpu):
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self._gpu.run(func, args, kwargs or {})
