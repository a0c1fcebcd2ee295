"""The half-life of a schedule has the least tracking error."""

import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Burst,
    Constant,
    Cosine,
    Exponential,
    Key,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PoissonJumps,
    RandomWalk,
    Redraw,
    Sawtooth,
    Sigmoid,
    Sinusoid,
    Square,
    Step,
)
from rl_rms.laws import matched_half_life, random_walk_half_life

TAU, STEPS = 3_200, 16  # tau is 200 updates
JUMPS = PoissonJumps(0, 1, mean_dwell=TAU)
WANDERING = OrnsteinUhlenbeck(0, 1, tau=TAU)


def best_half_life(schedule, *, snr, updates, steps_per_update=STEPS, seeds=8):
    """Grid search for the half-life with the least mean squared error of an exponential average."""
    clocks = np.arange(updates) * steps_per_update
    tracked = np.array([schedule.values(clocks, Key(seed)) for seed in range(seeds if schedule.random else 1)]).T
    noise = tracked.var() / snr
    grid = schedule.half_life(steps_per_update=steps_per_update, snr=snr) * np.geomspace(1 / 3, 3, 45)
    alpha = -np.expm1(-math.log(2) / grid)
    average = np.repeat(tracked[0][:, None], len(grid), axis=1)
    error = np.zeros(len(grid))
    for now in tracked:
        average += alpha * (now[:, None] - average)
        error += np.mean((average - now[:, None]) ** 2, axis=0)
    # The measurement noise is independent of the tracked values, so its part of the error is known.
    return grid[np.argmin(error / updates + noise * alpha / (2 - alpha))]


@pytest.mark.parametrize("snr", [1, 0.1])
@pytest.mark.parametrize(
    "schedule",
    [
        WANDERING,
        JUMPS,
        Sinusoid(mean=3, amplitude=2, period=2 * math.pi * TAU),
        Redraw(0, 1, every=TAU),
        Markov([0, 1, 3], mean_dwell=TAU),
        Square(0, 1, period=4 * TAU),
        Sawtooth(0, 1, period=4 * TAU),
        Burst(0, 1, duration=TAU, rate=0.2 / TAU),
        RandomWalk(0.5, std=1 / math.sqrt(6 * TAU), low=0, high=1),
        WANDERING * 3 + 1,
        WANDERING + WANDERING,
        JUMPS + Sinusoid(0, 0.5, period=2 * math.pi * TAU),
        PoissonJumps(1, 2, mean_dwell=TAU) * Redraw(1, 2, every=2 * TAU),
    ],
    ids=repr,
)
def test_half_life_has_the_least_tracking_error(schedule, snr):
    theory = schedule.half_life(steps_per_update=STEPS, snr=snr)
    assert best_half_life(schedule, snr=snr, updates=20_000) == pytest.approx(theory, rel=0.25)


@pytest.mark.parametrize("snr", [1, 0.1])
@pytest.mark.parametrize(
    ("schedule", "updates"),
    [
        (Linear(0, 1, 10_000), 10_000),
        (Cosine(0, 1, 10_000), 10_000),
        (Exponential(0, 1, 4_000), 12_000),
        (Sigmoid(0, 1, 5_000, 10_000), 10_000),
    ],
    ids=repr,
)
def test_half_life_of_transitions_has_the_least_tracking_error(schedule, updates, snr):
    theory = schedule.half_life(steps_per_update=1, snr=snr)
    found = best_half_life(schedule, snr=snr, updates=updates, steps_per_update=1)
    assert found == pytest.approx(theory, rel=0.1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(3), math.inf),
        (Sinusoid(3, 0, period=100), math.inf),
        # ln 2 * tau / (sqrt(2 tau snr) - 1), tau = 100 updates.
        (PoissonJumps(0, 1, mean_dwell=1_000), math.log(2) * 100 / (math.sqrt(20) - 1)),
        (OrnsteinUhlenbeck(0, 9, tau=1_000), math.log(2) * 100 / (math.sqrt(20) - 1)),
        (Step(0, 1, at=1_000), math.log(2) * 100 / (math.sqrt(20) - 1)),
        # The half-life is infinite at 2 tau snr = 1.
        (OrnsteinUhlenbeck(0, 9, tau=50), math.inf),
        # ln 2 (R / (4 b**2))**(1/3), b = 10 / 1000 an update, R = 100 / 12 / snr.
        (Linear(0, 10, over=10_000), math.log(2) * (100 / 12 / 0.1 / (4 * 1e-4)) ** (1 / 3)),
        # ln 2 (R / (2 A**2 w**2))**(1/3), w = 0.01 an update, R = 9 / 2 / snr.
        (Sinusoid(0, 3, period=2_000 * math.pi), math.log(2) * (45 / (2 * 9 * 1e-4)) ** (1 / 3)),
        # The half-life is infinite for a sinusoid with w >= snr.
        (Sinusoid(0, 3, period=2 * math.pi * 100), math.inf),
    ],
    ids=repr,
)
def test_half_life_equals_hand_computed_values(schedule, expected):
    assert schedule.half_life(steps_per_update=10, snr=0.1) == pytest.approx(expected)


def test_half_life_of_a_fast_sinusoid_is_infinite():
    swing = Sinusoid(0, 1, period=2 * math.pi * 20)
    snr = np.array([0.045, 0.055])
    # The exact error of an average with time constant x / w. With an infinite half-life, the error is S = 0.5.
    x = np.geomspace(0.01, 100, 4_000)[:, None]
    error = 0.5 * x**2 / (1 + x**2) + 0.5 / snr * 0.05 / (2 * x)
    assert (error.min(axis=0) < 0.5 * (1 - 1e-3)).tolist() == [False, True]
    finite = [math.isfinite(swing.half_life(steps_per_update=1, snr=one)) for one in snr]
    assert finite == [False, True]


def test_half_life_of_a_walk_between_far_walls_equals_the_half_life_of_a_free_walk():
    walk = RandomWalk(0, std=0.1, low=-1_000, high=1_000)
    noise = 2_000**2 / 12 / 5
    expected = random_walk_half_life(0.1**2 * 8, noise)
    assert walk.half_life(steps_per_update=8, snr=5) == pytest.approx(expected, rel=0.01)


def test_half_life_of_a_limited_or_delayed_schedule_is_unchanged():
    own = WANDERING.half_life(steps_per_update=STEPS, snr=0.1)
    assert own == matched_half_life(200, 0.1)
    for one in (
        WANDERING.clip(-2, 2),
        WANDERING.reflect(-2, 2),
        WANDERING.delay(10),
        WANDERING.during(3, 10**6),
        WANDERING.during(3, 10**6, rest=0),
        WANDERING.then(3, at=10**6),
        Constant(3).then(WANDERING, at=10),
        -2 * WANDERING + 5,
        WANDERING + WANDERING,
    ):
        assert one.half_life(steps_per_update=STEPS, snr=0.1) == pytest.approx(own)
