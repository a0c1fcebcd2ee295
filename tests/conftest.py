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

# A shell starts background processes with SIGINT ignored, and child processes inherit this setting.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Flower and Ray write into the home folder otherwise. They read these variables on import and in child processes.
os.environ.setdefault("FLWR_HOME", str(Path(__file__).parents[1] / ".pytest_cache" / "flower"))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# By default, the examples are the same in every run. `make fuzz` draws many new examples, and Hypothesis stores
# failing examples in its folder.
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
        raise pytest.UsageError(f"the test name {unstable[0]} has a memory address; pass ids= to parametrize")
