import pytest
import torch

from rl_rms.agents.distributions import Categorical, DiagonalGaussian


def test_categorical_equals_torchs():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    actions = torch.tensor([0, 1, 2, 1, 0])
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.mode().tolist() == logits.argmax(-1).tolist()


def test_gaussian_equals_torchs():
    mean = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    log_std = torch.tensor([-0.5, 0.3])
    actions = mean + 0.7
    ours = DiagonalGaussian(mean, log_std)
    theirs = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.mode() is mean


@pytest.mark.parametrize(
    "distribution",
    [Categorical(torch.log(torch.tensor([[0.7, 0.2, 0.1]]))), DiagonalGaussian(torch.zeros(1, 1), torch.zeros(1))],
)
def test_samples_come_from_the_generator_and_follow_the_density(distribution):
    def draw(seed, n):
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([distribution.sample(generator) for _ in range(n)]).float()

    assert torch.equal(draw(3, 50), draw(3, 50))
    assert not torch.equal(draw(3, 50), draw(4, 50))
    expected = 0.2 + 2 * 0.1 if isinstance(distribution, Categorical) else 0.0
    assert draw(0, 4000).mean().item() == pytest.approx(expected, abs=0.06)
