"""Clipping of gradients in place, compared with hand-computed values."""

import math

import pytest
import torch

from rl_rms.optim.clipping import (
    clip_by_second_moment_,
    clip_by_tensor_norm_,
    clip_by_value_,
    cut_squares_off_,
    describe_nonfinite,
    total_norm,
)


def grads(*values):
    return [torch.tensor(one) for one in values]


def lists(tensors):
    return [one.tolist() for one in tensors]


@pytest.mark.parametrize(
    ("bound", "expected", "clipped"), [(2.0, [[2.0, -1.0], [-2.0]], True), (9.0, None, False)]
)
def test_clip_by_value_limits_magnitudes(bound, expected, clipped):
    given = grads([3.0, -1.0], [-5.0])
    before = lists(given)
    assert clip_by_value_(given, bound) is clipped
    assert lists(given) == (expected or before)


def test_clip_by_tensor_norm_scales_only_the_longer_tensor():
    given = grads([3.0, 4.0], [0.6, 0.8])
    assert clip_by_tensor_norm_(given, 2.5)
    assert given[0].tolist() == pytest.approx([1.5, 2.0])
    assert given[1].tolist() == pytest.approx([0.6, 0.8])
    assert not clip_by_tensor_norm_(given, 2.6)


def test_clip_by_second_moment_limits_to_the_ratio_and_spares_unknown_coordinates():
    state = {"step": torch.tensor(1.0), "square_avg": torch.tensor([4.0, 0.0]), "initial_weight": 0.5}
    options = {"eps": 1e-8, "centered": False}
    given = grads([-9.0, 9.0])
    assert clip_by_second_moment_(given, [state], 3.0, bias_correction=False, **options)
    assert given[0].tolist() == [-6.0, 9.0]
    # v^ = 4 / (1 - 1/2) = 8.
    given = grads([-9.0, 9.0])
    assert clip_by_second_moment_(given, [state], 3.0, bias_correction=True, **options)
    assert given[0].tolist() == pytest.approx([-3.0 * math.sqrt(8.0), 9.0])


@pytest.mark.parametrize("state", [{}, {"step": torch.tensor(0.0), "square_avg": torch.ones(1)}])
def test_clip_by_second_moment_before_the_first_update_leaves_gradients(state):
    given = grads([9.0])
    options = {"eps": 1e-8, "centered": False, "bias_correction": False}
    assert not clip_by_second_moment_(given, [state], 3.0, **options)
    assert given[0].tolist() == [9.0]


def test_total_norm_covers_all_coordinates():
    assert total_norm(grads([3.0, 0.0], [4.0])) == pytest.approx(5.0)
    assert total_norm(grads([3.0, 4.0])) == pytest.approx(5.0)


def test_cut_squares_off_scales_and_leaves_finite_squares():
    param = torch.nn.Parameter(torch.zeros(2))
    param.grad = torch.tensor([1e30, 4.0])
    cut_squares_off_([param, torch.nn.Parameter(torch.zeros(1))], 0.5)
    assert param.grad.square().isfinite().all()
    assert param.grad[1] == 2.0


def test_describe_nonfinite_names_parameter_value_and_count():
    params = {"first": torch.nn.Parameter(torch.zeros(2)), "second": torch.nn.Parameter(torch.zeros(3, 1))}
    for param in params.values():
        param.grad = torch.ones_like(param)
    assert describe_nonfinite(params.items()) == ""
    params["second"].grad[2] = math.inf
    message = describe_nonfinite(params.items())
    assert all(word in message for word in ("second", "inf", "1 of 3", "on_nonfinite"))
