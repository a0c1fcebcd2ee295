"""Properties of schedules of every kind."""

import inspect
import json
import math
import pickle

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rl_rms.envs import schedules
from rl_rms.envs.checks import arguments
from rl_rms.envs.schedules import (
    SCHEDULES,
    AdversarialBurst,
    Ahead,
    Burst,
    Clip,
    Constant,
    Cosine,
    Delay,
    During,
    Exponential,
    Function,
    Key,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    Product,
    RandomWalk,
    Redraw,
    Reflect,
    Sawtooth,
    Schedule,
    Sigmoid,
    Sinusoid,
    Square,
    Step,
    Sum,
    Then,
    Trace,
    as_schedules,
    stream_of,
)
from rl_rms.envs.schedules.derived import part_keys
from tests.envs.schedules.tables import error_test
from tests.examples import fewer
from tests.naming import naming

KEY = Key(seed=7, stream=3)
CYCLE = ((0.0, 1.0, 0.0), (0.0, 0.5, 0.5), (0.1, 0.0, 0.9))

# These schedules hold their values between jumps.
HELD = [
    Constant(3),
    Step(before=1, after=2, at=10),
    PiecewiseConstant([(0, 1), (5, 2), (9, 2), (400, -1)]),
    Square(low=1, high=2, period=7, duty=0.3),
    Square(low=2, high=-1, period=9),
    Redraw(values=[1, 2, 2, 5], every=7),
    PoissonJumps(low=-1, high=1, mean_dwell=4.5),
    Markov([0, 1, 5], mean_dwell=30),
    Markov([0, 1, 1], transitions=CYCLE),
    Burst(base=1, peak=3, duration=4, every=30),
    Burst(base=1, peak=-3, duration=40, rate=0.02),
    Burst(base=1, peak=3, duration=2, rate=0.9),
    Trace([1, 3, 3, 2], every=5, end="repeat"),
    Trace([1, 3, 2.5], every=50),
    Step(0, 1, at=20) + Step(1, 0, at=20) + Redraw(0, 1, every=50),
    PoissonJumps(low=1, high=2, mean_dwell=50) * PoissonJumps(low=-1, high=2, mean_dwell=30) + 1,
    PoissonJumps(values=[0, 1], mean_dwell=30) * Redraw(1, 2, every=10),
    PoissonJumps(low=0, high=1, mean_dwell=20).clip(0.25, 0.75),
    Redraw(low=0, high=1, every=4).reflect(high=0.5),
    Redraw(low=0, high=9, every=4).reflect(2, 3),
    Redraw(low=0, high=1, every=4).delay(33),
    Redraw(low=0, high=1, every=4).during(30, 400),
    Redraw(low=0, high=1, every=4).during(30, 400, rest=0.5),
    Square(low=1, high=2, period=10).during(5, 35, rest=2),
    PoissonJumps(low=0, high=1, mean_dwell=9).then(PoissonJumps(low=0, high=1, mean_dwell=9), at=300),
    Square(low=0, high=1, period=10).then(Constant(0), at=40),
    Square(low=0, high=1, period=10).then(Constant(1), at=40),
    Constant(1).then(Constant(1), at=40),
    Redraw(low=0, high=1, every=4).ahead(33),
    PoissonJumps(low=0, high=1, mean_dwell=9).delay(20).ahead(10),
    AdversarialBurst(base=0, low=-1, high=1, threshold=5, duration=7, strikes=[(3, -1), (10, -1), (40, 1)]),
]
# These schedules drift.
DRIFTING = [
    Linear(start=0, end=10, over=100),
    Exponential(start=1, end=-2, tau=50),
    Sigmoid(start=1, end=2, at=300, over=100),
    Sinusoid(mean=9.8, amplitude=4, period=20, phase=0.5),
    Sawtooth(low=1, high=2, period=8),
    Trace([1, 3, 3, 2], every=5, between="linear", end="repeat"),
    OrnsteinUhlenbeck(mean=1, std=2, tau=30),
    RandomWalk(start=0.5, std=0.1, low=0, high=2),
    RandomWalk(start=0.5, std=0.1),
    RandomWalk(start=0.5, std=0.1, low=0.4),
    OrnsteinUhlenbeck(mean=1, std=2, tau=30) + OrnsteinUhlenbeck(mean=1, std=2, tau=30) * 2,
    Sinusoid(0, 1, period=30) * PoissonJumps(1, 2, mean_dwell=20) + 3,
    OrnsteinUhlenbeck(mean=0, std=1, tau=30).clip(high=0.5),
    (Sinusoid(0, 1, period=30) * 3).reflect(-1, 2),
    Sinusoid(0, 1, period=30).during(30, 90, rest=0),
    Linear(0, 1, over=50).then(Sinusoid(1, 1, period=30), at=50).delay(10),
    Cosine(start=3, end=-1, over=100),
]
EVERY = HELD + DRIFTING
WRITTEN = [*EVERY, Sum([1, Step(0, 1, 2)]), Product([Constant(2)])]


def test_every_registered_kind_is_tested():
    kinds = {type(one) for one in WRITTEN}
    assert kinds >= {AdversarialBurst, Ahead, Clip, Delay, During, Reflect, Then}
    assert kinds == set(SCHEDULES.values())


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@fewer(5)
@given(
    clocks=st.lists(st.integers(0, 10_000), max_size=30),
    seed=st.integers(0, 2**63),
    far=st.integers(0, 2**61),
)
def test_any_clock_in_any_order_has_the_same_value(schedule, clocks, seed, far):
    key = KEY._replace(seed=seed)
    in_order = schedule.values(np.arange(10_001), key)
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy.values(np.array(clocks, dtype=np.int64), key).tolist() == in_order[clocks].tolist()
    assert [schedule.value(t, key) for t in clocks] == in_order[clocks].tolist()
    assert schedule.value(far, key) == copy.values(np.array([5, far, 0]), key)[1]


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@fewer(5)
@given(seed=st.integers(0, 2**63), start=st.integers(0, 2**40))
def test_values_lie_within_the_bounds(schedule, seed, start):
    low, high = schedule.bounds
    assert low <= high
    slack = 1e-12 * max(abs(one) for one in (low, high, 1.0) if math.isfinite(one))
    for first in (0, start):
        values = schedule.values(np.arange(first, first + 3_000), KEY._replace(seed=seed))
        assert np.isfinite(values).all()
        assert (values >= low - slack).all()
        assert (values <= high + slack).all()
    if math.isfinite(high - low):
        assert schedule.amplitude == pytest.approx((high - low) / 2)
        assert schedule.center == pytest.approx((low + high) / 2)
    else:
        assert math.isfinite(schedule.center)


@pytest.mark.parametrize("schedule", HELD, ids=repr)
@fewer(5)
@given(seed=st.integers(0, 2**63), t0=st.integers(0, 6_000), length=st.integers(0, 3_000))
def test_events_are_exactly_where_held_values_change(schedule, seed, t0, length):
    key = KEY._replace(seed=seed)
    values = schedule.values(np.arange(t0, t0 + length + 1), key)
    changed = t0 + 1 + np.flatnonzero(values[1:] != values[:-1])
    assert schedule.events(t0, t0 + length, key).tolist() == changed.tolist()


@pytest.mark.parametrize(
    ("schedule", "events"),
    [
        (DRIFTING[0], []),
        (DRIFTING[1], []),
        (DRIFTING[2], []),
        (DRIFTING[3], []),
        (Sawtooth(0, 1, period=8), [8, 16, 24, 32]),
        (DRIFTING[5], []),
        (Cosine(0, 1, over=8), []),
        (OrnsteinUhlenbeck(0, 1, 30), []),
        (RandomWalk(0, 1), []),
        (Sinusoid(0, 1, 30) + Step(0, 1, at=5), [5]),
        (Sinusoid(0, 1, 30) * Step(2, 1, at=5), [5]),
        # Transitions from and to the rest value, without and with a jump.
        (Sinusoid(0, 1, period=8).during(8, 24, rest=0), []),
        (Sinusoid(0, 1, period=8).during(8, 24, rest=1), [8, 24]),
        (Sinusoid(0, 1, period=8).during(8, 26, rest=1), [8]),
        (Linear(0, 1, over=10).then(Constant(1), at=10), []),
        (Linear(0, 1, over=10).then(Constant(0), at=10), [10]),
        (Sawtooth(0, 1, period=8).delay(3), [11, 19, 27, 35]),
        (RandomWalk(5, 1).then(RandomWalk(0, 1), at=10), [10]),
    ],
    ids=repr,
)
def test_events_of_schedules_without_held_levels_equal_hand_computed_values(schedule, events):
    assert schedule.events(0, 36, KEY).tolist() == events


@pytest.mark.parametrize("schedule", WRITTEN, ids=repr)
def test_schedules_are_immutable_and_hashable(schedule):
    written = schedule.to_config()
    copies = [
        Schedule.from_config(yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(written))))),
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), vars(schedules)),
    ]
    assert copies == [schedule] * 3
    assert len({schedule, *copies}) == 1
    assert [one.to_config() for one in copies] == [written] * 3
    # A schedule that has been evaluated can still be pickled.
    copies[0].value(5, KEY)
    assert pickle.loads(pickle.dumps(copies[0])) == schedule
    with pytest.raises(AttributeError):
        schedule.amplitude = 3


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_only_random_schedules_depend_on_the_key(schedule):
    traces = [schedule.values(np.arange(3_000), KEY._replace(seed=seed)).tolist() for seed in (1, 2)]
    assert (traces[0] != traces[1]) == schedule.random


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_random_schedules_differ_between_streams(schedule):
    keys = [KEY, KEY._replace(stream=4), KEY._replace(env_index=1), KEY.of_part(0), KEY.of_part(1)]
    traces = {tuple(schedule.values(np.arange(3_000), key)) for key in keys}
    assert len(traces) == (5 if schedule.random else 1)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_values_at_the_last_clock_are_finite(schedule):
    t = np.array([10**9, 10**15, 2**62 - 1])
    assert np.isfinite(schedule.values(t, KEY)).all()
    assert schedule.values(np.empty(0, dtype=np.int64), KEY).shape == (0,)
    assert schedule.events(10**9, 10**9 + 100, KEY).size <= 100


@pytest.mark.parametrize("schedule", [one for one in EVERY if not math.isinf(one.amplitude)], ids=repr)
def test_half_life_grows_with_noise_and_is_infinite_without_signal(schedule):
    assert schedule.half_life(steps_per_update=1, snr=0) == math.inf
    short, long = (schedule.half_life(steps_per_update=0.01, snr=snr) for snr in (10, 1))
    assert (0 < short < long) if schedule.amplitude else (short == math.inf)
    for wrong in ({"steps_per_update": 0, "snr": 1}, {"steps_per_update": 1, "snr": -1}):
        with pytest.raises(ValueError, match=naming("finite")):
            schedule.half_life(**wrong)


def test_function_has_no_yaml_form():
    schedule = Function(np.sqrt, timescale=100, amplitude=3, center=50)
    assert (schedule.timescale, schedule.amplitude, schedule.center) == (100, 3, 50)
    assert schedule.value(81, KEY) == 9
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert (schedule * 2).value(81, KEY) == 18
    for one in (schedule, schedule + 1):
        with pytest.raises(ValueError, match=naming("YAML", "trace")):
            one.to_config()
    with pytest.raises(ValueError, match=naming("trace")):
        Schedule.from_config({"function": {"function": "sin"}})
    with pytest.raises(ValueError, match=naming("function", "clock readings", "3")):
        Function(3, timescale=1, amplitude=1)
    with pytest.raises(ValueError, match=naming("clock", "()", "(1,)")):
        Function(np.sum, timescale=1, amplitude=1).value(3, KEY)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@fewer(5)
@given(seed=st.integers(0, 2**63), steps=st.integers(0, 10_000), first=st.integers(0, 500))
def test_ahead_equals_the_later_values(schedule, seed, steps, first):
    key = KEY._replace(seed=seed)
    early = schedule.ahead(steps)
    t = np.arange(first, first + 200)
    assert early.values(t, key).tolist() == schedule.values(t + steps, key).tolist()
    assert (early.events(first, first + 200, key) + steps).tolist() == schedule.events(
        first + steps, first + steps + 200, key
    ).tolist()
    assert (early.bounds, early.timescale, early.cycle) == (schedule.bounds, schedule.timescale, schedule.cycle)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_values_repeat_after_a_cycle(schedule):
    t = np.arange(1_000, 2_000)
    if math.isfinite(schedule.cycle):
        later = schedule.values(t + int(schedule.cycle), KEY)
        assert later == pytest.approx(schedule.values(t, KEY), abs=1e-9)
        half = schedule.values(t + int(schedule.cycle) // 2, KEY)
        assert half != pytest.approx(schedule.values(t, KEY))


def test_cycle_of_each_schedule():
    cycles = {type(one): one.cycle for one in EVERY if math.isfinite(one.cycle)}
    assert cycles.keys() == {Burst, Square, Sawtooth, Sinusoid, Trace, Reflect}
    assert (Sinusoid(0, 1, 30) * 2 + 5).delay(3).ahead(2).clip(0, 5).cycle == 30
    assert (Sinusoid(0, 1, 30) + Sinusoid(0, 1, 20)).cycle == math.inf


# -- generated schedules ----------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-20, 20), st.floats(-1e3, 1e3), st.sampled_from([0.0, 1e-9, 1e6]))
CLOCKS = st.one_of(st.integers(0, 100), st.integers(0, 10**7))
SPANS = st.one_of(st.integers(1, 60), st.floats(1.0, 1e6))
LEVELS = st.lists(NUMBERS, min_size=2, max_size=5)
# Strategies by argument name. All other arguments are drawn from NUMBERS.
TAKEN = {
    **dict.fromkeys(("at", "steps", "window", "rest_steps"), CLOCKS),
    **dict.fromkeys(("period", "every", "duration", "threshold"), st.integers(1, 10**6) | st.integers(1, 60)),
    **dict.fromkeys(("over", "tau", "mean_dwell"), SPANS),
    **dict.fromkeys(("std", "amplitude"), st.floats(0.0, 10.0)),
    **dict.fromkeys(("duty", "rate"), st.floats(0.001, 0.9)),
    "values": LEVELS,
    "transitions": st.just(CYCLE),
    "points": st.lists(st.tuples(CLOCKS, NUMBERS), min_size=1, max_size=4).map(
        lambda points: sorted([(0, 1), *points])
    ),
    "strikes": st.lists(st.tuples(CLOCKS, NUMBERS), max_size=3),
    "between": st.sampled_from(["hold", "linear"]),
    "end_of_trace": st.sampled_from(["hold", "repeat"]),
}
NAMED_OTHERWISE = {
    (AdversarialBurst, "rest"): "rest_steps",
    (Trace, "end"): "end_of_trace",
    (During, "start"): "at",
}
NAMED_OTHERWISE[During, "end"] = "at"
PARTS = ("schedule", "schedules", "first", "second")
WILD = st.one_of(
    st.sampled_from(
        [None, True, math.nan, math.inf, -math.inf, -1, 0, 0.5, 10**30, -(10**30), 10**400, 1e100, 5e-324]
    ),
    st.text(max_size=3),
    st.lists(NUMBERS, max_size=2),
    st.dictionaries(st.sampled_from(["constant", "clip"]), NUMBERS, max_size=1),
)

NOTHING = st.nothing()


@st.composite
def configs(draw, parts, wild=NOTHING):
    """The YAML form of a schedule of any kind with any arguments."""
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    kind, given = SCHEDULES[name], {}
    for argument, default in arguments(kind).items():
        if default is inspect.Parameter.empty or draw(st.booleans()):
            its = TAKEN.get(NAMED_OTHERWISE.get((kind, argument), argument), NUMBERS)
            if argument in PARTS:
                its = st.lists(parts, min_size=1, max_size=3) if argument == "schedules" else parts
            given[argument] = draw(its | wild)
    return {name: given["schedules"] if kind in (Sum, Product) else given}


def built(config):
    """The schedule, or None if its arguments conflict."""
    try:
        return Schedule.from_config(config)
    except ValueError:
        return None


ANY = st.recursive(
    NUMBERS.map(Constant),
    lambda parts: configs(parts.map(Schedule.to_config)).map(built).filter(lambda one: one is not None),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(schedule=ANY, seed=st.integers(0, 2**63), clocks=st.lists(CLOCKS, min_size=2, max_size=20))
def test_any_schedule_keeps_the_interface(schedule, seed, clocks):
    key = KEY._replace(seed=seed)
    t = np.array(clocks)
    values = schedule.values(t, key)
    low, high = schedule.bounds
    slack = 1e-9 * max([1.0, *np.abs(values), *(abs(one) for one in (low, high) if math.isfinite(one))])
    assert np.isfinite(values).all()
    assert low - slack <= values.min()
    assert values.max() <= high + slack
    assert schedule.amplitude >= 0
    assert schedule.timescale > 0
    assert math.isfinite(schedule.center)

    assert [schedule.value(one, key) for one in clocks] == values.tolist()
    for copy in (
        Schedule.from_config(yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(schedule.to_config()))))),
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), vars(schedules)),
    ):
        assert copy == schedule
        assert copy.values(t[::-1], key).tolist() == values[::-1].tolist()

    start = min(clocks)
    events = schedule.events(start, start + 500, key).tolist()
    assert events == sorted(set(events))
    assert all(start < one <= start + 500 for one in events)
    halves = [schedule.events(start, start + 123, key), schedule.events(start + 123, start + 500, key)]
    assert np.concatenate(halves).tolist() == events


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(one=ANY, other=ANY, pair=st.tuples(NUMBERS, NUMBERS), steps=CLOCKS, clocks=st.lists(CLOCKS, min_size=1))
@example(  # a constant, and a sum with two random parts
    one=schedules.Constant(0.0),
    other=schedules.Sum([schedules.RandomWalk(0.0, std=1.0), schedules.Redraw(low=0.0, high=1.0, every=1)]),
    pair=(0.0, 1.0),
    steps=0,
    clocks=[0, 7],
)
def test_operators_act_on_the_values(one, other, pair, steps, clocks):
    t, values = np.array(clocks), one.values(clocks, KEY)
    low, high = sorted(pair)
    exact = not (one.random and other.random)
    if exact:  # with two random parts, each part has its own key
        np.testing.assert_allclose((one + other).values(t, KEY), values + other.values(t, KEY), rtol=1e-12)
        np.testing.assert_allclose((one * other).values(t, KEY), values * other.values(t, KEY), rtol=1e-12)
    np.testing.assert_allclose((one * 2 + 1).values(t, KEY), values * 2 + 1, rtol=1e-12, atol=1e-12)
    assert one.delay(steps).values(t + steps, KEY).tolist() == values.tolist()
    assert one.ahead(steps).values(t, KEY).tolist() == one.values(t + steps, KEY).tolist()
    assert one.delay(steps).ahead(steps).values(t, KEY).tolist() == values.tolist()
    if low < high:
        assert one.clip(low, high).values(t, KEY).tolist() == np.clip(values, low, high).tolist()
        mirrored = one.reflect(low, high).values(t, KEY)
        assert (low <= mirrored).all()
        assert (mirrored <= high).all()
        within = (values >= low) & (values <= high)
        np.testing.assert_allclose(mirrored[within], values[within], rtol=1e-9, atol=1e-9)
    for whole in (one + other, one * other, one * -2 + 1, other.then(one, at=5)):
        least, most = whole.bounds
        made = whole.values(t, KEY)
        slack = 1e-9 * np.abs(made).max() + 1e-9
        assert least - slack <= made.min()
        assert made.max() <= most + slack
    at = steps + 1
    first, second = part_keys((one, other), KEY)
    then = one.then(other, at=at).values(t, KEY)
    assert then[t < at].tolist() == one.values(t[t < at], first).tolist()
    assert then[t >= at].tolist() == other.values(t[t >= at] - at, second).tolist()


@given(config=configs(WILD | st.just({"step": {"before": 0, "after": 1, "at": 5}}), WILD) | WILD, t=CLOCKS)
def test_any_arguments_make_a_schedule_or_are_named(config, t):
    schedule, said = None, ""
    try:
        schedule = Schedule.from_config(config)
    except ValueError as error:
        said = str(error)
    if schedule is None:
        assert any(words in said for words in (" got ", "must ", "it takes "))
        return
    schedule.values([t], KEY)
    assert Schedule.from_config(schedule.to_config()) == schedule


test_wrong_argument_is_named = error_test(
    (lambda: Schedule.from_config({"sum": []}), ("Sum", "schedules", "[]")),
    (lambda: Schedule.from_config({"product": 3}), ("product", "by name", "3")),
    (
        lambda: Schedule.from_config({"sum": [1, {"clip": {"schedule": {"step": {"at": 3}}}}]}),
        ("Sum", "Clip", "step", "before", "after"),
    ),
    (
        lambda: Schedule.from_config("9.8"),
        ("schedule", "constant", "'9.8'"),
    ),
    (lambda: Schedule.from_config({"sinusiod": {}}), ("constant", "step", "sinusiod")),
    (lambda: Schedule.from_config({"step": 3}), ("step", "by name", "3")),
    (lambda: Schedule.from_config({"linear": {"start": 0}}), ("linear", "end", "over")),
    (
        lambda: as_schedules({"gravity": {"sinusoid": {"ampltude": 4}}}),
        ("changes.gravity", "sinusoid", "'ampltude'", "mean", "amplitude", "period", "phase"),
    ),
    (lambda: as_schedules([1]), ("changes", "[1]")),
)


KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


MOVING = [
    Sinusoid(mean=9.8, amplitude=4, period=20, phase=0.5),
    Redraw(low=0, high=1, every=3),
    Redraw(values=[1, 2, 2, 5], every=7),
    PoissonJumps(low=-1, high=1, mean_dwell=4.5),
    PoissonJumps(values=[1, 2], mean_dwell=1),
]


@pytest.mark.parametrize("schedule", MOVING, ids=repr)
def test_values_lie_within_the_amplitude(schedule):
    values = schedule.values(np.arange(5_000), KEY)
    assert np.ptp(values) <= 2 * schedule.amplitude
    assert np.ptp(values) > 1.8 * schedule.amplitude


def test_yaml_form_of_each_schedule_is_as_written():
    assert Sinusoid(9.8, 4, 20_000).to_config() == {
        "sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 20_000.0}
    }
    assert Redraw(values=[1, 2], every=5).to_config() == {"redraw": {"every": 5, "values": [1.0, 2.0]}}
    assert Schedule.from_config({"poisson_jumps": {"low": 0, "high": 1, "mean_dwell": 2e4}}) == PoissonJumps(
        0, 1, 2e4
    )
    assert Schedule.from_config(3) == Constant(3.0)
    assert as_schedules({"gravity": 3, "length": MOVING[0]}) == {"gravity": Constant(3), "length": MOVING[0]}
    assert as_schedules(None) == {}
