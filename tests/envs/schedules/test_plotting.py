import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from rl_rms.envs.schedules import (
    Constant,
    Key,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    RandomWalk,
    Redraw,
    Sinusoid,
    Square,
    Step,
)
from rl_rms.envs.schedules.plotting import line
from tests.naming import naming


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_line_has_vertical_segments_at_jumps():
    clocks, values = line(PiecewiseConstant([(0, 1), (3, 5), (4, 2)]), 6, Key(0))
    assert clocks.tolist() == [0, 1, 2, 3, 3, 4, 4, 5, 6]
    assert values.tolist() == [1, 1, 1, 1, 5, 5, 2, 2, 2]


@pytest.mark.parametrize("schedule", [Redraw(0, 1, every=700), Markov([0, 1], mean_dwell=900)], ids=repr)
def test_line_of_held_levels_is_horizontal_or_vertical(schedule):
    clocks, values = line(schedule, 10**5, Key(0))
    assert len(clocks) < 5_000
    assert ((np.diff(clocks) == 0) | (np.diff(values) == 0)).all()
    assert np.count_nonzero(np.diff(values)) == schedule.events(0, 10**5, Key(0)).size


def test_plot_of_a_random_schedule_has_a_line_per_seed_and_a_legend():
    schedule = OrnsteinUhlenbeck(0, 1, tau=100)
    axes = schedule.plot(until=500, seeds=2)
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == ["seed 0", "seed 1"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["seed 0", "seed 1"]
    for seed, drawn in enumerate(lines):
        assert drawn.get_ydata().tolist() == schedule.values(np.arange(501), Key(seed)).tolist()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("env steps", "value")
    assert axes.get_xlim() == (0, 500)
    assert axes.get_title(loc="left") == repr(schedule)


def test_plot_of_a_deterministic_schedule_has_one_line_on_the_given_axes():
    _, axes = plt.subplots()
    assert Sinusoid(9.8, 4, period=100).plot(axes) is axes
    assert len(axes.get_lines()) == 1
    assert axes.get_legend() is None


@pytest.mark.parametrize(
    ("schedule", "least", "most"),
    [
        (Constant(1), 1, 1e6),
        (Step(0, 1, at=5_000), 5_500, 20_000),
        (Step(0, 1, at=0), 1, 100),
        (Linear(0, 1, over=5_000), 5_500, 20_000),
        (Sinusoid(0, 1, period=5_000), 5_000, 50_000),
        (Square(0, 1, period=5_000), 10_000, 50_000),
        (PoissonJumps(0, 1, mean_dwell=5_000), 25_000, 500_000),
        (RandomWalk(0, 1), 1, 1e6),
        (Step(0, 1, at=50) + Step(0, 1, at=5_000), 5_500, 20_000),
        (Step(0, 1, at=50).delay(5_000), 5_060, 20_000),
        (Sinusoid(0, 1, period=50).during(5_000, 9_000, rest=0), 9_500, 20_000),
        (Constant(1).then(Linear(1, 2, over=9_000), at=5_000), 14_500, 40_000),
        (Sinusoid(0, 1, period=5_000).clip(low=0), 5_000, 50_000),
        (Sinusoid(0, 1, period=1e300), 2**61, 2**62),
    ],
    ids=repr,
)
def test_plot_without_until_shows_every_phase(schedule, least, most):
    assert least <= schedule.plot(seeds=1).get_xlim()[1] <= most


def test_plot_long_title_is_shortened():
    schedule = PiecewiseConstant([(clock, clock) for clock in range(100)])
    assert len(schedule.plot().get_title(loc="left")) == 90


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=naming("seeds", ">= 1", "0")):
        Constant(1).plot(seeds=0)
    with pytest.raises(ValueError, match=naming("until", ">= 1", "0")):
        Constant(1).plot(until=0)
