"""Clipping and checks of gradients before the second moment accumulates them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from rl_rms import RMSprop
from tests.naming import naming

FUSED = pytest.mark.parametrize("fused", [True, False])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def parameters(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (3,), ()]
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def set_gradients(params, scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = scale * torch.randn(param.shape, generator=generator, dtype=param.dtype)


def snapshot(optimizer):
    return copy.deepcopy((optimizer.param_groups[0]["params"], optimizer.state_dict()["state"]))


def assert_unchanged(optimizer, before):
    params, state = before
    for own, other in zip(optimizer.param_groups[0]["params"], params, strict=True):
        assert torch.equal(own, other)
    for own, other in zip(optimizer.state_dict()["state"].values(), state.values(), strict=True):
        assert all(
            own[name] == other[name] if name == "initial_weight" else torch.equal(own[name], other[name])
            for name in own
        )


@FUSED
@DTYPES
@pytest.mark.parametrize("gather_at_most", [0, 1 << 18])
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True}, {"momentum": 0.5}], ids=str)
def test_max_grad_norm_equals_clip_grad_norm_before_the_step(
    fused, dtype, gather_at_most, keeps, options, monkeypatch
):
    monkeypatch.setattr("rl_rms.optim.kernels.batch.GATHER_AT_MOST", gather_at_most)
    ours, theirs = parameters(dtype), parameters(dtype)
    inside = RMSprop(ours, lr=0.1, max_grad_norm=0.5, fused=fused, bias_correction=True, **options)
    plain = RMSprop(theirs, lr=0.1, fused=False, bias_correction=True, **options)
    for seed, scale in enumerate([1.0, 1e-3, 1e3, 0.2, 1e-3, 50.0]):
        set_gradients(theirs, scale, seed)
        for own, other in zip(ours, theirs, strict=True):
            if keeps and own.grad is not None:
                own.grad.copy_(other.grad)
            else:
                own.grad = other.grad.clone()
        norm = nn.utils.clip_grad_norm_(theirs, 0.5)
        inside.step()
        plain.step()
        assert inside.guard.gradient_norm == pytest.approx(norm.item())
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own, other)
            torch.testing.assert_close(own.grad, other.grad)


@FUSED
def test_max_grad_norm_keeps_an_outlier_out_of_v(fused):
    (param,) = params = [nn.Parameter(torch.zeros(3))]
    optimizer = RMSprop(params, lr=0.1, max_grad_norm=1.0, fused=fused)
    param.grad = torch.full((3,), 1e6)
    optimizer.step()
    assert optimizer.state[param]["square_avg"].sum() <= 0.01 * 1.0 + 1e-6


@FUSED
def test_max_grad_norm_of_gradients_with_a_graph_equals_that_of_detached_gradients(fused):
    both = parameters(), parameters()
    optimizers = [RMSprop(params, max_grad_norm=1e-3, fused=fused) for params in both]
    for _ in range(2):
        grads = torch.autograd.grad(sum(param.pow(4).sum() for param in both[0]), both[0], create_graph=True)
        for own, other, grad in zip(*both, grads, strict=True):
            own.grad, other.grad = grad, grad.detach().clone()
        for optimizer in optimizers:
            optimizer.step()
    assert all(map(torch.equal, *both))
    assert all(param.grad.requires_grad for param in both[0])


def test_max_grad_norm_covers_all_groups():
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = RMSprop([{"params": [first]}, {"params": [second], "lr": 0.5}], max_grad_norm=1.0)
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    assert optimizer.guard.gradient_norm == pytest.approx(5.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx([0.6, 0.8], rel=1e-4)


@FUSED
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_skip_keeps_parameters_and_state_and_counts(fused, value, max_grad_norm):
    params = parameters()
    optimizer = RMSprop(params, lr=0.1, on_nonfinite="skip", max_grad_norm=max_grad_norm, fused=fused)
    for _ in range(2):
        set_gradients(params, 1.0)
        optimizer.step()
    before = snapshot(optimizer)
    set_gradients(params, 1.0)
    params[0].grad[1, 2] = value
    optimizer.step()
    assert_unchanged(optimizer, before)
    assert optimizer.guard.num_nonfinite == 1
    set_gradients(params, 1.0)
    optimizer.step()
    assert not torch.equal(params[0], before[0][0])
    assert copy.deepcopy(optimizer).guard.num_nonfinite == 1


@FUSED
def test_raise_names_the_parameter_and_changes_nothing(fused):
    params = parameters()
    optimizer = RMSprop(params, on_nonfinite="raise", fused=fused)
    set_gradients(params, 1.0)
    optimizer.step()
    before = snapshot(optimizer)
    params[1].grad[:2] = float("nan")
    with pytest.raises(FloatingPointError, match=naming("parameter 1", "(3,)", "nan", "2 of 3")):
        optimizer.step()
    assert_unchanged(optimizer, before)


def test_raise_names_the_norm_if_only_the_norm_is_nonfinite():
    (param,) = params = [nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    optimizer = RMSprop(params, on_nonfinite="raise")
    param.grad = torch.full_like(param, 1e300)
    with pytest.raises(FloatingPointError, match=naming("norm", "finite", "inf")):
        optimizer.step()
    assert not param.any()
    assert optimizer.state[param]["step"] == 0


def test_step_of_finite_gradients_with_overflowing_squares_passes_the_guard():
    (param,) = params = [nn.Parameter(torch.zeros(2))]
    optimizer = RMSprop(params, lr=0.1, on_nonfinite="raise", max_grad_norm=1.0)
    param.grad = torch.full((2,), 1e30)
    optimizer.step()
    assert optimizer.guard.gradient_norm == pytest.approx(2**0.5 * 1e30)
    assert param.isfinite().all()


def test_step_without_guard_passes_nonfinite_gradients():
    (param,) = params = [nn.Parameter(torch.zeros(2))]
    optimizer = RMSprop(params, lr=0.1)
    param.grad = torch.tensor([1.0, float("nan")])
    optimizer.step()
    assert param.isnan().tolist() == [False, True]
    assert optimizer.guard.gradient_norm is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_grad_norm": 0.0}, ("max_grad_norm", "> 0", "None", "0.0")),
        ({"max_tensor_norm": -1.0}, ("max_tensor_norm", "> 0", "None", "-1.0")),
        ({"max_grad_value": 0}, ("max_grad_value", "> 0", "None")),
        ({"max_grad_ratio": 1.0}, ("max_grad_ratio", "> 1", "None", "1.0")),
        ({"max_grad_value": 1.0, "differentiable": True}, ("max_grad_value",)),
        ({"on_nonfinite": "ignore"}, ("on_nonfinite", '"raise"', '"skip"', "None", "'ignore'")),
        ({"max_grad_norm": 1.0, "differentiable": True}, ("max_grad_norm", "before the step")),
    ],
)
def test_constructor_with_a_wrong_guard_names_it(options, said):
    with pytest.raises(ValueError, match=naming(*said)):
        RMSprop(parameters(), **options)


@pytest.mark.parametrize("name", ["max_grad_norm", "max_tensor_norm", "max_grad_value", "max_grad_ratio"])
@pytest.mark.parametrize("value", ["3", True, float("nan"), [3.0]])
def test_non_numeric_bound_names_it(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        RMSprop(parameters(), **{name: value})
    assert repr(value) in str(caught.value)
    RMSprop(parameters(), **{name: np.int64(3)})


def test_diagnostics_have_the_norm_before_clipping():
    params = parameters()
    optimizer = RMSprop(params, max_grad_norm=0.5)
    set_gradients(params, 3.0)
    norm = nn.utils.get_total_norm([param.grad for param in params]).item()
    optimizer.step()
    assert optimizer.diagnostics()["gradient_norm"] == pytest.approx(norm)
    assert norm > 1


def clipped(grads, fused=False, updates=1, **options):
    """Take a step with each of the given gradients; return the clipped gradients and the optimizer."""
    param = nn.Parameter(torch.zeros(len(grads[0]), dtype=torch.float64))
    optimizer = RMSprop([param], fused=fused, **options)
    seen = []
    for grad in grads:
        param.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        seen.append(param.grad.tolist())
    return seen, optimizer


@FUSED
def test_max_grad_value_clips_each_coordinate(fused):
    seen, optimizer = clipped([[3.0, -0.5, -9.0], [0.1, 0.2, 0.3]], fused=fused, max_grad_value=1.0)
    assert seen == [[1.0, -0.5, -1.0], [0.1, 0.2, 0.3]]
    assert (optimizer.guard.clip_share, optimizer.guard.num_updates) == (0.5, 2)
    (state,) = optimizer.state.values()
    expected = torch.tensor([1.0, 0.25, 1.0]) * 0.01 * 0.99 + torch.tensor([0.01, 0.04, 0.09]) * 0.01
    torch.testing.assert_close(state["square_avg"], expected.double(), rtol=1e-6, atol=0)


@FUSED
def test_max_tensor_norm_clips_each_tensor(fused):
    params = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = RMSprop(params, max_tensor_norm=1.0, fused=fused)
    params[0].grad, params[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    optimizer.step()
    torch.testing.assert_close(params[0].grad, torch.tensor([0.6, 0.8]))
    assert params[1].grad.tolist() == pytest.approx([0.3, 0.4])
    assert optimizer.guard.clip_share == 1.0


@FUSED
def test_max_grad_ratio_contains_a_burst_in_its_coordinate(fused):
    # With bias correction, the root second moment of a constant gradient is its absolute value.
    calm = [[1.0, -1.0, 0.0]] * 5
    seen, optimizer = clipped([*calm, [1000.0, -1.0, 7.0]], fused=fused, max_grad_ratio=3.0, bias_correction=True)
    assert seen[:5] == calm
    # A coordinate whose earlier gradients are all 0 is not clipped.
    assert seen[5] == pytest.approx([3.0, -1.0, 7.0])
    assert optimizer.guard.clip_share == pytest.approx(1 / 6)
    # Clipping by the global norm shrinks the second coordinate too.
    by_norm, _ = clipped([*calm, [1000.0, -1.0, 7.0]], fused=fused, max_grad_norm=2**0.5, bias_correction=True)
    assert abs(by_norm[5][1]) < 0.01


@FUSED
def test_max_grad_ratio_adapts_to_a_lasting_change(fused):
    seen, _ = clipped(
        [[1.0]] * 20 + [[100.0]] * 60, fused=fused, max_grad_ratio=3.0, bias_correction=True, half_life=8
    )
    assert seen[20] == pytest.approx([3.0])
    assert seen[-1] == [100.0]


@FUSED
def test_clipping_order_is_coordinate_tensor_norm(fused):
    params = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = RMSprop(params, max_grad_value=4.0, max_tensor_norm=1.0, max_grad_norm=0.5, fused=fused)
    params[0].grad, params[1].grad = torch.tensor([3.0, 400.0]), torch.tensor([0.0, 0.5])
    optimizer.step()
    # (3, 400) -> (3, 4) -> (0.6, 0.8). Together with (0, 0.5) the norm is sqrt(1.25), which is scaled to 0.5.
    scale = 0.5 / 1.25**0.5
    assert params[0].grad.tolist() == pytest.approx([0.6 * scale, 0.8 * scale], rel=1e-4)
    assert params[1].grad.tolist() == pytest.approx([0.0, 0.5 * scale], rel=1e-4)
    assert optimizer.guard.gradient_norm == pytest.approx((9 + 160_000 + 0.25) ** 0.5)


def test_max_update_rms_clips_each_tensor():
    # Before clipping, the first step is lr / sqrt(1 - rho) = 10 where the gradient is not 0. The clipping does not
    # change v.
    params = [nn.Parameter(torch.zeros(4)) for _ in range(2)]
    optimizer = RMSprop(params, lr=1.0, eps=1e-12, max_update_rms=2.0)
    params[0].grad, params[1].grad = torch.full((4,), 5.0), torch.tensor([1.0, 0.0, 0.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(params[0].detach(), torch.full((4,), -2.0))
    # The root mean square of (10, 0, 0, 0) is 5.
    torch.testing.assert_close(params[1].detach(), torch.tensor([-4.0, 0.0, 0.0, 0.0]))
    assert optimizer.state[params[0]]["square_avg"].tolist() == pytest.approx([0.25] * 4)
    for _ in range(500):
        optimizer.step()
    before = params[0].detach().clone()
    optimizer.step()
    assert (before - params[0].detach()).tolist() == pytest.approx([1.0] * 4, rel=0.01)
