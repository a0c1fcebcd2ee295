import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
PATH = Path(__file__).parents[2] / "benchmarks" / "lifelong.py"
TINY = 2_560


@pytest.mark.parametrize("contender", ["SB3 A2C, VecNormalize", "rl_rms A2C, normalized"])
def test_train_on_every_task_scores_every_bin_in_both_libraries(benchmark, contender):
    has_minigrid = find_spec("minigrid") is not None
    for name, task in benchmark.TASKS.items():
        if name.startswith("minigrid") and not has_minigrid:
            continue
        scores = benchmark.train(name, contender, 1e-3, seed=0, life=2 * task.life // benchmark.NUM_BINS)
        assert len(scores) == 2
        assert all(0.0 <= score <= 2_000.0 for score in scores), name


def test_train_as_every_contender_gives_a_length_of_cart_pole(benchmark):
    for contender in benchmark.CONTENDERS:
        (score,) = benchmark.train("dynamics jumps", contender, 1e-3, seed=0, life=TINY)
        assert 8.0 <= score <= 500.0, contender


@pytest.mark.parametrize("contender", ["SB3 A2C", "SB3 PPO, TRAC", "rl_rms A2C, normalized"])
def test_train_with_the_same_seed_gives_the_same_scores(benchmark, contender):
    first, again, other = (
        benchmark.train("dynamics jumps", contender, 1e-3, seed=seed, life=TINY) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_train_with_vec_normalize_scores_the_environments_own_rewards(benchmark, monkeypatch):
    task = dataclasses.replace(benchmark.TASKS["pendulum, stationary"], score=lambda one: -one.ret / one.length)
    monkeypatch.setitem(benchmark.TASKS, "pendulum, stationary", task)
    (score,) = benchmark.train("pendulum, stationary", "SB3 A2C, VecNormalize", 1e-3, seed=0, life=3_200)
    assert 2.0 < score < 16.3


@pytest.mark.parametrize(
    ("contender", "expected"), [("SB3 A2C", {"ent_coef": 0.05, "gamma": 0.99}), ("SB3 A2C, defaults", {})]
)
def test_train_gives_the_tasks_entropy_coefficient_to_tuned_contenders_only(
    benchmark, monkeypatch, contender, expected
):
    given = {}

    class Model:
        def __init__(self, policy, env, **options):
            given.update(options)

        def learn(self, life, callback):
            pass

    monkeypatch.setattr("stable_baselines3.A2C", Model)
    benchmark.train("action flips", contender, 1e-3, seed=7)
    assert given == {"learning_rate": 1e-3, "seed": 7, "device": "cpu", **expected}


@pytest.mark.parametrize("name", ["dynamics jumps", "observation offsets", "pendulum, drift", "slow drift"])
def test_tasks_in_both_libraries_have_the_same_drift(benchmark, name):
    from rl_rms.envs import make_vec
    from rl_rms.sb3 import make_vec_env

    task = benchmark.TASKS[name]
    ours = make_vec(task.id, 2, task.changes, seed=3)
    theirs = make_vec_env(task.id, 2, task.changes, seed=3)
    for regime in range(benchmark.REGIMES):
        options = {"rl_rms.clock": regime * task.regime + 10}
        ours.reset(options=options)
        theirs.set_options(options)
        theirs.reset()
        assert theirs.get_attr("parameters")[0] == ours.parameters


def replace_training(benchmark, monkeypatch, tmp_path, best=2.1e-3):
    """Replace training by a score that falls with the distance from the best rate. rl_rms gets twice the score."""
    calls = []

    def train(task, contender, rate, seed):
        calls.append((contender, rate, seed))
        far = abs(float(np.log(rate / best)))
        return [(2.0 if contender in benchmark.OURS else 1.0) * (100.0 + seed % 10 - 10.0 * far)] * 40

    monkeypatch.setattr(benchmark, "train", train)
    for name, file in (
        ("RUNS", "runs.jsonl"),
        ("TABLE", "table.md"),
        ("FIGURE", "figure.png"),
        ("README_FIGURE", "readme.png"),
    ):
        monkeypatch.setattr(benchmark, name, tmp_path / file)
    return calls


def test_duel_of_a_tuned_contender_trains_ten_other_seeds_at_the_best_rate(benchmark, monkeypatch, tmp_path):
    calls = replace_training(benchmark, monkeypatch, tmp_path)
    benchmark.duel("stationary", "SB3 A2C")
    reported = [(rate, seed) for _, rate, seed in calls if seed in benchmark.SEEDS]
    assert reported == [(2.1e-3, seed) for seed in benchmark.SEEDS]
    assert {seed for _, _, seed in calls} == {*benchmark.SEEDS, *benchmark.SWEEP_SEEDS}
    benchmark.duel("stationary", "SB3 A2C")
    assert len(calls) == 19


def test_duel_of_a_contender_at_defaults_has_one_rate(benchmark, monkeypatch, tmp_path):
    calls = replace_training(benchmark, monkeypatch, tmp_path)
    benchmark.duel("stationary", "SB3 PPO, defaults")
    assert calls == [("SB3 PPO, defaults", 3e-4, seed) for seed in benchmark.SEEDS]


def test_ordered_puts_the_first_tasks_by_contender_and_the_others_by_task(benchmark):
    tasks, contenders = ["stationary", "curriculum", "action flips"], ["rl_rms A2C, normalized", "SB3 A2C"]
    assert benchmark.ordered(tasks, contenders) == [
        ("action flips", "rl_rms A2C, normalized"),
        ("stationary", "rl_rms A2C, normalized"),
        ("action flips", "SB3 A2C"),
        ("stationary", "SB3 A2C"),
        ("curriculum", "rl_rms A2C, normalized"),
        ("curriculum", "SB3 A2C"),
    ]


def test_report_with_all_contenders_of_sb3_has_ratios_to_their_best(benchmark, monkeypatch, tmp_path, capsys):
    pytest.importorskip("rliable")
    replace_training(benchmark, monkeypatch, tmp_path)
    for contender in (*benchmark.THEIRS, "rl_rms A2C, normalized"):
        benchmark.duel("stationary", contender)
    benchmark.duel("curriculum", "rl_rms A2C, normalized")
    benchmark.report()
    table = (tmp_path / "table.md").read_text()
    ratios = table[table.index("ratio to the best") :]
    assert "- stationary: SB3 A2C\n" in ratios
    assert "| agent | stationary | all |" in ratios
    assert "| rl_rms A2C, normalized | **1.99 (1.99 to 1.99)** | **1.99 (1.99 to 1.99)** |" in ratios
    assert "| rl_rms A2C, normalized | **" in table[: table.index("ratio to the best")]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_report_names_missing_contenders_of_sb3(benchmark, monkeypatch, tmp_path, capsys):
    pytest.importorskip("rliable")
    replace_training(benchmark, monkeypatch, tmp_path)
    for contender in benchmark.THEIRS:
        if contender not in ("SB3 PPO, TRAC", "SB3 PPO, defaults"):
            benchmark.duel("stationary", contender)
    benchmark.report()
    table = (tmp_path / "table.md").read_text()
    assert "- stationary: SB3 A2C (not yet trained: SB3 PPO, defaults; SB3 PPO, TRAC)\n" in table


def test_report_without_tuned_sb3_agents_with_normalizers_has_no_reference(
    benchmark, monkeypatch, tmp_path, capsys
):
    pytest.importorskip("rliable")
    replace_training(benchmark, monkeypatch, tmp_path)
    for contender in ("rl_rms PPO, normalized", "SB3 A2C, VecNormalize"):
        benchmark.duel("stationary", contender)
    benchmark.report()
    table = (tmp_path / "table.md").read_text()
    assert "ratio" not in table
    assert "| rl_rms PPO, normalized | **" in table
    assert not (tmp_path / "figure.png").exists()
