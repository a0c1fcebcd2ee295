import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tracking(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tracking")


def test_divergence_of_known_cases_equals_hand_computed_values(tracking):
    ones = np.ones((2, 3))
    assert tracking.divergence(ones, ones).tolist() == [0, 0]
    assert tracking.divergence(ones, ones / 2) == pytest.approx(0.5 * (2 - 1 - math.log(2)))


def test_streams_have_gradients_of_their_variance(tracking):
    for stream in tracking.STREAMS.values():
        variances, gradients = tracking.make(stream, seeds=2, updates=2000, coordinates=16)
        assert variances.shape == gradients.shape == (2000, 2, 16)
        assert np.mean(gradients**2 / variances) == pytest.approx(1, rel=0.1)
        changes = (np.diff(np.log(variances), axis=0) ** 2).sum() > 1e-9
        assert changes == math.isfinite(stream.timescale)


def test_errors_of_known_averages_equal_hand_computed_values(tracking):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((1500, 2, 64))
    errors = tracking.errors_of_half_lives(
        np.full((1, 1500, 2), tracking.LN2 / -math.log(0.99)), np.ones_like(gradients), gradients
    )
    assert errors == pytest.approx(0.01 / 4, rel=0.25)


def test_measure_compares_contenders_with_the_best_fixed_half_life(tracking):
    jumps = tracking.measure(tracking.STREAMS["jumps 100"], seeds=2, updates=2000, coordinates=32)
    ratio = {name: np.mean(values) for name, values in jumps["ratio"].items()}
    assert ratio["match"] < 1.25
    assert ratio["bank"] < 1.25
    assert ratio["h = T"] > 1.5
    assert ratio["scale x shape"] < 0.5
    assert ratio["match, floor 32"] > 1.5
    assert 0.5 < np.mean(jumps["median_half_life"]["match"]) / np.mean(jumps["best_half_life"]) < 2
    assert set(tracking.RIVALS) < set(ratio)
    assert all(math.isfinite(value) for value in ratio.values())


def test_main_writes_results_and_table(tracking, tmp_path, monkeypatch, capsys):
    output = tmp_path / "new" / "tracking.json"
    command = ["tracking", "--quick", "--seeds", "2", "--streams", "stationary", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    tracking.main()
    found = json.loads(output.read_text())
    assert found["updates"] == 800
    ratios = found["streams"]["stationary"]["ratio"]
    assert min(ratios["rho=0.9"]) > 3
    assert max(ratios["match"]) < 1.25
    found["streams"]["stationary"]["ratio"]["restart, floor 32"] = [7.0, 9.0]
    found["streams"]["stationary"]["ratio"]["match"] = [x + 5 for x in ratios["match"]]
    output.write_text(json.dumps(found))
    capsys.readouterr()
    tracking.main()
    again = json.loads(output.read_text())["streams"]["stationary"]["ratio"]
    assert again["restart, floor 32"] == [7.0, 9.0]
    assert max(again["match"]) < 1.25
    table = output.with_suffix(".md").read_text()
    assert "| match | " in table
    assert "| restart, floor 32 | 8.00" in table
    assert table.strip().endswith(capsys.readouterr().out.strip().splitlines()[-1])
