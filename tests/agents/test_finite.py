"""Nonfinite rewards, observations and gradients at known places."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rl_rms.agents import A2C
from rl_rms.agents.config import A2CConfig
from rl_rms.agents.finite import TAME, are_tame, find, replaced
from tests.agents.nonfinite import INF, NAN, finite, vector
from tests.naming import naming

# -- pure functions ------------------------------------------------------------------------------------------


def test_are_tame_is_true_for_finite_and_moderate_values():
    assert are_tame(np.array([1e18, -3.0], np.float32))
    assert are_tame({"a": np.array([1, 2]), "b": (np.zeros((2, 3)),)})
    for value in (NAN, INF, -INF, 2 * math.sqrt(TAME)):
        assert not are_tame(np.array([[1.0, value]], np.float32))
        assert not are_tame({"a": np.array([1, 2]), "b": (np.array([value]),)})


def test_find_names_the_place_and_number_of_nonfinite_values():
    tree = {"far": (np.array([[1.0, 2.0], [NAN, -INF], [1e39, 1.0]]),), "near": np.array([NAN, 1.0, 1.0])}
    assert list(map(str, find("the observation", tree))) == [
        "the observation['near'] of sub-environment 0 must be finite, got nan",
        "the observation['far'][0] of sub-environment 1 must be finite, got nan in 2 of 2 numbers",
        "the observation['far'][0] of sub-environment 2 must be finite, got 1e+39 in 1 of 2 numbers",
    ]
    assert find("the reward", np.array([3e38, 0.0])) == []


def test_replaced_keeps_finite_values():
    leaf = replaced(
        {"a": np.array([[1.0, NAN], [INF, 2.0]], np.float32)}, {"a": np.array([[5.0, 6.0], [7.0, 8.0]])}
    )
    np.testing.assert_array_equal(leaf["a"], np.array([[1.0, 6.0], [7.0, 2.0]], np.float32))
    assert leaf["a"].dtype == np.float32


# -- agents --------------------------------------------------------------------------------------------------


class Bad(nn.Module):
    """A policy with gradients or values that can be made nonfinite."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.factor = nn.Parameter(torch.ones(()))
        self.bad = None

    def actor(self, observations):
        from rl_rms.agents.distributions import Categorical

        return Categorical(self.layer(observations))

    def critic(self, observations):
        values = observations.sum(-1) * self.factor
        if self.bad == "value":
            return values * torch.where(observations[..., 0] == 2.0, NAN, 1.0)
        if self.bad == "gradient":
            # 0 in the forward pass, nan in the backward pass
            return values + (self.factor * 0.0).sqrt()
        return values


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_raise_nonfinite_gradient_names_its_cause(optimizer):
    options = {"n_steps": 5, "normalize_observation": False}
    agent = A2C(vector({}, {}), seed=0, policy=Bad(), optimizer=optimizer, **options).learn(10)
    before = [param.detach().clone() for param in agent.policy.parameters()]
    agent.session.collector.start(0)
    agent.policy.bad = "value"
    with pytest.raises(
        FloatingPointError,
        match=naming("update 2", "20 env steps", "gradient", "factor", "nan", "sub-environment 0", "step 2"),
    ):
        agent.learn(10)
    assert all(map(torch.equal, before, agent.policy.parameters()))
    agent.policy.bad = "gradient"
    with pytest.raises(FloatingPointError, match=naming("loss", "on_nonfinite", '"skip"')) as raised:
        agent.learn(10)
    assert "There" not in str(raised.value)
    with torch.no_grad():
        agent.policy.factor.fill_(NAN)
    agent.policy.bad = None
    with pytest.raises(FloatingPointError, match=naming("parameter", "factor")):
        agent.learn(10)


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_learn_nonfinite_gradient_is_skipped(optimizer):
    agent = A2C(vector({}, {}), seed=0, policy=Bad(), optimizer=optimizer, on_nonfinite="skip").learn(10)
    before = [param.detach().clone() for param in agent.policy.parameters()]
    agent.policy.bad = "gradient"
    agent.learn(10)
    assert agent.num_nonfinite == 1
    assert all(map(torch.equal, before, agent.policy.parameters()))
    assert finite(agent)
    agent.policy.bad = None
    assert finite(agent.learn(10))


def test_constructor_passes_on_nonfinite_to_the_optimizer():
    assert A2C("CartPole-v1", seed=0).optimizer.guard.on_nonfinite == "raise"
    own = A2C("CartPole-v1", seed=0, on_nonfinite="skip", optimizer_kwargs={"on_nonfinite": None})
    assert own.optimizer.guard.on_nonfinite is None


def test_constructor_with_a_wrong_on_nonfinite_names_it():
    with pytest.raises(ValueError, match=naming("on_nonfinite", "raise", "skip", "'ignore'")):
        A2CConfig(on_nonfinite="ignore")
