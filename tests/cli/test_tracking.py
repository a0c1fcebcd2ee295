"""Tracking of series of squared gradients with known properties."""

import math
from pathlib import Path

import numpy as np
import pytest

from rl_rms.cli.config import RunConfig
from rl_rms.cli.runs import Run
from rl_rms.cli.tracking import follow, read_tracking, squares_between

JUMP, END, EVERY, STEPS = 1000, 2000, 25, 8


def logged(squares, half_life, *, every=EVERY, bias_correction=True, agent=None):
    """The log of a run whose v follows given squared gradients, one per update."""
    rho = 0.5 ** (1.0 / half_life)
    v, history = 0.0, []
    for update, square in enumerate(squares, start=1):
        v = rho * v + (1.0 - rho) * square
        history.append(v / (1.0 - rho**update) if bias_correction else v)
    updates = np.arange(every, len(squares) + 1, every)
    config = RunConfig()
    kwargs = {} if bias_correction else {"optimizer_kwargs": {"bias_correction": False}}
    object.__setattr__(config, "agent", type(config.agent)(**kwargs, **(agent or {})))
    metrics = {
        "train/n_updates": updates.astype(float).tolist(),
        "optim/second_moment": [history[update - 1] for update in updates],
        "optim/rho": [rho] * len(updates),
    }
    return Run(Path("run"), metrics, [float(STEPS * update) for update in updates], config)


def jump(before, after):
    return np.where(np.arange(END) < JUMP, before, after).astype(float)


def after_the_jump(run):
    return follow(read_tracking(run), STEPS * JUMP, STEPS * END)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_squared_gradients_between_entries_are_recovered_from_v(bias_correction):
    squares = np.random.default_rng(0).exponential(size=200)
    tracking = read_tracking(logged(squares, half_life=30, bias_correction=bias_correction))
    weights = 0.5 ** (np.arange(EVERY)[::-1] / 30)
    expected = [np.average(squares[end - EVERY : end], weights=weights) for end in range(2 * EVERY, 201, EVERY)]
    np.testing.assert_allclose(tracking.squares, expected)
    np.testing.assert_allclose(tracking.half_life, 30)
    np.testing.assert_array_equal(tracking.updates, range(2 * EVERY, 201, EVERY))


def test_squared_gradients_of_close_entries_are_merged():
    squares = np.random.default_rng(0).exponential(size=200)
    close, far = (read_tracking(logged(squares, 30, every=every)) for every in (5, 25))
    np.testing.assert_array_equal(close.updates[:2], [30, 55])
    assert np.diff(close.updates).min() == np.diff(far.updates).min() == 25


def test_squared_gradients_below_rounding_equal_the_rounding_error():
    v = np.array([1.0, 0.5 - 1e-12])  # the second squared gradient is lost in rounding
    (square,) = squares_between(np.array([1.0, 2.0]), v, np.array([0.5, 0.5]))
    assert square == pytest.approx(6e-6)


def test_second_moment_with_a_long_half_life_after_a_fall_lags():
    # v is 1 + 99 * 2**(-t/100), which is above 2 for 100 * log2(99) = 663 of 1000 updates.
    following = after_the_jump(logged(jump(100.0, 1.0), half_life=100))
    assert following.state == "lags"
    assert following.share_off == pytest.approx(0.663, abs=0.02)
    assert following.worst == pytest.approx(math.log(1 + 99 * 2**-0.25), rel=1e-3)


def test_second_moment_with_a_short_half_life_after_a_fall_tracks():
    following = after_the_jump(logged(jump(100.0, 1.0), half_life=20))  # v is above 2 for 133 of 1000 updates
    assert following.state == "tracks"
    assert math.isnan(following.limit)
    assert following.share_off == pytest.approx(0.133, abs=0.02)


def test_half_life_below_the_limit_tracks_and_above_it_lags():
    limit = after_the_jump(logged(jump(100.0, 1.0), half_life=100)).limit
    assert limit == pytest.approx(250 / math.log2(99), rel=0.1)
    assert after_the_jump(logged(jump(100.0, 1.0), half_life=0.9 * limit)).state == "tracks"
    assert after_the_jump(logged(jump(100.0, 1.0), half_life=1.15 * limit)).state == "lags"


def test_tracking_error_of_a_very_long_half_life_lasts_the_regime():
    following = after_the_jump(logged(jump(100.0, 1.0), half_life=5000))
    assert following.state == "lags"
    assert following.share_off == 1.0


def test_tracking_error_after_a_rise_ends_within_a_half_life():
    following = after_the_jump(logged(jump(1.0, 100.0), half_life=100))
    assert following.state == "tracks"
    assert following.worst < -math.log(2)
    assert following.share_off == pytest.approx(0.1, abs=0.03)


def test_level_of_alternating_squared_gradients_is_between_them():
    squares = np.where(np.arange(END) // EVERY % 2, 0.4, 1.6)
    following = after_the_jump(logged(squares, half_life=1000))
    assert following.share_off == 0.0
    assert following.state == "tracks"


@pytest.mark.parametrize(("half_life", "state"), [(1, "fluctuates"), (64, "tracks")])
def test_second_moment_with_a_short_half_life_in_noise_fluctuates(half_life, state):
    squares = np.random.default_rng(0).chisquare(1, size=END)
    following = after_the_jump(logged(squares, half_life))
    assert following.state == state
    # The squares have a relative variance of 2. The relative variance of their exponential average is
    # 2 * (1 - rho) / (1 + rho).
    if half_life == 64:
        rho = 0.5 ** (1 / 64)
        # Readings 25 updates apart are correlated, so v varies less between them.
        assert 0.02 < following.swing < math.sqrt(2 * (1 - rho) / (1 + rho))
    else:
        assert following.limit > 2


def test_follow_with_few_entries_is_none():
    tracking = read_tracking(logged(jump(100.0, 1.0), half_life=20))
    assert follow(tracking, STEPS * JUMP, STEPS * (JUMP + 7 * EVERY)) is None
    assert follow(tracking, STEPS * JUMP, STEPS * (JUMP + 8 * EVERY)) is not None


@pytest.mark.parametrize(
    "agent", [{"on_change": "reset"}, {"on_change": "forget"}, {"optimizer_kwargs": {"centered": True}}]
)
def test_read_tracking_without_second_moment_in_the_log_is_none(agent):
    assert read_tracking(logged(jump(1.0, 2.0), half_life=20, agent=agent)) is None


def test_read_tracking_without_number_of_updates_is_none():
    run = logged(jump(1.0, 2.0), half_life=20)
    del run.metrics["train/n_updates"]
    assert read_tracking(run) is None
