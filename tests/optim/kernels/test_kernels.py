"""Kernels equal `rmsprop_update` for the options that they support, in several precisions."""

import itertools

import pytest
import torch

from rl_rms.optim.kernels.batch import Batch, UniformBatch
from rl_rms.optim.kernels.foreach import ForeachKernel
from rl_rms.optim.kernels.fused import FusedKernel
from rl_rms.optim.kernels.plain import PlainKernel
from rl_rms.optim.rule import rmsprop_init, rmsprop_update

SHAPES = [(3, 4), (5,), ()]
FLAGS = [False, True]
UPDATES, SCALE = 12, 0.5
KERNELS = {
    "plain": PlainKernel,
    "foreach": ForeachKernel,
    "foreach, small": ForeachKernel,
    "foreach, large": ForeachKernel,
    "fused": FusedKernel,
}
TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 2e-5,
    torch.complex64: 2e-5,
    torch.float16: 1e-6,
    torch.bfloat16: 1e-6,
}
# Options of the rule except for lr and rho, which change during training.
RULE = {
    "eps": 1e-3,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "optimism": 0.0,
    "centered": False,
    "bias_correction": False,
    "eps_in_sqrt": False,
    "decoupled_weight_decay": False,
    "nesterov": False,
    "lr_in_momentum": False,
    "cautious": False,
    "max_update_rms": None,
}
# Kernels of uniform batches. The fused kernel gets a large batch, because it does not support ``eps_in_sqrt`` for
# small batches.
UNIFORM = {"foreach, small", "foreach, large", "fused"}
# For each option, the kernels that do not support it.
LACKING = {
    "centered": {"fused"},
    "optimism": {"fused"},
    "cautious": {"foreach", *UNIFORM},
    "max_update_rms": {"foreach", *UNIFORM},
}


def product(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


OPTIONS = [
    *product(
        momentum=[0.0, 0.9], centered=FLAGS, weight_decay=[0.0, 0.1], bias_correction=FLAGS, eps_in_sqrt=FLAGS
    ),
    *product(weight_decay=[0.1], decoupled_weight_decay=[True], momentum=[0.0, 0.9], lr_in_momentum=FLAGS),
    *product(momentum=[-0.5, 0.9], nesterov=FLAGS, lr_in_momentum=FLAGS, optimism=[0.0, 1.0]),
    *product(maximize=[True], weight_decay=[0.0, 0.1], decoupled_weight_decay=FLAGS, eps_in_sqrt=FLAGS),
    *product(momentum=[0.9], cautious=[True], max_update_rms=[None, 0.3], centered=FLAGS, optimism=[0.0, 1.0]),
    {"optimism": 0.5},
    {"initial_second_moment": 1.0},
]


def is_lacking(kernel, options):
    return any(options.get(name) and kernel in kernels for name, kernels in LACKING.items())


SINGLE = [OPTIONS[0], {"optimism": 0.5}, {"initial_second_moment": 1.0}]
CASES = [(kernel, options) for options in OPTIONS for kernel in KERNELS if not is_lacking(kernel, options)]


def tensors(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=generator) for shape in SHAPES]


def group_of(options):
    others = {"foreach": True, "differentiable": False, "maximize": False, **RULE, "initial_second_moment": 0.0}
    return {**others, **options, "lr": 0.05, "alpha": 0.9}


def initial(params, group):
    names = ("momentum", "optimism", "centered", "initial_second_moment")
    return [rmsprop_init(param, **{name: group[name] for name in names}) for param in params]


def uniform_batch(kernel, params, states):
    with pytest.MonkeyPatch.context() as monkeypatch:
        if kernel != "foreach, small":
            monkeypatch.setattr("rl_rms.optim.kernels.batch.GATHER_AT_MOST", 0)
        for param in params:
            param.grad = torch.zeros_like(param) if param.grad is None else param.grad
        return UniformBatch(params, states)


def advance(kernel, dtype, options, make_lr=float):
    """Pairs of parameter and state after some updates: by a kernel, and by the rule."""
    group = group_of(options)
    params = tensors(dtype, seed=0)
    expected = list(zip([param.clone() for param in params], initial(params, group), strict=True))
    states = initial(params, group)
    uniform = uniform_batch(kernel, params, states) if kernel in UNIFORM else None
    for update in range(UPDATES):
        group.update(lr=make_lr(0.05 / (1 + update % 2)), alpha=0.9 if update % 3 else 0.8)
        grads = tensors(dtype, seed=1 + update)
        before = [grad.clone() for grad in grads]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        batch = Batch(params, grads, states) if uniform is None else uniform
        assert uniform is None or uniform.collect()
        assert KERNELS[kernel]().supports(batch, group)
        KERNELS[kernel]().update(batch, group, scale=SCALE)
        rule = {name: group[name] for name in RULE}
        sign = -SCALE if group["maximize"] else SCALE
        expected = [
            rmsprop_update(param, sign * grad, state, lr=group["lr"], rho=group["alpha"], **rule)
            for (param, state), grad in zip(expected, before, strict=True)
        ]
        torch.testing.assert_close(grads, [SCALE * grad for grad in before])
    return list(zip(params, states, strict=True)), expected


def assert_same(ours, expected, tolerance):
    for (param, state), (expected_param, expected_state) in zip(ours, expected, strict=True):
        torch.testing.assert_close(param, expected_param, rtol=tolerance, atol=tolerance)
        assert state.keys() == expected_state.keys()
        assert state["initial_weight"] == pytest.approx(expected_state["initial_weight"], rel=1e-12)
        assert state["step"].item() == UPDATES
        for name in state.keys() - {"initial_weight"}:
            torch.testing.assert_close(state[name], expected_state[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kernel", "options", "dtype"),
    [
        *((*case, torch.float64) for case in CASES),
        # Only the fused kernel has separate operations for single precision.
        *((*case, torch.float32) for case in CASES if case[0] == "fused" or case[1] in SINGLE),
    ],
    ids=str,
)
def test_update_of_every_kernel_and_option_equals_the_rule(kernel, options, dtype):
    if dtype is torch.float32 and options.get("centered"):
        options = {**options, "eps": 0.1}  # a small eps would amplify rounding errors of v - m*m
    assert_same(*advance(kernel, dtype, options), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "make_lr", [float, lambda lr: torch.tensor(lr, dtype=torch.float64)], ids=["number", "tensor"]
)
@pytest.mark.parametrize("kernel", ["plain", "foreach"])
def test_update_in_other_precisions_equals_the_rule(kernel, make_lr, dtype):
    options = {"momentum": 0.5, "optimism": 1.0, "centered": True, "weight_decay": 0.1, "bias_correction": True}
    assert_same(*advance(kernel, dtype, {**options, "eps": 0.1}, make_lr), TOLERANCES[dtype])


@pytest.mark.parametrize(("option", "value"), [("cautious", True), ("max_update_rms", 0.3)])
def test_only_the_plain_kernel_supports_options_with_tensor_means(option, value):
    params = tensors(torch.float64, seed=0)
    group = group_of({option: value, "momentum": 0.9})
    batch = Batch(params, params, initial(params, group))
    assert PlainKernel().supports(batch, group)
    assert not ForeachKernel().supports(batch, group)


@pytest.mark.parametrize(
    "options",
    [
        {"centered": True},
        {"optimism": 1.0},
        {"eps_in_sqrt": True, "alpha": 0.0},
        {"decoupled_weight_decay": True, "lr": 1e-300},
        {"momentum": 0.9, "lr_in_momentum": True, "lr": 0.0},
        {"alpha": 1 - 1e-6},
    ],
    ids=str,
)
def test_fused_kernel_does_not_support_options_that_adamw_lacks(options):
    params = tensors(torch.float32, seed=0)
    for param in params:
        param.grad = torch.ones_like(param)
    group = group_of({})
    batch = uniform_batch("fused", params, initial(params, group))
    assert FusedKernel().supports(batch, group)
    assert not FusedKernel().supports(batch, {**group, **options})


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if not is_lacking(kernel, {"centered": True})])
def test_update_centered_with_constant_gradients_stays_finite(kernel):
    param = torch.zeros(1000)
    param.grad = torch.linspace(0.1, 3, 1000)
    group = {**group_of({"centered": True}), "alpha": 0.5, "eps": 1e-8}
    states = initial([param], group)
    is_uniform = kernel in UNIFORM
    batch = uniform_batch(kernel, [param], states) if is_uniform else Batch([param], [param.grad], states)
    for _ in range(60):
        assert not batch.is_uniform or batch.collect()
        KERNELS[kernel]().update(batch, group, scale=1.0)
    assert param.isfinite().all()
