import pytest
import torch

from rl_rms.studies.regression import Regression

pytestmark = pytest.mark.slow


def test_batched_copies_equal_separate_training():
    def descend(rates):
        def step(params, grads):
            return {name: params[name] - rates * grads[name] for name in params}

        return step

    both = Regression(5, 2, layer_norm=True).train(descend(torch.tensor([0.1, 0.01]).view(2, 1, 1)), 20)
    alone = Regression(5, 1, layer_norm=True).train(descend(0.01), 20)
    assert both[:, 1].numpy() == pytest.approx(alone[:, 0].numpy(), rel=1e-4)
    assert both[0, 0] == both[0, 1]
    assert both[-1, 0] < 0.8 * both[0, 0]
