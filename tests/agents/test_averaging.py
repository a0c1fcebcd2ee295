import pytest
import torch

from rl_rms.agents.averaging import average_step


class Twice:
    """Averages a worker's tensors with the equal tensors of a second worker."""

    def average(self, tensors, share):
        for one in tensors:
            one.mul_(2.0 * share)


def test_average_step_moves_by_the_mean_of_the_steps():
    policy = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(policy.weight, 3.0)
    policy.weight.grad = torch.tensor([[1.0]])
    average_step(policy, torch.optim.SGD(policy.parameters(), lr=0.5), 0.25, Twice())
    assert policy.weight.item() == pytest.approx(2.75)
    average_step(policy, None, 0.25, Twice())
    assert policy.weight.item() == pytest.approx(2.75)
