"""Matched and estimated half-lives."""

import copy
import io

import pytest
import torch
from torch import nn

from rl_rms import HalfLife, RMSprop, rho_from_half_life
from rl_rms.half_life import Timescale
from rl_rms.optim.estimators import HalfLifeEstimator
from tests.naming import naming

FUSED = pytest.mark.parametrize("fused", [True, False])


class Recorder(HalfLifeEstimator):
    """An estimator that records the blocks. Its half-life is the number of recorded blocks plus one."""

    block = 4
    num_probes = 6

    def __init__(self, bounds=(1.0, 1e6)):
        super().__init__(bounds)
        self.blocks = []

    def observe(self, grads):
        self.blocks.append(grads.clone())

    def diagnostics(self):
        return {"num_blocks": float(len(self.blocks))}

    def unbounded_half_life(self):
        return len(self.blocks) + 1.0

    def export_state(self):
        return {"num_blocks": len(self.blocks)}

    def restore_state(self, state):
        self.blocks = [None] * state["num_blocks"]


def parameters(*shapes):
    return [nn.Parameter(torch.zeros(shape)) for shape in shapes or [(3, 4), (5,)]]


def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def step(optimizer, seed, scale=1.0, keep=False):
    generator = torch.Generator().manual_seed(seed)
    for param in params_of(optimizer):
        grad = scale * torch.randn(param.shape, generator=generator)
        if keep and param.grad is not None:
            param.grad.copy_(grad)
        else:
            param.grad = grad
    optimizer.step()


@FUSED
@pytest.mark.parametrize("keep", [True, False])
def test_controller_shows_the_estimator_the_accumulated_gradients_of_fixed_coordinates(fused, keep):
    estimator = Recorder()
    params = parameters()
    optimizer = RMSprop(params, half_life="auto", estimator=estimator, max_grad_norm=0.5, fused=fused)
    rows = []
    for update in range(8):
        step(optimizer, update, keep=keep)
        rows.append(torch.cat([param.grad.flatten() for param in params]))
    gradients = torch.stack(rows)
    seen = torch.cat(estimator.blocks)
    assert seen.shape == (8, 6)
    assert gradients[0].norm() == pytest.approx(0.5, rel=1e-4)
    columns = [
        next(
            place
            for place in range(gradients.shape[1])
            if torch.allclose(gradients[:, place], seen[:, column], atol=0)
        )
        for column in range(6)
    ]
    assert len(set(columns)) == 6


def test_controller_of_a_small_network_probes_every_coordinate():
    estimator = Recorder()
    optimizer = RMSprop(parameters((2,), ()), half_life="auto", estimator=estimator)
    for update in range(4):
        step(optimizer, update)
    assert estimator.blocks[0].shape == (4, 3)


@FUSED
def test_controller_after_a_change_of_layout_keeps_its_probes(fused):
    estimator = Recorder()
    params = parameters((30,), (2, 2))
    optimizer = RMSprop(params, half_life="auto", estimator=estimator, fused=fused)
    for update in range(4):
        step(optimizer, update)
    for param in params:
        param.data = param.data.clone()
    for update in range(4):
        step(optimizer, update)
    assert torch.equal(estimator.blocks[0], estimator.blocks[-1])


def test_controller_of_a_parameter_without_gradient_shows_zeros():
    estimator = Recorder()
    kept, dropped = parameters((3,), (3,))
    optimizer = RMSprop([kept, dropped], half_life="auto", estimator=estimator)
    for update in range(4):
        kept.grad = torch.ones(3)
        dropped.grad = torch.full((3,), 2.0) if update == 0 else None
        optimizer.step()
    assert sorted(estimator.blocks[0][0].tolist()) == [1, 1, 1, 2, 2, 2]
    assert sorted(estimator.blocks[0][-1].tolist()) == [0, 0, 0, 1, 1, 1]


def test_estimated_half_life_is_used_and_in_diagnostics():
    optimizer = RMSprop(parameters(), half_life="auto", estimator=Recorder())
    assert optimizer.param_groups[0]["half_life"] == "auto"
    for update in range(9):
        step(optimizer, update)
    assert optimizer.half_life == 3.0
    assert optimizer.rho == optimizer.param_groups[0]["alpha"] == rho_from_half_life(3.0)
    values = optimizer.diagnostics()
    assert values["half_life_updates"] == 3.0
    assert values["num_blocks"] == 2.0
    assert (values["half_life_shortest"], values["half_life_longest"]) == (1.0, 1e6)


def test_skipped_update_is_not_shown_to_the_estimator():
    estimator = Recorder()
    optimizer = RMSprop(parameters(), half_life="auto", estimator=estimator, on_nonfinite="skip")
    for update in range(8):
        step(optimizer, update, scale=float("nan") if update % 2 else 1.0)
    assert len(estimator.blocks) == 1
    assert estimator.blocks[0].isfinite().all()


def test_estimated_half_life_stays_within_bounds_and_the_step_limit():
    bounded = RMSprop(parameters(), half_life="auto", half_life_bounds=(5.0, 9.0))
    assert 5.0 <= bounded.half_life <= 9.0
    # |step| <= lr / sqrt(1 - rho), and 1 - rho is about ln 2 / h. The bound is 10 lr at h = 100 ln 2 = 69.3.
    capped = RMSprop(parameters(), lr=0.01, half_life="auto", half_life_bounds=(1e3, 1e4), max_step=0.1)
    assert capped.half_life == pytest.approx(69.3, rel=1e-3)
    assert 0.01 / (1 - capped.rho) ** 0.5 == pytest.approx(0.1, rel=0.01)
    capped.param_groups[0]["lr"] = 0.001
    assert capped.half_life >= 1e3


def test_matched_half_life_without_timescale_raises():
    optimizer = RMSprop(parameters(), half_life="match")
    before = [param.clone() for param in params_of(optimizer)]
    assert "half_life_updates" not in optimizer.diagnostics()
    with pytest.raises(ValueError, match=naming("timescale=None", 'timescale="50_000 steps"')):
        step(optimizer, 0)
    optimizer.timescale = "50_000 steps"
    with pytest.raises(ValueError, match=naming("timescale '50000 steps'", "env steps")):
        step(optimizer, 0)
    assert all(map(torch.equal, params_of(optimizer), before))
    optimizer.steps_per_update = 80
    step(optimizer, 0)
    assert optimizer.diagnostics()["half_life_updates"] == optimizer.half_life


def test_matched_half_life_follows_noise_signal_and_timescale():
    def matched(spread, timescale):
        generator = torch.Generator().manual_seed(0)
        optimizer = RMSprop(
            parameters((40,)), half_life="match", timescale=timescale, half_life_bounds=(1.0, 1e6), lr=1e-3
        )
        log_scale = torch.zeros(())
        for _ in range(4000):
            # The log variance is an Ornstein-Uhlenbeck process with a time constant of about 100 updates.
            log_scale = 0.99 * log_scale + spread * (2 * 0.01) ** 0.5 * torch.randn((), generator=generator)
            (param,) = params_of(optimizer)
            param.grad = (0.5 * log_scale).exp() * torch.randn(40, generator=generator)
            optimizer.step()
        return optimizer.half_life

    strong, weak = matched(1.5, 100.0), matched(0.3, 100.0)
    # The law gives ln 2 * 100 / (sqrt(200 S / 2) - 1): 5 updates for S = 2.25, and 35 for S = 0.09.
    assert strong == pytest.approx(5.0, rel=0.5)
    assert weak == pytest.approx(34.7, rel=0.6)
    assert matched(1.5, float("inf")) == 1e6


def test_timescale_in_steps_is_converted_with_steps_per_update():
    optimizer = RMSprop(parameters(), half_life="match", timescale="8_000 steps", steps_per_update=80)
    for update in range(16):
        step(optimizer, update)
    assert optimizer.diagnostics()["match_timescale"] == 100.0
    assert optimizer.timescale == Timescale(8_000.0, "steps")
    assert optimizer.diagnostics()["half_life_steps"] == pytest.approx(80 * optimizer.half_life)


def tracking(optimizer):
    return optimizer.state_dict()["param_groups"][0]["tracking"]["controller"]["match"]


def test_reading_the_half_life_between_updates_does_not_change_later_updates():
    read, other = (RMSprop(parameters(), half_life="match", timescale="8_000 steps") for _ in range(2))
    for update in range(40):
        for optimizer in (read, other):
            optimizer.steps_per_update = 80
            step(optimizer, update)
        read.steps_per_update = 160
        # The timescale is 50 updates.
        assert read.half_life == read.diagnostics()["half_life_updates"]
        assert read.diagnostics()["match_timescale"] == 50.0
        assert tracking(read)["fitted_timescale"] == tracking(other)["fitted_timescale"] == 100.0


def test_load_while_no_group_uses_match_continues_its_estimation_exactly():
    first, second = (RMSprop(parameters(), half_life="match", timescale="8_000 steps") for _ in range(2))
    first.steps_per_update = 80
    for update in range(20):
        step(first, update)
    # The agents shorten the half-life after a change of regime in this way.
    first.param_groups[0].update(half_life=None, alpha=0.9)
    second.load_state_dict(first.state_dict())
    second.steps_per_update = 80
    assert second.diagnostics()["half_life_matched"] == first.diagnostics()["half_life_matched"]
    for update in range(20, 60):
        for optimizer in (first, second):
            step(optimizer, update)
    for name in ("sums", "fitted_timescale", "signal", "found"):
        torch.testing.assert_close(tracking(second)[name], tracking(first)[name], rtol=0, atol=0)


@FUSED
def test_load_state_dict_of_auto_continues_exactly(fused):
    def build():
        return RMSprop(parameters(), half_life="auto", half_life_bounds=(1.0, 1e6), fused=fused)

    first = build()
    for update in range(64):
        step(first, update, scale=1.0 if update < 40 else 10.0)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = build()
    second.load_state_dict(torch.load(file, weights_only=True))
    for own, other in zip(params_of(second), params_of(first), strict=True):
        own.data.copy_(other.data)
    for update in range(64, 128):
        for optimizer in (first, second):
            step(optimizer, update)
    assert first.half_life == second.half_life
    for own, other in zip(params_of(second), params_of(first), strict=True):
        assert torch.equal(own, other)


def test_load_state_dict_of_another_estimator_raises():
    optimizer = RMSprop(parameters(), half_life="auto", estimator=Recorder())
    assert optimizer.half_life == 1.0
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=naming("estimator", "'Bank'", "'Recorder'")):
        RMSprop(parameters(), half_life="auto").load_state_dict(saved)


def test_torch_loads_the_estimated_rho():
    optimizer = RMSprop(parameters(), half_life="auto", estimator=Recorder())
    for update in range(9):
        step(optimizer, update)
    theirs = torch.optim.RMSprop(parameters())
    theirs.load_state_dict(optimizer.state_dict())
    assert theirs.param_groups[0]["alpha"] == rho_from_half_life(3.0)


def test_deepcopy_estimates_independently():
    first = RMSprop(parameters(), half_life="auto", estimator=Recorder())
    for update in range(6):
        step(first, update)
    second = copy.deepcopy(first)
    for update in range(4):
        step(second, update)
    assert (first.half_life, second.half_life) == (2.0, 3.0)


def test_set_half_life_ends_the_estimation():
    estimator = Recorder()
    optimizer = RMSprop(parameters(), half_life="auto", estimator=estimator)
    optimizer.half_life = HalfLife(69)
    for update in range(8):
        step(optimizer, update)
    assert optimizer.half_life == pytest.approx(69)
    assert estimator.blocks == []
    assert "num_blocks" not in optimizer.diagnostics()


def test_half_life_bounds_limit_the_estimator_that_the_user_gives():
    params = [nn.Parameter(torch.ones(1))]
    assert RMSprop(params, half_life="auto", estimator=Recorder(), half_life_bounds=(5, 9)).half_life == 5
