"""What every test stands on: one thread, since more are slower on small networks and tests run side by side."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
