from pathlib import Path

import pytest
import torch

from tests.naming import naming

PATH = Path(__file__).parents[2] / "benchmarks" / "memory.py"


def test_env_steps_to_halve_interpolates_exponentially(benchmark):
    # A decay from 1 to 1/4 in 20 env steps halves in 10 env steps. Linear interpolation would give 13.3 env steps.
    assert benchmark.env_steps_to_halve([100, 120], [1.0, 0.25]) == pytest.approx(10.0)
    assert benchmark.env_steps_to_halve([7, 10, 14], [8.0, 5.0, 4.0]) == pytest.approx(7.0)


def test_env_steps_to_halve_of_a_value_that_has_not_halved_raises(benchmark):
    with pytest.raises(ValueError, match=naming("values", "0.5", "0.75")):
        benchmark.env_steps_to_halve([0, 5], [1.0, 0.75])


def test_marker_reads_the_decay_of_the_optimizer_of_torch(benchmark):
    weight = torch.nn.Parameter(torch.zeros(2, 5))
    optimizer = torch.optim.RMSprop([weight], alpha=0.9)
    marker = benchmark.Marker(optimizer, weight)
    clocks = []
    while not marker.has_halved:
        weight.grad = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).expand(2, 5).clone()
        optimizer.step()
        marker.after_update()
        clocks.append(10.0 * marker.num_updates)
    # 0.9 ** 6 is 0.53 and 0.9 ** 7 is 0.48. The half-life is ln 2 / -ln 0.9 = 6.5788 updates of 10 env steps.
    assert marker.num_updates == benchmark.MARK_AT + 7
    assert marker.half_life(clocks) == pytest.approx(65.788, rel=1e-4)


@pytest.mark.parametrize("algorithm", ["SB3 A2C", "rl_rms A2C"])
def test_half_life_of_rho_grows_with_num_envs_but_half_life_in_steps_does_not(benchmark, algorithm, monkeypatch):
    monkeypatch.setattr(benchmark, "HALF_LIFE", 1000)
    few, many = (benchmark.Case(algorithm, num_envs) for num_envs in (4, 8))
    # -ln 2 / ln 0.99 is 68.97 updates of 5 steps in each environment. Resets do not count as env steps.
    assert benchmark.measure(few, "rho") == pytest.approx(68.97 * 20, rel=0.06)
    assert benchmark.measure(many, "rho") == pytest.approx(68.97 * 40, rel=0.06)
    for case in (few, many):
        assert benchmark.measure(case, "half_life") == pytest.approx(1000, rel=1e-3)


def test_updates_of_one_rollout_share_its_env_steps(benchmark, monkeypatch):
    # Each rollout of 128 env steps has 2 epochs of 4 minibatches, so an update spans 16 env steps.
    monkeypatch.setitem(benchmark.PPO, "small", {"n_steps": 128, "batch_size": 32, "n_epochs": 2})
    assert benchmark.measure_sb3(benchmark.Case("small", 1), "rho", 0) == pytest.approx(1103.5, rel=1e-3)


def test_table_has_a_row_for_every_run(benchmark):
    row = {"algorithm": "x", "num_envs": 4, "memory_in_env_steps": {"rho": 1379.4, "half_life": 4000.0}}
    assert benchmark.table([row]).splitlines()[-1] == "| x | 4 | 1,379 | 4,000 |"


def test_draw_writes_a_figure(benchmark, tmp_path):
    row = {"algorithm": "x", "num_envs": 1, "memory_in_env_steps": {"rho": 345.0, "half_life": 4000.0}}
    benchmark.draw([row, {**row, "num_envs": 16}], tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 5000
