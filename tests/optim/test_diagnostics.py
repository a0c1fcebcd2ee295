import math

import pytest
import torch

from rl_rms import RMSprop
from rl_rms.laws import least_error_half_life
from rl_rms.optim.diagnostics import diagnostics


def stepped(*grads, **options):
    params = [torch.nn.Parameter(torch.zeros(len(grad), dtype=torch.float64)) for grad in grads]
    optimizer = RMSprop(params, **options)
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.tensor(grad, dtype=torch.float64)
    optimizer.step()
    return optimizer


def test_diagnostics_equal_hand_computed_values():
    # v = g*g / 2, so every step has the size sqrt(2) lr, which is the bound. The mean of v is (16 + 4 + 36) / 6.
    optimizer = stepped([4.0, 2.0], [-6.0], lr=0.1, half_life=1, eps=0.0)
    optimizer.steps_per_update = 40
    assert optimizer.diagnostics() == pytest.approx(
        {
            "half_life_updates": 1.0,
            "half_life_steps": 40.0,
            "rho": 0.5,
            "effective_step": 0.1 * math.sqrt(2),
            "step_over_lr": math.sqrt(2),
            "second_moment": 56 / 6,
            "log10_second_moment_low": math.log10(2) + 0.2 * (math.log10(8) - math.log10(2)),
            "log10_second_moment_median": math.log10(8),
            "log10_second_moment_high": math.log10(18) - 0.2 * (math.log10(18) - math.log10(8)),
            "median_rate": 0.1 / math.sqrt(8),
            "squared_gradient": 56 / 3,
            "tracking_ratio": 2.0,
            "containment_margin": 0.0,
            "eps_dominance": 0.0,
            "gradient_norm": math.sqrt(56),
            "clip_share": 0.0,
            "num_nonfinite": 0.0,
        }
    )


def test_diagnostics_after_two_updates_equal_hand_computed_values():
    # At rho = 1/2, the bias-corrected v is (16 / 4 + 1 / 2) / (3 / 4) = 6 in the first coordinate and
    # (4 / 4 + 4 / 2) / (3 / 4) = 4 in the second. The bound of a step is lr * sqrt((3 / 4) / (1 / 2)).
    optimizer = stepped([4.0, 2.0], lr=0.1, half_life=1, eps=0.0, bias_correction=True)
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([1.0, 2.0], dtype=torch.float64)
    optimizer.step()
    values = optimizer.diagnostics()
    assert values["second_moment"] == pytest.approx(5)
    assert values["tracking_ratio"] == pytest.approx((1 / 6 + 1) / 2)
    assert values["step_over_lr"] == pytest.approx(math.sqrt((1 / 6 + 1) / 2))
    assert values["containment_margin"] == pytest.approx(1 - 1 / math.sqrt(1.5))


def test_diagnostics_have_the_share_dominated_by_eps():
    def share(eps, inside):
        optimizer = stepped([4.0, 0.2], [0.02, 0.0], rho=0.0, eps=eps, eps_in_sqrt=inside)
        return optimizer.diagnostics()["eps_dominance"]

    assert share(0.1, inside=False) == 0.5
    assert share(0.1, inside=True) == 0.75
    assert share(0.0, inside=False) == 0.0


def test_diagnostics_without_a_bound_have_no_margin():
    assert "containment_margin" not in stepped([4.0], centered=True).diagnostics()


def test_diagnostics_have_the_share_of_clipped_updates():
    optimizer = stepped([4.0], max_grad_norm=1.0)
    (param,) = optimizer.param_groups[0]["params"]
    for grad in (0.5, 3.0, 0.5):
        param.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
    assert optimizer.diagnostics()["clip_share"] == 0.5
    param.grad = torch.tensor([0.5], dtype=torch.float64)
    for _ in range(300):
        optimizer.step()
    assert optimizer.diagnostics()["clip_share"] < 0.1
    assert optimizer.guard.num_updates == 304


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias_correction": True},
        {"eps": 0.5},
        {"eps": 0.5, "eps_in_sqrt": True},
        {"centered": True, "maximize": True},
    ],
)
def test_diagnostics_effective_step_equals_the_change_of_parameters(options):
    optimizer = stepped([4.0, -2.0, 0.5], lr=0.1, half_life=3, **options)
    (param,) = optimizer.param_groups[0]["params"]
    assert diagnostics(optimizer, optimizer.controller, optimizer.guard)["effective_step"] == pytest.approx(
        param.square().mean().sqrt().item()
    )


def test_diagnostics_effective_step_uses_the_learning_rate_of_each_group():
    fast, slow = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    optimizer = RMSprop(
        [{"params": fast, "lr": 0.3}, {"params": slow, "lr": torch.tensor(0.1)}], bias_correction=True
    )
    fast.grad = slow.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.diagnostics()["effective_step"] == pytest.approx(math.sqrt((0.09 + 0.01) / 2))


def test_diagnostics_second_moment_is_bias_corrected_and_centered():
    assert stepped([4.0], half_life=1, bias_correction=True).diagnostics()["second_moment"] == pytest.approx(16)
    assert stepped([4.0], half_life=1, centered=True).diagnostics()["second_moment"] == pytest.approx(8 - 4)


def test_diagnostics_have_the_half_life_in_steps():
    optimizer = stepped([1.0], half_life="20_000 steps", steps_per_update=80)
    values = optimizer.diagnostics()
    assert values["half_life_updates"] == 250.0
    assert values["half_life_steps"] == 20_000.0
    assert values["rho"] == pytest.approx(2 ** (-1 / 250))


def test_diagnostics_before_the_first_update_have_no_measured_values():
    optimizer = RMSprop([torch.nn.Parameter(torch.zeros(2))], half_life=1)
    names = (
        "effective_step",
        "step_over_lr",
        "second_moment",
        "squared_gradient",
        "tracking_ratio",
        "eps_dominance",
        "gradient_norm",
        "clip_share",
        "num_nonfinite",
    )
    nothing_yet = dict.fromkeys(names, 0.0)
    assert optimizer.diagnostics() == {"half_life_updates": 1.0, "rho": 0.5, **nothing_yet}
    optimizer.half_life = "20_000 steps"
    assert optimizer.diagnostics() == nothing_yet


def test_diagnostics_after_zero_grad_have_the_second_moment():
    optimizer = stepped([4.0], half_life=1)
    optimizer.zero_grad()
    values = optimizer.diagnostics()
    assert (values["effective_step"], values["second_moment"], values["gradient_norm"]) == (0.0, 8.0, 0.0)


def test_diagnostics_of_complex_and_half_precision_are_finite():
    params = [torch.nn.Parameter(torch.zeros(1, dtype=dtype)) for dtype in (torch.complex64, torch.float16)]
    optimizer = RMSprop(params, half_life=1)
    params[0].grad = torch.tensor([3.0 + 4.0j])
    params[1].grad = torch.tensor([300.0], dtype=torch.float16)  # 300**2 overflows half precision
    optimizer.step()
    values = optimizer.diagnostics()
    assert values["gradient_norm"] == pytest.approx(math.sqrt(9 + 16 + 90_000))
    assert values["second_moment"] == pytest.approx((9 + 16 + 90_000) / 6)


def test_diagnostics_do_not_change_the_optimizer():
    optimizer = stepped([4.0, 2.0], centered=True)
    before = str(optimizer.state_dict())
    optimizer.diagnostics()
    assert str(optimizer.state_dict()) == before


def test_distributions_equal_hand_computed_values():
    """v = g**2 / 2 after a first step with a half-life of one update; the step is lr * |g| / sqrt(v)."""
    from rl_rms.optim.diagnostics import distributions

    found = distributions(stepped([4.0, -100.0, 0.0], half_life=1, lr=0.01))
    assert found["log10_second_moment"].tolist() == pytest.approx([math.log10(8), math.log10(5_000)])
    assert found["log10_step"].tolist() == pytest.approx([math.log10(0.01 * math.sqrt(2))] * 2, abs=1e-6)


def test_quantiles_cover_positive_v_of_all_parameters():
    optimizer = stepped([0.0] * 500, lr=0.1, rho=0.0, eps=0.5)
    values = optimizer.diagnostics()
    assert "log10_second_moment_median" not in values
    assert values["median_rate"] == pytest.approx(0.2)
    # With this many coordinates, the quantiles are of a sample. The positive values of v are log-uniform from 1 to
    # 100.
    values = stepped([10.0 ** (i / 9_000) for i in range(9_000)], [0.0] * 5_000, rho=0.0).diagnostics()
    assert values["log10_second_moment_low"] == pytest.approx(0.2, abs=0.02)
    assert values["log10_second_moment_median"] == pytest.approx(1.0, abs=0.02)
    assert values["log10_second_moment_high"] == pytest.approx(1.8, abs=0.02)


def test_diagnostics_have_the_unbounded_half_life():
    optimizer = stepped([1.0], half_life=500, timescale=20_000, half_life_bounds=(10, 10_000))
    # Before the first estimate, "match" assumes a signal of 1.
    assert optimizer.diagnostics()["half_life_matched"] == pytest.approx(least_error_half_life(20_000, 1.0))
    assert optimizer.diagnostics()["half_life_updates"] == pytest.approx(500)
    optimizer.timescale = "20_000 steps"
    assert "half_life_matched" not in optimizer.diagnostics()
    optimizer.steps_per_update = 1_000
    assert least_error_half_life(20, 1.0) < 10
    assert optimizer.diagnostics()["half_life_matched"] == 10
    # The half-life depends on the observed gradients, which grow and shrink a thousandfold.
    optimizer.timescale = 1_000
    (param,) = optimizer.param_groups[0]["params"]
    optimizer.half_life = "match"
    for update in range(2_000):
        param.grad.fill_((30.0 if update // 500 % 2 else 0.03) * (1 + update % 3))
        optimizer.step()
    values = optimizer.diagnostics()
    beginning = least_error_half_life(1_000, 1.0)
    assert values["half_life_matched"] == values["half_life_updates"] < 0.95 * beginning
    optimizer.half_life = 500
    assert optimizer.diagnostics()["half_life_matched"] == pytest.approx(beginning)


@pytest.mark.parametrize("joined", [0, 3, 2**20])
def test_diagnostics_are_independent_of_the_joined_parameters(joined, monkeypatch):
    monkeypatch.setattr("rl_rms.optim.diagnostics._JOINED", joined)
    params = [torch.nn.Parameter(torch.ones(size)) for size in (1, 2, 3)]
    optimizer = RMSprop(params, lr=0.1, half_life=10.0, bias_correction=True)
    for size, param in enumerate(params, start=1):
        param.grad = torch.full_like(param, float(size))
    optimizer.step()
    params[0].grad = None
    values = optimizer.diagnostics()
    assert values["squared_gradient"] == pytest.approx((2 * 4 + 3 * 9) / 5)
    assert values["step_over_lr"] == pytest.approx(1.0)
    assert values["second_moment"] == pytest.approx((1 + 2 * 4 + 3 * 9) / 6)
