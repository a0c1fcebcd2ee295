import numpy as np
import pytest
import torch

from rl_rms.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
    TorchDistribution,
    as_distribution,
)
from rl_rms.agents.workers import SharedRandomSource, Workers
from tests.naming import naming

VALUES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_categorical_equals_torch():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    actions = torch.tensor([0, 1, 2, 1, 0])
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert ours.mode().tolist() == logits.argmax(-1).tolist()


def test_gaussian_equals_torch():
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
def test_sample_uses_the_generator_and_follows_the_density(distribution):
    def draw(seed, n):
        generator = np.random.default_rng(seed)
        return torch.stack([distribution.sample(generator) for _ in range(n)]).float()

    assert torch.equal(draw(3, 50), draw(3, 50))
    assert not torch.equal(draw(3, 50), draw(4, 50))
    expected = 0.2 + 2 * 0.1 if isinstance(distribution, Categorical) else 0.0
    assert draw(0, 4000).mean().item() == pytest.approx(expected, abs=0.06)


def test_multi_categorical_equals_independent_torch_categoricals():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    actions = torch.tensor([[0, 3], [1, 2], [2, 1], [1, 0], [0, 2]])
    ours = MultiCategorical(logits, np.array([3, 4]))
    theirs = [torch.distributions.Categorical(logits=part) for part in (logits[:, :3], logits[:, 3:])]
    expected = theirs[0].log_prob(actions[:, 0]) + theirs[1].log_prob(actions[:, 1])
    torch.testing.assert_close(ours.log_prob(actions), expected)
    torch.testing.assert_close(ours.entropy(), theirs[0].entropy() + theirs[1].entropy())
    assert ours.mode().tolist() == torch.stack([logits[:, :3].argmax(1), logits[:, 3:].argmax(1)], 1).tolist()


def test_bernoulli_equals_torch():
    logits = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    actions = (logits > 0.3).float()
    ours = Bernoulli(logits)
    theirs = torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 2)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    drawn = torch.stack([ours.sample(np.random.default_rng(i)) for i in range(4000)]).mean(0)
    torch.testing.assert_close(drawn, logits.sigmoid(), atol=0.04, rtol=0.0)


def test_squashed_gaussian_equals_torch_and_its_simulated_entropy():
    mean = torch.tensor([[0.3, -1.2], [2.0, 0.0]])
    log_std = torch.tensor([-0.5, 0.4])
    ours = SquashedGaussian(mean, log_std)
    u = mean + torch.tensor([[0.1, -0.4], [0.7, 1.5]])
    theirs = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(ours.log_prob(u), theirs.log_prob(u.tanh()).sum(1), rtol=1e-4, atol=1e-4)
    many = SquashedGaussian(mean.repeat(100_000, 1), log_std)
    surprise = -many.log_prob(many.sample(np.random.default_rng(0))).view(-1, 2).mean(0)
    torch.testing.assert_close(ours.entropy(), surprise, rtol=0.0, atol=0.02)


def test_masked_distribution_never_draws_invalid_actions_nor_counts_their_entropy():
    logits = torch.tensor([[3.0, 0.0, 0.0], [5.0, 1.0, 2.0]], requires_grad=True)
    masked = Categorical(logits).masked(torch.tensor([[False, True, True], [True, False, True]]))
    drawn = torch.stack([masked.sample(np.random.default_rng(i)) for i in range(300)])
    assert set(drawn[:, 0].tolist()) == {1, 2}
    assert 1 not in drawn[:, 1].tolist()
    assert masked.entropy()[0].item() == pytest.approx(np.log(2))
    (masked.entropy().sum() + masked.log_prob(torch.tensor([1, 2])).sum()).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] == 0.0


TORCH = {
    "categorical": (torch.distributions.Categorical(logits=VALUES), Categorical),
    "categoricals": (
        torch.distributions.Categorical(logits=VALUES.unsqueeze(1).repeat(1, 2, 1)),
        MultiCategorical,
    ),
    "normal": (torch.distributions.Normal(VALUES, VALUES.exp()), DiagonalGaussian),
    "bernoulli": (torch.distributions.Bernoulli(logits=VALUES), Bernoulli),
    "beta": (torch.distributions.Beta(VALUES.exp() + 1, VALUES.exp() + 2), TorchDistribution),
    "laplace": (torch.distributions.Laplace(VALUES, VALUES.exp()), TorchDistribution),
    "multivariate": (torch.distributions.MultivariateNormal(VALUES, torch.eye(3)), TorchDistribution),
}


def total(values):
    return values.reshape(5, -1).sum(-1)


@pytest.mark.parametrize("kind", TORCH)
@pytest.mark.parametrize("is_independent", [False, True])
def test_as_distribution_of_torch_has_its_probabilities_and_entropy(kind, is_independent):
    theirs, expected = TORCH[kind]
    wrapped = torch.distributions.Independent(theirs, len(theirs.batch_shape) - 1) if is_independent else theirs
    ours = as_distribution(wrapped)
    assert type(ours) is expected
    actions = ours.sample(np.random.default_rng(0))
    assert actions.shape == theirs.sample().shape
    torch.testing.assert_close(ours.log_prob(actions), total(theirs.log_prob(actions)))
    torch.testing.assert_close(ours.entropy(), total(theirs.entropy()))
    torch.testing.assert_close(ours.mode().float(), theirs.mode.float())


def test_torch_distribution_draws_only_with_the_agents_generator():
    beta = as_distribution(TORCH["beta"][0])
    before = torch.get_rng_state()
    one, two = (beta.sample(np.random.default_rng(seed)) for seed in (3, 4))
    assert torch.equal(one, beta.sample(np.random.default_rng(3)))
    assert not torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = np.random.default_rng(3)
    assert not torch.equal(beta.sample(drawn), beta.sample(drawn))


def test_torch_distribution_of_two_workers_draws_different_actions():
    beta = as_distribution(torch.distributions.Beta(torch.ones(4, 1), torch.ones(4, 1)))
    one, two = (beta.sample(SharedRandomSource(np.random.default_rng(0), Workers(rank, 2))) for rank in range(2))
    assert not torch.equal(one, two)


def test_torch_distribution_without_a_mode_has_its_mean():
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(5, 2)), torch.distributions.Normal(VALUES[:, :2], 1.0)
    )
    torch.testing.assert_close(as_distribution(mixture).mode(), VALUES[:, :2].mean(-1))


def test_torch_categorical_can_be_masked():
    mask = torch.tensor([[True, False, False]] * 5)
    assert as_distribution(TORCH["categorical"][0]).masked(mask).mode().tolist() == [0] * 5
    with pytest.raises(ValueError, match=naming("mask_actions", "Beta", "Categorical")):
        as_distribution(TORCH["beta"][0]).masked(mask)


def test_torch_distribution_without_entropy_names_an_alternative():
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(VALUES, 1.0), torch.distributions.TanhTransform()
    )
    with pytest.raises(ValueError, match=naming("actor", "TransformedDistribution", "SquashedGaussian")):
        as_distribution(squashed).entropy()


def test_as_distribution_of_logits_names_a_distribution():
    with pytest.raises(ValueError, match=naming("actor", "Tensor", "torch.distributions.Categorical")):
        as_distribution(VALUES)
