"""torch has the private names that `rl_rms.optim.torch_private` uses, and they behave as expected."""

import importlib

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

NAMES = [
    *(
        f"torch._foreach_{name}"
        for name in (
            "add",
            "add_",
            "addcmul_",
            "clamp_max_",
            "clamp_min",
            "clamp_min_",
            "copy_",
            "div_",
            "lerp_",
            "mul",
            "mul_",
            "sqrt_",
            "sub",
            "zero_",
        )
    ),
    "torch._C._dynamo.guards.TensorGuards",
    "torch._fused_adamw_",
    "torch._compile._disable_dynamo",
    "torch.autograd._profiler_enabled",
    "torch.optim.optimizer._global_optimizer_pre_hooks",
    "torch.optim.optimizer._global_optimizer_post_hooks",
]


@pytest.mark.parametrize("path", NAMES)
def test_private_name_of_torch_exists(path):
    module, name = path.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name), (
        f"torch {torch.__version__} has no {path}; use its successor in rl_rms/optim/torch_private.py"
    )


# Positional arguments after the list [[4.0, 9.0]], keyword arguments, and the values of the list or the result.
OTHER = [torch.tensor([1.0, 2.0])]
OPERATIONS = {
    "foreach_add": ((OTHER,), {"alpha": 2.0}, [6.0, 13.0]),
    "foreach_add_": ((OTHER,), {"alpha": 2.0}, [6.0, 13.0]),
    "foreach_addcmul_": ((OTHER, OTHER), {"value": -1.0}, [3.0, 5.0]),
    "foreach_clamp_max_": ((5.0,), {}, [4.0, 5.0]),
    "foreach_clamp_min": ((5.0,), {}, [5.0, 9.0]),
    "foreach_clamp_min_": ((5.0,), {}, [5.0, 9.0]),
    "foreach_copy_": ((OTHER,), {}, [1.0, 2.0]),
    "foreach_div_": ((OTHER,), {}, [4.0, 4.5]),
    "foreach_lerp_": ((OTHER, 0.5), {}, [2.5, 5.5]),
    "foreach_mul": ((OTHER,), {}, [4.0, 18.0]),
    "foreach_mul_": ((0.5,), {}, [2.0, 4.5]),
    "foreach_sqrt_": ((), {}, [2.0, 3.0]),
    "foreach_sub": ((OTHER,), {}, [3.0, 7.0]),
    "foreach_zero_": ((), {}, [0.0, 0.0]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_foreach_operations_return_or_write_the_expected_values(name):
    from rl_rms.optim import torch_private

    arguments, options, expected = OPERATIONS[name]
    values = [torch.tensor([4.0, 9.0])]
    result = getattr(torch_private, name)(values, *arguments, **options)
    assert (values if name.endswith("_") else result)[0].tolist() == expected
    if not name.endswith("_"):
        assert values[0].tolist() == [4.0, 9.0]


def test_layout_check_of_equal_layouts_is_true():
    from rl_rms.optim.torch_private import layout_check

    check = layout_check([torch.zeros(2, 3), torch.nn.Parameter(torch.zeros(3, 1)), torch.zeros(())])
    assert check(torch.ones(2, 3), torch.nn.Parameter(torch.ones(3, 1)), torch.ones(()))


@pytest.mark.parametrize(
    "other",
    [
        None,
        torch.nn.Parameter(torch.zeros(2, 3)),
        torch.zeros(3, 2),
        torch.zeros(6),
        torch.zeros(3, 2).t(),
        torch.zeros(1, 3).expand(2, 3),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(2, 3, dtype=torch.float16),
        torch.zeros(2, 3, device="meta"),
        torch.zeros(2, 3).to_sparse(),
    ],
    ids=str,
)
def test_layout_check_of_another_layout_is_false(other):
    from rl_rms.optim.torch_private import layout_check

    assert not layout_check([torch.zeros(()), torch.zeros(2, 3)])(torch.zeros(()), other)


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_has_hooks_with_a_hook_of_any_kind_is_true(register):
    from rl_rms.optim.torch_private import has_hooks

    module = torch.nn.Linear(1, 1)
    assert not has_hooks(module)
    handle = getattr(module, register)(lambda *args: None)
    assert has_hooks(module)
    handle.remove()
    assert not has_hooks(module)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_has_tensor_hooks_with_a_hook_of_either_kind_is_true(register):
    from rl_rms.optim.torch_private import has_tensor_hooks

    param = torch.nn.Parameter(torch.ones(1))
    assert not has_tensor_hooks(param)
    handle = getattr(param, register)(lambda *args: None)
    assert has_tensor_hooks(param)
    handle.remove()
    assert not has_tensor_hooks(param)


def test_has_step_observers_with_a_hook_of_any_kind_or_a_profiler_is_true():
    from rl_rms.optim.torch_private import has_step_observers

    def hook(*args):
        return None

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    assert not has_step_observers(optimizer)
    for register in (
        optimizer.register_step_pre_hook,
        optimizer.register_step_post_hook,
        register_optimizer_step_pre_hook,
        register_optimizer_step_post_hook,
    ):
        handle = register(hook)
        assert has_step_observers(optimizer)
        handle.remove()
        assert not has_step_observers(optimizer)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        assert has_step_observers(optimizer)


def test_disable_dynamo_excludes_a_function_from_the_graph():
    from rl_rms.optim.torch_private import disable_dynamo

    outside = disable_dynamo(lambda x: x + int(torch.compiler.is_compiling()))
    assert torch.compile(outside, backend="eager")(torch.zeros(1)).item() == 0
