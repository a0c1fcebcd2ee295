import torch

from rl_rms.studies import load
from rl_rms.studies.batch_norm import Gradients, worst

STUDY = load("batch_norm")


def test_steps_with_small_eps_are_independent_of_gamma(quick):
    assert worst(quick, "RMSprop, eps 1e-8") < 0.01
    assert worst(quick, "SGD") > 10
    assert worst(quick, "RMSpropTFLike, eps 1e-5") > 0.5
    assert STUDY.verdict(quick).word == "conditional"


def test_recovery_from_a_jump_takes_longer_with_a_longer_half_life(quick):
    short, long = (quick.estimate("updates", rho=rho, jump=10.0).middle for rho in (0.5, 0.9))
    assert 1 <= short < 12
    assert 12 < long < 60


def test_gradients_are_proportional_to_gamma():
    grads = []
    for gamma in (1.0, 7.0):
        source = Gradients(seed=3)
        source.collect(gamma)
        grads.append(source.weights.grad)
    assert torch.allclose(grads[1], 7 * grads[0])
    assert float(grads[0].norm()) > 1e-6
