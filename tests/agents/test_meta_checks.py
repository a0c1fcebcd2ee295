import pytest
import torch

from rl_rms.agents import A2C, MetaConfig, PolicyConfig
from rl_rms.agents.meta_checks import check_update
from tests.naming import naming

OPTIONS = {"momentum": 0.0, "optimism": 0.0, "lr": 0.1}
UPDATE = {"groups": [OPTIONS], "state": None, "coefficients": {"gamma": 0.9}}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "torch.optim.Adam"}, ["meta", "rl_rms.RMSprop", "Adam"]),
        ({"half_life": "auto"}, ["meta", "half_life='auto'"]),
        ({"on_change": "forget"}, ['on_change="forget"', "meta.adapt=", "half-life"]),
        ({"policy": PolicyConfig(norm="batch")}, ["meta", 'norm="batch"']),
        ({"optimizer_kwargs": {"rho": 0}}, ["meta", "rho=0", "half_life"]),
        ({"optimizer_kwargs": {"max_grad_value": 1.0}}, ["max_grad_value", "optimizer_kwargs"]),
    ],
)
def test_meta_with_an_unsupported_option_raises(options, sentence):
    with pytest.raises(ValueError, match=naming(*sentence)):
        A2C("CartPole-v1", meta=MetaConfig(), **options)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"groups": [{**OPTIONS, "momentum": 0.5}]}, ["meta.window.groups.momentum", "0.0", "0.5"]),
        ({"groups": [{**OPTIONS, "lr": "fast"}]}, ["meta.window.groups.lr", "fast"]),
        ({"state": torch.zeros(1, 2)}, ["meta.window.state"]),
        ({"coefficients": {"gamma": "high"}}, ["meta.window.coefficients.gamma", "high"]),
    ],
)
def test_check_update_of_a_damaged_update_names_the_part(changed, named):
    check_update(UPDATE, [OPTIONS], is_recurrent=False)
    with pytest.raises(ValueError, match=naming(*named)):
        check_update({**UPDATE, **changed}, [OPTIONS], is_recurrent=False)
