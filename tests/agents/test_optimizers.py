import functools

import pytest
import torch

import rl_rms
from rl_rms.agents import A2C
from rl_rms.agents.config import A2CConfig
from rl_rms.agents.optimizers import make_optimizer, optimizer_path
from rl_rms.optim.bank import Bank
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


@pytest.mark.parametrize("like", ["tf1", "optax"])
def test_optimizer_of_a_preset_without_learning_rate_has_the_configured_learning_rate(like):
    kwargs = {"like": like, "bias_correction": False}
    config = A2CConfig(learning_rate=0.25, critic_learning_rate=0.5, optimizer_kwargs=kwargs)
    optimizer = make_optimizer(module(), config)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]
    assert optimizer.param_groups[0]["lr_in_momentum"] is True


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


@pytest.mark.parametrize("optimizer", [functools.partial(torch.optim.SGD, momentum=0.9), torch.nn.Linear])
def test_optimizer_that_is_no_optimizer_class_raises(optimizer):
    with pytest.raises(TypeError, match=naming("optimizer", "optimizer_kwargs")):
        A2C("CartPole-v1", optimizer=optimizer)


def test_optimizer_kwargs_that_a_checkpoint_cannot_hold_raise_before_the_training():
    with pytest.raises(ValueError, match=naming("optimizer_kwargs", "estimator")):
        A2C("CartPole-v1", half_life="auto", optimizer_kwargs={"estimator": Bank()})


def test_optimizer_class_with_its_own_estimator_is_saved_and_loaded(tmp_path):
    class Mine(rl_rms.RMSprop):
        def __init__(self, params, **options):
            super().__init__(params, estimator=Bank((3, 7)), **options)

    path = A2C("CartPole-v1", optimizer=Mine, half_life="auto", seed=0).learn(20).save(tmp_path / "agent")
    assert A2C.load(path, "CartPole-v1", optimizer=Mine).optimizer.half_life == 7
