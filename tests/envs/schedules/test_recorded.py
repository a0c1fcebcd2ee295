import math

import numpy as np
import pytest

from rl_rms.envs.schedules import (
    Key,
    OrnsteinUhlenbeck,
    Schedule,
    Trace,
)
from tests.envs.schedules.tables import error_test, timescale_test, values_test
from tests.naming import naming

KEY = Key(seed=7, stream=3)


def test_trace_timescale_is_the_lag_of_correlation_1_over_e():
    recorded = OrnsteinUhlenbeck(5, 2, tau=30).values(np.arange(0, 400_000), KEY)
    assert Trace(recorded).timescale == pytest.approx(30, rel=0.1)
    assert Trace(recorded[::10], every=10).timescale == pytest.approx(30, rel=0.1)
    # For a centered line of length 1, the autocovariance at lag k is (1 - 2 k - 2 k**2) / 12. It falls to 1/e of
    # 1/12 at k = 0.2524.
    assert Trace(np.arange(1_000) / 1_000.0).timescale == pytest.approx(252.4, rel=0.005)
    # Two values have the correlations 1 and -1, 7 env steps apart.
    for scale in (1, 1e-200, 1e308):
        assert Trace([0, scale], every=7).timescale == pytest.approx(7 * (1 - 1 / math.e) / 2)


def test_trace_reads_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gravity.csv").write_text("9.8\n3.7\n\n1.6\n")
    np.save(tmp_path / "gravity.npy", np.array([9.8, 3.7, 1.6]))
    for name in ("gravity.csv", "gravity.npy", tmp_path / "gravity.npy"):
        schedule = Schedule.from_config({"trace": {"values": str(name), "every": 10}})
        assert schedule.values([0, 10, 20, 30], KEY).tolist() == [9.8, 3.7, 1.6, 1.6]
        assert schedule.to_config() == {"trace": {"values": str(name), "every": 10}}
        assert schedule.samples == Trace([9.8, 3.7, 1.6]).samples


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"1\n", ("numbers", ".csv or .npy", "'a.txt'")),
        ("a.csv", b"1\n2,3\n", ("'a.csv'", "'2,3'")),
        ("a.csv", b"1\nnan\n", ("finite", "a.csv")),
        ("a.csv", b"", ("finite", "a.csv", "(0,)")),
        ("a.csv", b"\xff\n", ("'a.csv'", "0xff")),
        ("a.npy", b"1\n2\n", ("'a.npy'", "numbers")),
        ("b.csv", None, ("'b.csv'", "relative paths")),
    ],
)
def test_trace_of_another_file_names_it(name, content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=naming(*said)):
        Trace(name)


test_values_equal_hand_computed_values = values_test(
    (Trace([1, 4, 2], every=2), [0, 1, 2, 5, 6, 99], [1, 1, 4, 2, 2, 2]),
    (Trace([1, 4, 2], every=2, end="repeat"), [4, 5, 6, 8], [2, 2, 1, 4]),
    (Trace([1, 4, 2], every=2, between="linear"), [0, 1, 2, 3, 4, 5, 99], [1, 2.5, 4, 3, 2, 2, 2]),
    (Trace(np.array([1, 4, 2]), every=2, between="linear", end="repeat"), [4, 5, 6, 7], [2, 1.5, 1, 2.5]),
)

test_timescale_and_amplitude_equal_hand_computed_values = timescale_test((Trace([5, 5, 5]), math.inf, 0))


test_wrong_argument_is_named = error_test(
    (lambda: Trace([[1, 2]]), ("finite", "(1, 2)")),
    (lambda: Trace([1, "a"]), ("finite",)),
    (lambda: Trace([1], between="cubic"), ("between", "hold", "linear", "'cubic'")),
    (lambda: Trace([1], end="stop"), ("end", "hold", "repeat", "'stop'")),
)


def test_interpolated_values_stay_within_the_recording_despite_rounding():
    values = Trace([0.6, 0.6, 0.3, 0.3], every=97, between="linear").values(np.arange(400), Key(seed=0))
    assert (values.min(), values.max()) == (0.3, 0.6)
