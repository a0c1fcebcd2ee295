"""Gradients at the ends of float32's range: overflowing squares and subnormal averages."""

import math

import pytest
import torch
from torch import nn

from rl_rms import RMSprop
from rl_rms.optim.groups import GroupRMSprop
from rl_rms.optim.rule import largest_root, rmsprop_init, rmsprop_update

LIMITS = torch.finfo(torch.float32)
PATHS = {
    "kernel": {},
    "by itself": {"fused": False},
    "foreach": {"fused": False, "foreach": True},
    "centered": {"centered": True},
    "optimism": {"optimism": 1.0},
    "momentum": {"momentum": 0.5},
    "matched": {"half_life": "match", "timescale": "1_000 updates"},
    "found": {"half_life": "auto"},
    "clipped": {"max_grad_norm": 1.0},
    "guarded": {"on_nonfinite": "raise"},
}


def by_float64(grads, **options):
    """Parameter and state after every step of the rule in float64, in which the squares do not overflow."""
    param = torch.zeros(grads[0].shape, dtype=torch.float64)
    state = rmsprop_init(param)
    for grad in grads:
        param, state = rmsprop_update(param, grad.double(), state, **options)
        yield param, state


def test_largest_root_has_a_finite_square():
    for dtype in (torch.float32, torch.float64):
        root = torch.tensor(largest_root(dtype), dtype=dtype)
        assert (root * root).isfinite()
        above = root * (1 + 4 * torch.finfo(dtype).eps)
        assert (above * above).isinf()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("guarded", [{"fused": False}, {"on_nonfinite": "raise"}, {"on_nonfinite": "skip"}])
def test_step_with_overflowing_squares_equals_float64(guarded, sign):
    grads = [torch.tensor([0.3, -2.0]), torch.tensor([sign * 3e19, 1.0]), *[torch.tensor([0.5, 0.1])] * 3]
    (param,) = params = [nn.Parameter(torch.zeros(2))]
    optimizer = RMSprop(params, lr=0.1, half_life=5, bias_correction=True, **guarded)
    for grad, (wanted, state) in zip(
        grads, by_float64(grads, lr=0.1, half_life=5, bias_correction=True), strict=True
    ):
        param.grad = grad.clone()
        optimizer.step()
        # The gradient 3e19 counts as 1.8e19. All other gradients are negligible relative to 1.8e19.
        torch.testing.assert_close(param.double(), wanted, rtol=1e-5, atol=1e-6)
        assert optimizer.state[param]["square_avg"].isfinite().all()
        torch.testing.assert_close(optimizer.state[param]["square_avg"][1].double(), state["square_avg"][1])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [1e20, -1e30, 3e38])
def test_step_after_an_extreme_gradient_moves_the_coordinate_again(path, size):
    torch.manual_seed(0)
    (param,) = params = [nn.Parameter(torch.zeros(2))]
    options = {"half_life": 2, **PATHS[path]}
    optimizer = RMSprop(params, lr=1e-3, bias_correction=True, **options)
    for step in range(1_000):
        param.grad = torch.randn(2)
        if step == 10:
            param.grad[0] = size
        optimizer.step()
    state = optimizer.state[param]
    assert param.isfinite().all()
    assert state["square_avg"].isfinite().all()
    if options["half_life"] == 2:
        # After almost 500 half-lives, the weight of the extreme gradient is 0 in float32.
        assert 1e-3 < float(state["square_avg"][0]) < 1e3
        before = param.detach().clone()
        param.grad = torch.ones(2)
        optimizer.step()
        assert (param - before).abs().min() > 1e-4
    assert math.isfinite(optimizer.half_life)


def test_step_with_overflowing_squares_stays_within_its_bound():
    for path in ("kernel", "by itself", "foreach", "centered", "clipped", "guarded"):
        param = nn.Parameter(torch.zeros(1))
        optimizer = RMSprop([param], lr=0.1, rho=0.9, **PATHS[path])
        for size in (1.0, 1e38, 1.0):
            before = param.detach().clone()
            param.grad = torch.full((1,), size)
            optimizer.step()
            bound = 0.1 / math.sqrt(0.1) if path != "centered" else 0.1 / math.sqrt(0.1 * 0.9)
            assert (param - before).abs() <= bound * 1.001, path


def test_group_rmsprop_with_overflowing_squares_is_finite():
    for equalize in (False, True):
        weight = nn.Parameter(torch.zeros(2))
        optimizer = GroupRMSprop([weight], lr=1e-3, half_life=2, equalize=equalize)
        torch.manual_seed(0)
        for step in range(1_000):
            grads = {label: [torch.randn(2)] for label in (0, 1)}
            if step == 10:
                grads[0][0][0] = 1e25
            optimizer.step(grads)
        assert weight.isfinite().all()
        assert optimizer.state[weight]["groups"][0]["square_avg"].max() < 1e3


@pytest.mark.parametrize("options", [{}, {"fused": False}, {"momentum": 0.5}, {"centered": True}])
def test_second_moment_of_zero_gradients_becomes_0_instead_of_subnormal(options):
    (param,) = params = [nn.Parameter(torch.ones(2))]
    optimizer = RMSprop(params, lr=1e-3, half_life=2, **options)
    for step in range(768):
        param.grad = torch.tensor([1.0, 1.0 if step == 0 else 0.0])
        optimizer.step()
    state = optimizer.state[param]
    for name in ("square_avg", "momentum_buffer", "grad_avg"):
        if name in state:
            assert state[name][1] == 0.0
            assert state[name][0] != 0.0


def test_flushed_subnormal_second_moment_gives_the_same_step():
    ours, theirs = (nn.Parameter(torch.ones(2)) for _ in range(2))
    own = RMSprop([ours], lr=1e-3, alpha=0.7, fused=False)
    other = torch.optim.RMSprop([theirs], lr=1e-3, alpha=0.7, foreach=False)
    for step in range(600):
        for param, optimizer in ((ours, own), (theirs, other)):
            param.grad = torch.tensor([1.0, 1.0 if step % 500 == 0 else 1e-30])
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)


def test_subnormal_second_moment_without_epsilon_is_kept():
    param = nn.Parameter(torch.ones(1))
    optimizer = RMSprop([param], lr=1e-3, half_life=2, eps=0.0)
    for step in range(256):
        param.grad = torch.ones(1) if step == 0 else torch.full((1,), 1e-21)
        optimizer.step()
    assert 0.0 < float(optimizer.state[param]["square_avg"]) < LIMITS.tiny
    assert param.isfinite().all()


def test_norm_that_overflows_float64_is_skipped():
    param = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = RMSprop([param], lr=0.1, on_nonfinite="skip")
    param.grad = torch.full_like(param, 1e300)
    optimizer.step()
    assert param.tolist() == [0.0, 0.0]
