import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[2] / "benchmarks" / "alternatives.py"


def test_shares_of_products_are_smaller_than_shares_of_the_backend(benchmark):
    methods = [getattr(owner, name) for owner, name, _ in benchmark.METHODS]
    found = benchmark.shares(2, "sync", rounds=1)
    assert 0 < found["products"] < found["backend"] < 1
    assert [getattr(owner, name) for owner, name, _ in benchmark.METHODS] == methods


def test_numpy_forward_equals_torch(benchmark):
    import torch

    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(4, 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, 2),
    ]
    inputs = torch.randn(3, 4)
    weights = tuple(
        one.detach().numpy() for layer in layers[::2] for one in (layer.weight.T.contiguous(), layer.bias)
    )
    hidden = (np.empty((3, 64), np.float32), np.empty((3, 64), np.float32))
    outputs = np.empty((3, 2), np.float32)
    benchmark.numpy_forward(inputs.numpy(), weights, hidden, outputs)
    np.testing.assert_allclose(outputs, torch.nn.Sequential(*layers)(inputs).detach(), rtol=1e-4, atol=1e-6)


def test_torch_times_measures_each_way(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark.torch, "compile", lambda module: module)
    found = benchmark.torch_times(3, rounds=1)
    assert found.keys() == {"torch", "torch.compile", "numpy", "compilation"}
    assert all(value > 0 for value in found.values())


def test_vector_speeds_measures_each_mode(benchmark):
    found = benchmark.vector_speeds(2, rounds=1)
    assert found.keys() == set(benchmark.MODES)
    assert all(speed > 0 for speed in found.values())


def test_committed_tables_come_from_the_committed_numbers(benchmark):
    measured = json.loads((PATH.parent / "results" / "alternatives.json").read_text())
    assert (PATH.parent / "results" / "alternatives.md").read_text() == benchmark.tables(measured)
