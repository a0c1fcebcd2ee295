import math
from pathlib import Path

import pytest
import torch
from scipy.special import erfi

PATH = Path(__file__).parents[2] / "benchmarks" / "trac.py"


def test_trac_of_one_parameter_is_the_published_recursion(benchmark):
    """Compares with the recursion in scalars. The base optimizer is Adam."""
    weight = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    shadow = torch.nn.Parameter(weight.detach().clone())
    optimizer = benchmark.TRAC([weight], lr=0.01)
    adam = torch.optim.Adam([shadow], lr=0.01)
    betas = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    variance, sigma, scale, theta = [0.0] * 6, [1e-8] * 6, 0.0, 0.5
    scales = []
    for t in range(120):
        gradient = math.cos(t / 10.0)
        for one in (weight, shadow):
            one.grad = torch.tensor([gradient], dtype=torch.float64)
        before = shadow.item()
        adam.step()
        optimizer.step()
        direction = (theta - 0.5) / (scale + 1e-8)
        slope = gradient * direction
        variance = [beta**2 * v + slope**2 for beta, v in zip(betas, variance, strict=True)]
        sigma = [beta * one - slope for beta, one in zip(betas, sigma, strict=True)]
        scale = sum(
            1e-8 / erfi(1.0 / math.sqrt(2.0)) * erfi(one / (math.sqrt(2.0 * v) + 1e-8))
            for one, v in zip(sigma, variance, strict=True)
        )
        theta = 0.5 + max(scale, 0.0) * (direction + shadow.item() - before)
        assert weight.item() == pytest.approx(theta, rel=1e-9)
        assert optimizer.scale == pytest.approx(scale, rel=1e-9)
        scales.append(scale)
    assert min(scales) < 0.0 < max(scales)


def test_trac_learns_a_regression_and_its_opposite(benchmark):
    torch.manual_seed(0)
    inputs = torch.randn(64, 5)
    targets = 2.0 * inputs[:, :1] - inputs[:, 1:2]
    network = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = benchmark.TRAC(network.parameters(), lr=1e-2)
    for sign in (1.0, -1.0):
        for _ in range(1_000):
            optimizer.zero_grad()
            loss = (network(inputs) - sign * targets).square().mean()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.1
