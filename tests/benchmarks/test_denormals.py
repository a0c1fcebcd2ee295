import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "benchmarks" / "denormals.py"


@pytest.mark.parametrize(("name", "are_denormal"), [("rl_rms.RMSprop", False), ("torch.optim.RMSprop", True)])
def test_timed_cases_have_subnormal_numbers(benchmark, name, are_denormal):
    optimizer = benchmark.trained(benchmark.MAKERS[name], dies=True)
    (param,) = optimizer.param_groups[0]["params"]
    moment = optimizer.state[param]["square_avg"]
    assert bool(((moment > 0) & (moment < torch.finfo(torch.float32).tiny)).all()) is are_denormal
    active = benchmark.trained(benchmark.MAKERS[name], dies=False)
    assert active.state[active.param_groups[0]["params"][0]]["square_avg"].min() > torch.finfo(torch.float32).tiny


def test_gradients_can_be_computed_repeatedly(benchmark):
    write = benchmark.writing(92.0)
    assert benchmark.seconds(write) > 0.0


def test_main_writes_a_row_for_every_pair(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    output = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["denormals", "--rounds", "2", "--output", str(output)])
    benchmark.main()
    rows = [line for line in output.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(benchmark.MAKERS) + 1
    assert all(any(name in row for row in rows) for name in benchmark.MAKERS)
