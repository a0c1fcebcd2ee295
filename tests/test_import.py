import subprocess
import sys

import pytest

import rl_rms
from tests.naming import naming

HEAVY = ["torch", "torch._dynamo", "gymnasium", "stable_baselines3", "tensorboard", "matplotlib", "pandas"]


def imported_after(statement):
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_of_the_package_imports_no_heavy_dependency():
    assert imported_after("import rl_rms; rl_rms.HalfLife(69); rl_rms.rho_from_half_life(69)") == []


def test_import_of_the_optimizer_needs_only_torch():
    # The import of torch._dynamo, for torch.compile, takes as long as the import of torch.
    program = """
from rl_rms import RMSprop
import torch
param = torch.nn.Parameter(torch.ones(3))
optimizer = RMSprop([param], half_life=9)
param.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
"""
    assert imported_after(program) == ["torch"]


def test_configurations_and_schedules_need_no_heavy_dependency():
    used = "(OrnsteinUhlenbeck(0, 1, 5) + 1).value(9, Key(0))"
    assert imported_after(f"from rl_rms.envs.schedules import *; {used}") == []
    assert imported_after("import rl_rms.envs.config, rl_rms.envs.drift") == []


def test_submodules_are_imported_at_their_first_use():
    assert imported_after("import rl_rms; rl_rms.envs.make_vec; rl_rms.laws.matched_half_life") == ["gymnasium"]
    assert "stable_baselines3" in imported_after("import rl_rms; rl_rms.sb3.HalfLifeCallback")


def test_public_names_are_importable():
    assert all(hasattr(rl_rms, name) for name in rl_rms.__all__)
    with pytest.raises(AttributeError, match=naming("'RMSProp'")):
        rl_rms.RMSProp  # noqa: B018
