"""What every test stands on: one thread, since more are slower on small networks and tests run side by side."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir

# A shell that starts the tests in the background has them ignore Ctrl-C, and the processes that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Flower and Ray would write into the home folder; read where they are imported, and by the processes they start.
os.environ.setdefault("FLWR_HOME", str(Path(__file__).parents[1] / ".pytest_cache" / "flower"))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# The same examples every time; `make fuzz` makes up many more, others each time, and keeps those that fail.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile("default")
set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ray leaves a handler of its own in the process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Refuse names that differ from process to process: pytest-xdist would run none of the tests.

    Raises:
        pytest.UsageError: If a test's name holds an address.
    """
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"{unstable[0]} holds an address; give the parametrization ids")
