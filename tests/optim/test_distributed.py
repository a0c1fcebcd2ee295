"""Distributed training (ZeRO, FSDP, state dicts) equals torch's optimizer, or training in one process."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parent / "distributed_cases.py"
spec = importlib.util.spec_from_file_location("distributed_cases", PATH)
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="needs gloo"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    processes = [
        subprocess.Popen([sys.executable, str(PATH), str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(cases.WORLD_SIZE)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * cases.WORLD_SIZE, said
    return [torch.load(folder / f"{rank}.pt") for rank in range(cases.WORLD_SIZE)]


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.CASES)
def test_distributed_training_has_the_weights_of_the_reference(name, found):
    for of_rank in found:
        assert not isinstance(of_rank[name], str), of_rank[name]
        ours, right = of_rank[name]
        torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5)
