"""Examples in docstrings give the output that they show."""

import doctest
import importlib
import pkgutil

import pytest

import rl_rms

MODULES = sorted(module.name for module in pkgutil.walk_packages(rl_rms.__path__, "rl_rms."))


def test_docstring_modules_cover_every_layer():
    assert {"rl_rms.optim.rule", "rl_rms.agents.a2c", "rl_rms.envs.schedules", "rl_rms.cli.main"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
