"""The kernels for many parameters are the rule: equal to `rmsprop_update` in every option."""

import itertools

import pytest
import torch

from rl_rms.optim.foreach import rmsprop_update_foreach
from rl_rms.optim.rule import rmsprop_init, rmsprop_update

SHAPES = [(3, 4), (), (5,), (0,)]
FLAGS = [False, True]


def run_both(dtype, lr=0.05, initial_second_moment=0.0, **options):
    options = {"nesterov": False, "lr_in_momentum": False, "optimism": 0.0, **options}
    generator = torch.Generator().manual_seed(0)
    init = {name: options[name] for name in ("momentum", "optimism", "centered")}
    params = [torch.randn(shape, dtype=dtype, generator=generator) for shape in SHAPES]
    states = [rmsprop_init(param, initial_second_moment=initial_second_moment, **init) for param in params]
    expected = [
        (param.clone(), rmsprop_init(param, initial_second_moment=initial_second_moment, **init))
        for param in params
    ]
    for update in range(20):
        rho = 0.9 if update % 2 else 0.8
        grads = [torch.randn(shape, dtype=dtype, generator=generator) for shape in SHAPES]
        before = [grad.clone() for grad in grads]
        rmsprop_update_foreach(params, grads, states, lr=lr, rho=rho, **options)
        assert all(torch.equal(*pair) for pair in zip(grads, before, strict=True))
        expected = [
            rmsprop_update(param, grad, state, lr=lr, rho=rho, **options)
            for (param, state), grad in zip(expected, grads, strict=True)
        ]
    return list(zip(params, states, strict=True)), expected


def assert_equal(ours, expected, tolerance):
    for (param, state), (expected_param, expected_state) in zip(ours, expected, strict=True):
        torch.testing.assert_close(param, expected_param, rtol=tolerance, atol=tolerance)
        assert state.keys() == expected_state.keys()
        assert state["initial_weight"] == expected_state["initial_weight"]
        assert state["step"].item() == 20
        for name in state.keys() - {"initial_weight"}:
            torch.testing.assert_close(state[name], expected_state[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bias_correction", FLAGS)
@pytest.mark.parametrize("eps_in_sqrt", FLAGS)
@pytest.mark.parametrize(
    ("momentum", "centered", "weight_decay", "decoupled"),
    list(itertools.product([0.0, 0.9], FLAGS, [0.1], FLAGS)) + [(0.0, False, 0.0, False)],
)
def test_equals_the_rule(momentum, centered, weight_decay, decoupled, eps_in_sqrt, bias_correction):
    options = {
        "momentum": momentum,
        "centered": centered,
        "weight_decay": weight_decay,
        "decoupled_weight_decay": decoupled,
        "eps_in_sqrt": eps_in_sqrt,
        "bias_correction": bias_correction,
        "eps": 1e-3,
    }
    initial_second_moment = 0.0 if bias_correction else 1.0
    assert_equal(*run_both(torch.float64, initial_second_moment=initial_second_moment, **options), 1e-11)


@pytest.mark.parametrize("optimism", [0.0, 1.0])
@pytest.mark.parametrize("nesterov", FLAGS)
@pytest.mark.parametrize("lr_in_momentum", FLAGS)
@pytest.mark.parametrize("momentum", [-0.5, 0.0, 0.9])
def test_forms_of_momentum(momentum, nesterov, lr_in_momentum, optimism):
    options = {
        "momentum": momentum,
        "optimism": optimism,
        "nesterov": nesterov,
        "lr_in_momentum": lr_in_momentum,
        "centered": False,
        "weight_decay": 0.1,
        "decoupled_weight_decay": True,
        "eps_in_sqrt": False,
        "bias_correction": True,
        "eps": 1e-3,
    }
    assert_equal(*run_both(torch.float64, **options), 1e-11)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.complex64, 1e-5), (torch.float16, 1e-6), (torch.bfloat16, 1e-6)],
)
@pytest.mark.parametrize("lr", [0.05, torch.tensor(0.05, dtype=torch.float64)], ids=["number", "tensor"])
def test_equals_the_rule_in_other_precisions(dtype, tolerance, lr):
    ours, expected = run_both(
        dtype,
        lr=lr,
        momentum=0.5,
        optimism=1.0,
        centered=True,
        weight_decay=0.1,
        decoupled_weight_decay=False,
        eps_in_sqrt=False,
        bias_correction=True,
        eps=1e-3,
    )
    assert_equal(ours, expected, tolerance)


def test_centered_survives_constant_gradients():
    param, grad = torch.zeros(1000), torch.linspace(0.1, 3, 1000)
    state = rmsprop_init(param, centered=True)
    for _ in range(60):
        rmsprop_update_foreach(
            [param],
            [grad],
            [state],
            lr=0.01,
            rho=0.5,
            eps=1e-8,
            weight_decay=0.0,
            momentum=0.0,
            optimism=0.0,
            centered=True,
            bias_correction=False,
            eps_in_sqrt=False,
            decoupled_weight_decay=False,
            nesterov=False,
            lr_in_momentum=False,
        )
    assert param.isfinite().all()
