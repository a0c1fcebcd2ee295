import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "agents.py"


@pytest.mark.parametrize("name", ["CartPole, 1", "CartPole, 64 native", "Pendulum, 16 sync", "Pixels, 8 sync"])
def test_compare_measures_every_contender_in_every_round(benchmark, name):
    case = benchmark.CASES[name]._replace(steps=40 * benchmark.CASES[name].num_envs)
    measured = benchmark.compare(case, rounds=2)
    assert {key: len(values) for key, values in measured.items()} == {"rl_rms": 2, "sb3": 2, "random": 2}
    assert all(value > 0 for values in measured.values() for value in values)
    row = benchmark.table({name: measured}).splitlines()[-1]
    assert row.startswith(f"| {name} | ")
    assert f"| {case.goal:g} |" in row


def test_contenders_have_the_same_network(benchmark):
    case = benchmark.CASES["CartPole, 1"]
    ours = benchmark.A2C(benchmark.our_env(case), n_steps=benchmark.N_STEPS)
    theirs = benchmark.stable_baselines3.A2C("MlpPolicy", benchmark.their_env(case), device="cpu")
    shapes = [sorted(tuple(param.shape) for param in one.policy.parameters()) for one in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert ours.config.n_steps == theirs.n_steps


def test_growth_of_memory_is_small(benchmark):
    assert benchmark.growth(60_000) < 8.0  # megabytes


def test_table_of_the_committed_measurements_is_in_the_documentation(benchmark):
    measured = json.loads((PATH.parent / "results" / "agents.json").read_text())["env_steps_per_second"]
    assert measured.keys() == benchmark.CASES.keys()
    assert benchmark.table(measured) in (PATH.parents[1] / "docs" / "agents.md").read_text()


@pytest.mark.parametrize("id", ["Acrobot-v1", "Hopper-v5"])
def test_native_measures_both_environments_in_every_round(benchmark, tmp_path, monkeypatch, id):
    if id == "Hopper-v5":
        pytest.importorskip("mujoco")
    monkeypatch.setattr(benchmark, "NATIVE", {(id, 16): 2.0})
    benchmark.measure_native(rounds=2, updates=1, output=tmp_path / "native.json")
    measured = json.loads((tmp_path / "native.json").read_text())["env_steps_per_second"]
    assert measured.keys() == {f"{id}, 16"}
    of_mujoco = (
        {"engine limit", "native, two threads, wall time", "sync, wall time"} if id == "Hopper-v5" else set()
    )
    assert measured[f"{id}, 16"].keys() == {"native", "sync"} | of_mujoco
    assert all(len(values) == 2 and min(values) > 0 for values in measured[f"{id}, 16"].values())
    assert benchmark.native_table(measured) in (tmp_path / "native.md").read_text()


def test_engine_limit_subtracts_the_time_of_env_steps_outside_mujoco(benchmark, monkeypatch):
    mujoco = pytest.importorskip("mujoco")
    now, env = [0.0], benchmark.make_vec("Hopper-v5", 2, vectorization_mode="native", num_threads=1)
    env.reset(seed=0)

    def delayed(function, seconds):
        def call(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        return call

    def train(env, clock):
        def measure():
            began = clock()
            env.step(env.action_space.sample())
            now[0] += 100.0  # the time of the agent
            return clock() - began

        return measure

    monkeypatch.setattr(benchmark.time, "process_time", lambda: now[0])
    monkeypatch.setattr(mujoco, "mj_step", delayed(mujoco.mj_step, 1.0))
    monkeypatch.setattr(env, "step", delayed(env.step, 10.0))
    assert benchmark.engine_limit(env, train)() == pytest.approx(100.0 + 2 * 1.0)


def test_native_row_has_the_median_ratios_within_rounds(benchmark):
    measured = {"native": [40.0, 10.0, 60.0], "sync": [10.0, 5.0, 20.0]}
    row = benchmark.native_row("Acrobot-v1", 16, measured)
    assert row == "| Acrobot-v1 | 16 | 40 | 10 | 3.00 (2.50 to 3.50) | 2 |  |  |"
    measured |= {"engine limit": [50.0, 20.0, 100.0], "sync, wall time": [4.0, 2.0, 1.0]}
    measured["native, two threads, wall time"] = [8.0, 2.0, 3.0]
    row = benchmark.native_row("Hopper-v5", 16, measured)
    assert row.endswith("| 3.00 (2.50 to 3.50) | 1.8 | 5.00 (4.50 to 5.00) | 2.00 (1.50 to 2.50) |")


def test_native_table_of_the_committed_measurements_is_in_the_documentation(benchmark):
    measured = json.loads((PATH.parent / "results" / "native.json").read_text())["env_steps_per_second"]
    assert list(measured) == [f"{id}, {num_envs}" for id, num_envs in benchmark.NATIVE]
    assert benchmark.native_table(measured) in (PATH.parents[1] / "docs" / "environments.md").read_text()


def test_bookkeeping_compares_updates_with_equal_weights(benchmark, tmp_path, monkeypatch):
    cases = {
        name: benchmark.CASES[name]._replace(steps=40 * benchmark.CASES[name].num_envs) for name in benchmark.CASES
    }
    monkeypatch.setattr(benchmark, "CASES", cases)
    benchmark.measure_bookkeeping(rounds=2, output=tmp_path / "bookkeeping.json")
    measured = json.loads((tmp_path / "bookkeeping.json").read_text())["cpu_seconds_per_update"]
    assert measured.keys() == benchmark.BOOKKEEPING.keys()
    for times in measured.values():
        assert {name: len(seconds) for name, seconds in times.items()} == {"learn": 2, "by hand": 2}
    assert benchmark.bookkeeping_table(measured) in (tmp_path / "bookkeeping.md").read_text()


def test_bookkeeping_raises_if_the_weights_differ(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "by_hand", lambda agent: lambda: None)
    with pytest.raises(RuntimeError, match="weights differ"):
        benchmark.compare_bookkeeping(benchmark.CASES["CartPole, 1"]._replace(steps=40), rounds=1)


def test_bookkeeping_table_has_the_median_share_within_rounds(benchmark):
    measured = {"learn": [2e-4, 4e-4, 1e-4], "by hand": [1.5e-4, 3.8e-4, 0.9e-4]}
    row = benchmark.bookkeeping_table({"CartPole, 1": measured}).splitlines()[-1]
    assert row == "| CartPole, 1 | 200 | 150 | 10.0 % (7.5 to 17.5) | 12 % |"


def test_bookkeeping_table_of_the_committed_measurements_is_in_the_documentation(benchmark):
    measured = json.loads((PATH.parent / "results" / "bookkeeping.json").read_text())["cpu_seconds_per_update"]
    assert measured.keys() == benchmark.BOOKKEEPING.keys()
    assert benchmark.bookkeeping_table(measured) in (PATH.parents[1] / "docs" / "agents.md").read_text()
