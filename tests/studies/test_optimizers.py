import pytest
import torch

from rl_rms.studies.optimizers import Ladder, half_decades

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["SGD", "momentum", "RMSprop", "Adam"])
def test_ladder_of_rates_equals_separate_runs(name):
    rates = [0.01, 0.3]
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    ladder, together = Ladder(name, rates), torch.ones(2, 3, dtype=torch.float64)
    for grad in grads:
        together = ladder.step(together, grad)
    for i, rate in enumerate(rates):
        one, alone = Ladder(name, [1.0]), torch.ones(1, 3, dtype=torch.float64)
        for grad in grads[:, i : i + 1]:
            alone = one.step(alone, grad, factor=rate)
        assert torch.allclose(together[i : i + 1], alone)
    if name == "SGD":
        assert torch.allclose(together[1], 1 - 0.3 * grads[:, 1].sum(0))


def test_ladder_has_the_rates_in_factors():
    assert half_decades(1e-3, 0.1) == [0.001, 0.003, 0.01, 0.03, 0.1]
