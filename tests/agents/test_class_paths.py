import pytest
import torch

from rl_rms.agents.class_paths import import_class, make_module
from tests.agents.networks import Encoder
from tests.naming import naming


@pytest.mark.parametrize("path", ["Adam", "torch.optim.Adamm", "nowhere.Adam", "torch.nn.Linear", "math.pi"])
def test_import_class_of_a_wrong_path_names_it(path):
    with pytest.raises(ValueError, match=naming("optimizer", path, "torch.optim.Adam")):
        import_class("optimizer", path, torch.optim.Optimizer, "torch.optim.Adam")


def test_import_class_of_a_subclass_imports_it():
    assert import_class("optimizer", "torch.optim.SGD", torch.optim.Optimizer, "") is torch.optim.SGD


def test_make_module_gives_the_arguments_in_order():
    module = make_module("policy.encoder", "torch.nn.Linear", num_inputs=3, num_outputs=2)
    assert module.weight.shape == (2, 3)


def test_make_module_class_with_wrong_arguments_names_them():
    with pytest.raises(ValueError, match=naming("policy.encoder", "observation_space, action_space", "Encoder")):
        make_module("policy.encoder", f"{Encoder.__module__}.Encoder", observation_space=None, action_space=None)
