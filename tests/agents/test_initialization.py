import torch

from rl_rms.agents.initialization import orthogonal


def test_orthogonal_scales_the_weights_and_zeroes_the_biases():
    layer = orthogonal(torch.nn.Linear(4, 3), 2.0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(3))
    assert not layer.bias.any()
