import numpy as np
import pytest

from rl_rms.envs.schedules import Burst, Key, PoissonJumps, Redraw, stream_of
from tests.envs.schedules.tables import decay_test, error_test, timescale_test, values_test

KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


def test_random_bursts_begin_at_their_rate():
    burst = Burst(0, 1, duration=5, rate=0.02)
    values = burst.values(np.arange(500_000), KEY)
    changes = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff(changes)[0 if values[changes[0]] == 1 else 1 :: 2]
    assert lengths.min() == 5
    # A burst has the length 5 if no other burst begins within 5 env steps, with the probability (1 - rate)**5.
    assert np.mean(lengths == 5) == pytest.approx(0.98**5, abs=0.02)
    # The share of time at the peak is 1 - (1 - rate)**5.
    assert values.mean() == pytest.approx(1 - 0.98**5, rel=0.03)


def test_bursts_longer_than_a_block_continue_in_the_next_blocks():
    # A burst has 10**6 env steps and a block 2560, so bursts overlap without an end.
    burst = Burst(0, 1, duration=10**6, rate=0.1)
    assert burst.values(np.array([5_000, 10**5, 10**9]), KEY).tolist() == [1, 1, 1]
    assert burst.events(5_000, 50_000, KEY).size == 0


def test_redraw_holds_each_level_and_covers_the_interval_evenly():
    draws = Redraw(low=2, high=4, every=10).values(np.arange(0, 50_000), KEY).reshape(-1, 10)
    assert (draws == draws[:, :1]).all()
    # The mean of 5000 uniform draws is 3 with the standard deviation 0.0082. The count of each quarter is 1250
    # with the standard deviation 31.
    assert draws[:, 0].mean() == pytest.approx(3, abs=0.033)
    assert np.histogram(draws[:, 0], bins=4, range=(2, 4))[0] == pytest.approx([1250] * 4, abs=122)


def test_redraw_from_a_list_uses_all_values():
    draws = Redraw(values=[1, 2, 5], every=1).values(np.arange(9_000), KEY)
    # The count of each value has the mean 3000 and the standard deviation 45.
    assert [np.count_nonzero(draws == level) for level in (1, 2, 5)] == pytest.approx([3_000] * 3, abs=179)


@pytest.mark.parametrize("mean_dwell", [1.0, 3.5, 100.0])
def test_poisson_jumps_dwell_for_geometric_times(mean_dwell):
    events = PoissonJumps(low=0, high=1, mean_dwell=mean_dwell).events(0, int(4_000 * mean_dwell), KEY)
    dwells = np.diff(events)
    # There are about 4000 dwells with mean m and variance m (m - 1), so the sampling errors are some percent.
    assert dwells.mean() == pytest.approx(mean_dwell, rel=0.08)
    assert dwells.var() == pytest.approx(mean_dwell * (mean_dwell - 1), rel=0.2)
    assert dwells.min() == 1


def test_poisson_jumps_levels_are_independent_of_times():
    schedule = PoissonJumps(low=0, high=1, mean_dwell=10)
    events = schedule.events(0, 40_000, KEY)
    levels = schedule.values(events, KEY)
    # With about 4000 pairs, the correlation of independent values has the standard deviation 0.016.
    assert abs(np.corrcoef(np.diff(events), levels[1:])[0, 1]) < 0.064
    assert abs(np.corrcoef(np.diff(events), levels[:-1])[0, 1]) < 0.064


def test_poisson_jumps_at_a_distant_clock_need_few_draws():
    # A draw for every env step from 0 would take hours.
    assert 0 <= PoissonJumps(low=0, high=1, mean_dwell=1e9).value(10**13, KEY) < 1


@pytest.mark.parametrize("mean_dwell", [2e16, 1e18, 1e30])
def test_poisson_jumps_that_practically_never_occur_hold_a_level(mean_dwell):
    jumps = PoissonJumps(low=0, high=1, mean_dwell=mean_dwell)
    first = [jumps.value(0, KEY._replace(seed=seed)) for seed in range(20)]
    assert [jumps.value(10**12, KEY._replace(seed=seed)) for seed in range(20)] == first
    last = [jumps.value(2**62 - 1, KEY._replace(seed=seed)) for seed in range(20)]
    assert (last == first) == (mean_dwell == 1e30)
    clocks = [0, 10**12, 2**62 - 1]
    assert set(Burst(base=0, peak=1, duration=5, rate=1 / mean_dwell).values(clocks, KEY)) == {0.0}
    assert not jumps.events(0, 10**12, KEY).size


def test_autocovariance_of_poisson_jumps_falls_with_the_timescale():
    schedule = PoissonJumps(low=-1, high=1, mean_dwell=20)
    values = schedule.values(np.arange(400_000), KEY)
    correlation = [np.mean(values[:-lag] * values[lag:]) / np.mean(values**2) for lag in (10, 20, 40)]
    assert correlation == pytest.approx(np.exp(-np.array([10, 20, 40]) / schedule.timescale), abs=0.04)


test_values_equal_hand_computed_values = values_test(
    (Burst(0, 5, duration=3, every=10), [0, 3, 9, 10, 12, 13, 20, 23], [0, 0, 0, 5, 5, 0, 5, 0])
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test(
    (Burst(0, 1, duration=10, every=100), 9, 0.5),
    (Burst(0, 1, duration=2, rate=0.5), 0.75 / 0.5, 0.5),
    (Redraw(0.3, 0.9, every=100), 80, 0.3),
    (Redraw(values=[1, 5, 2], every=10), 8, 2),
    (PoissonJumps(0, 3, mean_dwell=70), 70, 1.5),
)

test_timescale_equals_the_initial_decay_of_the_autocovariance = decay_test(
    PoissonJumps(0, 1, mean_dwell=40), Burst(0, 1, duration=30, every=100), Burst(0, 1, duration=30, rate=0.01)
)

test_wrong_argument_is_named = error_test(
    (lambda: Burst(0, 1, duration=3), ("every=None", "rate=None")),
    (lambda: Burst(0, 1, duration=3, every=3), ("duration=3", "every=3")),
    (lambda: Burst(0, 1, duration=3, rate=1), ("rate", "> 0", "< 1")),
    (lambda: Redraw(0, 1), ("Redraw", "every", ">= 1", "None")),
    (lambda: Redraw(every=5), ("Redraw", "low", "high", "values")),
    (lambda: Redraw(low=0, every=5), ("low=0", "high=None")),
    (lambda: Redraw(0, 1, 5, values=[1]), ("Redraw", "low", "high", "values")),
    (lambda: Redraw(1, 0, every=5), ("Redraw", "low=1.0", "high=0.0")),
    (lambda: Redraw(values=[], every=5), ("values", "[]")),
    (lambda: PoissonJumps(0, 1, mean_dwell=0.5), ("mean_dwell", ">= 1", "0.5")),
)
