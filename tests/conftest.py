"""What every test stands on: one thread, since more are slower on small networks and tests run side by side."""

import os
from pathlib import Path

import pytest
import torch

# Flower and Ray would write into the home folder; read where they are imported, and by the processes they start.
os.environ.setdefault("FLWR_HOME", str(Path(__file__).parents[1] / ".pytest_cache" / "flower"))
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
