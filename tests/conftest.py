"""Settings of all tests.

Torch uses one thread in tests, because small networks are slower with more threads, and tests run in parallel.
"""

import os
import signal
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir

# Tests that a shell starts in the background ignore Ctrl-C, and so do their child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Flower and Ray write into the home folder otherwise. They read these variables on import and in child processes.
os.environ.setdefault("FLWR_HOME", str(Path(__file__).parents[1] / ".pytest_cache" / "flower"))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# Examples are the same in every run. `make fuzz` draws many new ones and keeps those that fail.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile("default")
set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c():
    """Restores the Ctrl-C handler that Ray replaces."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Refuse test names that differ between processes, with which pytest-xdist would run no tests.

    Raises:
        pytest.UsageError: If a test's name has a memory address.
    """
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"{unstable[0]} holds an address; give the parametrization ids")
