import pytest
import torch

import rl_rms
from rl_rms.agents import A2C
from rl_rms.agents.config import A2CConfig
from rl_rms.agents.optimizers import make_optimizer, optimizer_path
from tests.naming import naming


def module():
    return torch.nn.ModuleDict({"actor": torch.nn.Linear(1, 1), "critic": torch.nn.Linear(1, 1)})


def test_default_optimizer_is_bias_corrected_rmsprop():
    optimizer = make_optimizer(module(), A2CConfig())
    assert type(optimizer) is rl_rms.RMSprop
    assert optimizer.half_life == pytest.approx(200)
    assert optimizer.param_groups[0]["bias_correction"] is True
    assert optimizer.param_groups[0]["eps"] == 1e-5


def test_make_optimizer_half_life_or_rho_sets_the_half_life():
    assert make_optimizer(module(), A2CConfig(half_life="69 updates")).half_life == pytest.approx(69)
    by_rho = make_optimizer(module(), A2CConfig(optimizer_kwargs={"rho": 0.5}))
    assert by_rho.half_life == pytest.approx(1.0)
    with pytest.raises(ValueError, match=naming("half_life", "rho")):
        make_optimizer(module(), A2CConfig(half_life=69, optimizer_kwargs={"rho": 0.5}))


def test_optimizer_by_path_or_class_is_used():
    config = A2CConfig(optimizer="torch.optim.Adam", optimizer_kwargs={"betas": (0.5, 0.9)})
    assert make_optimizer(module(), config).param_groups[0]["betas"] == (0.5, 0.9)

    class Mine(torch.optim.SGD):
        pass

    agent = A2C("CartPole-v1", optimizer=Mine, optimizer_kwargs={"momentum": 0.9}, seed=0).learn(20)
    assert type(agent.optimizer) is Mine
    assert agent.describe_half_life() is None


def test_optimizer_of_a_wrong_path_names_it():
    with pytest.raises(ValueError, match=naming("optimizer", "'torch.nn.Linear'", "rl_rms.RMSprop")):
        make_optimizer(module(), A2CConfig(optimizer="torch.nn.Linear"))


def test_optimizer_with_a_wrong_argument_names_it():
    with pytest.raises(ValueError, match=naming("optimizer_kwargs", "torch.optim.adam.Adam", "alpha")):
        make_optimizer(module(), A2CConfig(optimizer="torch.optim.Adam", optimizer_kwargs={"alpha": 0.9}))
    with pytest.raises(ValueError, match=naming("half_life=69")):
        make_optimizer(module(), A2CConfig(optimizer="torch.optim.Adam", half_life=69))


@pytest.mark.parametrize(
    ("path", "needed"), [("torch.optim.LBFGS", "closure"), ("rl_rms.optim.groups.GroupRMSprop", "gradients")]
)
def test_optimizer_whose_step_needs_an_argument_raises(path, needed):
    with pytest.raises(ValueError, match=naming("optimizer", needed)):
        make_optimizer(module(), A2CConfig(optimizer=path))


def test_optimizer_path_of_a_class_imports_that_class():
    assert optimizer_path(rl_rms.RMSprop) == "rl_rms.RMSprop"
    path = optimizer_path(torch.optim.Adam)
    assert type(make_optimizer(module(), A2CConfig(optimizer=path))) is torch.optim.Adam
