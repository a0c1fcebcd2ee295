import numpy as np
import pytest
import torch

from rl_rms.studies import load
from rl_rms.studies.intervals import interquartile_mean
from rl_rms.studies.meta_gradient import START, descent, logs, unroll
from rl_rms.studies.regression import Regression

pytestmark = pytest.mark.slow

STUDY = load("meta_gradient")


def test_adapted_hyperparameters_lower_the_loss(quick):
    start, learned = (quick.values("score", by=by) for by in ("start", "learned"))
    assert interquartile_mean(learned - start).low > 0
    assert (quick.values("kilobytes", length=30) > 5 * quick.values("kilobytes", length=3)).all()
    assert "signal-to-noise" in STUDY.verdict(quick).evidence


def test_unrolled_training_equals_plain_training():
    one, other = (Regression(4, 1, layer_norm=False) for _ in range(2))
    objective = unroll(one, one.params, logs(START), 5, penalty=0.0)
    other.train(descent(START), 5)
    assert objective.item() == pytest.approx(other.losses(other.params).item(), rel=1e-5)


@pytest.fixture
def double():
    """New tensors have double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_meta_gradient_equals_finite_differences(double):
    def objective(x):
        task = Regression(4, 1, layer_norm=False)
        return unroll(task, task.params, x, 6, penalty=0.5)

    x = logs(START).double().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(x), x)
    step = 1e-5
    differences = [
        (objective(x.detach() + step * one) - objective(x.detach() - step * one)).item() / (2 * step)
        for one in torch.eye(3, dtype=torch.float64)
    ]
    assert gradient.numpy() == pytest.approx(np.array(differences), rel=1e-5)
