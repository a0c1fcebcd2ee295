import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl_rms.cli import sweep, trials
from rl_rms.cli.config import read_config
from rl_rms.cli.main import main
from rl_rms.cli.search import STRETCHES, read_search

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from tests.cli.sweeps import SWEEP, study_of  # noqa: E402
from tests.naming import mentions, naming  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),
    pytest.mark.filterwarnings("ignore:RetryHeartbeatStaleTrialCallback is experimental"),
]


def rows(name="mine"):
    with Path(f"sweeps/{name}/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_sweep_writes_a_best_configuration_that_trains(sweep_file, capsys):
    assert main(["sweep", sweep_file(), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    found = rows()
    assert [row["state"] for row in found] == ["complete"] * 4
    assert len({row["agent.learning_rate"] for row in found}) == 4
    values = [float(row["value"]) for row in found]
    assert values == sorted(values, reverse=True)
    for row in found:
        assert float(row["value"]) == pytest.approx((float(row["seed 3"]) + float(row["seed 7"])) / 2)
    assert "best         rl-rms train sweeps/mine/best.yaml" in printed
    assert "[4/4] trial" in printed
    best = read_config("sweeps/mine/best.yaml")
    assert best.agent.learning_rate == float(found[0]["agent.learning_rate"])
    assert best.total_timesteps == 1600
    for name in ("history", "slices", "contour", "importances"):
        assert Path(f"sweeps/mine/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["sweep", "mine.yaml", "--workers", "1", "--trials", "5"]) == 0
    assert len(rows()) == 5
    assert {row["agent.half_life"] for row in found} < {row["agent.half_life"] for row in rows()}
    sweep_file(SWEEP.replace("seeds: [3, 7]", "seeds: [3, 8]"))
    assert main(["sweep", "mine.yaml"]) == 2
    assert "seeds is [3, 7], not [3, 8]" in capsys.readouterr().err


def test_sweep_trial_equals_train(sweep_file):
    search = read_search(sweep_file(), {})
    values = {"agent.learning_rate": 3e-3, "agent.half_life": 50.0}
    means = []
    config = search.run_config(values, 3)
    done = trials.train(config, "whole_run", lambda stretch, mean: means.append((stretch, mean)))
    assert len(done["stretches"]) == STRETCHES
    assert done["score"] == pytest.approx(sum(done["stretches"]) / STRETCHES)
    assert [stretch for stretch, _ in means] == list(range(STRETCHES))
    assert means[-1][1] == pytest.approx(done["score"])
    assert done == trials.train(config, "whole_run", lambda *_: None)
    final, worst = (trials.train(config, metric, lambda *_: None)["score"] for metric in ("final", "worst_regime"))
    assert len({done["score"], final, worst}) > 1
    with pytest.raises(ValueError, match=naming("episode")):
        trials.train(search.run_config({"total_timesteps": 4}, 3), "whole_run", lambda *_: None)


FAST = """
import sys
from rl_rms.cli import trials
trials.HEARTBEAT, trials.GRACE = 1, 12  # in the workers too, which import this file
if __name__ == "__main__":
    from rl_rms.cli.main import main
    sys.exit(main(["sweep", "mine.yaml"]))
"""


def trainings(study):
    """Count the training runs of each combination of values and seed.

    A retried trial takes over the scores of the failed trial. These scores do not count again.
    """
    counts = {}
    found = study.get_trials(deepcopy=False)
    for trial in found:
        retried = trial.system_attrs.get("retry_history", [])
        earlier = set(found[retried[-1]].user_attrs) if retried else set()
        for key in {key for key in trial.user_attrs if key.startswith("seed ")} - earlier:
            point = (tuple(sorted(trial.params.items())), key)
            counts[point] = counts.get(point, 0) + 1
    return counts


@pytest.mark.slow
def test_sweep_killed_three_times_loses_no_trial_and_trains_no_seed_twice(sweep_file):
    search = read_search(sweep_file(SWEEP.replace("1600", "12_000").replace("trials: 4", "trials: 6")), {})
    Path("fast.py").write_text(FAST)
    words = [sys.executable, "fast.py"]
    storage = "sweeps/mine/study.db"
    study = study_of(search, storage)
    for finished in (1, 4, 7):  # finished training runs, of twelve
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
        while len(trainings(study)) < finished:
            assert process.poll() is None
            time.sleep(0.05)
        if finished == 4:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows()] == ["complete"] * 6
    counts = trainings(study)
    assert len(counts) == 12
    assert set(counts.values()) == {1}
    states = [trial.state for trial in study.get_trials()]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states
    assert states.count(TrialState.FAIL) >= 2  # the retried trials


def test_sweep_failed_training_is_reported_and_the_others_continue(sweep_file, capsys):
    text = """
config: cartpole_a2c
vary: {total_timesteps: [4, 1600]}
fix: {env.num_envs: 4}
sampler: grid
seeds: [0]
"""
    assert main(["sweep", sweep_file(text), "--workers", "1"]) == 0
    by_steps = {row["total_timesteps"]: row for row in rows()}
    assert (by_steps["1600"]["state"], by_steps["4"]["state"]) == ("complete", "fail")
    assert mentions(capsys.readouterr().out, "failed trials: 1", "ValueError")


@pytest.mark.slow
def test_sweep_grid_trains_every_combination_once(sweep_file):
    text = SWEEP.replace("{low: 1.0e-4, high: 1.0e-2, log: true}", "[1.0e-3, 2.0e-3]").replace("trials: 4", "")
    text = text.replace("{low: 2.0, high: 2000.0, log: true}", "[20, 2_000 steps]").replace("[3, 7]", "[3]")
    assert main(["sweep", sweep_file(text + "sampler: grid"), "--workers", "2"]) == 0
    points = [(row["agent.learning_rate"], row["agent.half_life"]) for row in rows()]
    assert sorted(points) == [
        (rate, half_life) for rate in ("0.001", "0.002") for half_life in ("20", "2_000 steps")
    ]


def test_sweep_broken_worker_ends_the_sweep(monkeypatch):
    class Broken:
        exitcode = 1

        def __init__(self, **options):
            pass

        def start(self):
            pass

        def is_alive(self):
            return False

    monkeypatch.setattr("multiprocessing.get_context", lambda _: SimpleNamespace(Process=Broken))
    workers = sweep.LocalWorkers(None, "")
    workers.keep(1)
    with pytest.raises(RuntimeError, match=naming("worker")):
        workers.busy()
    Broken.exitcode = -9
    assert workers.busy() == 0


def test_sweep_engine_ray_without_ray_names_the_extra(sweep_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", sweep_file(), "--engine", "ray"]) == 2
    assert mentions(capsys.readouterr().err, "--engine ray", "pip install 'rl_rms[ray]'")


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_sweep_on_ray_trains_all_trials(sweep_file, tmp_path):
    pytest.importorskip("ray")
    words = [sys.executable, "-m", "rl_rms.cli.main", "sweep", sweep_file(), "--engine", "ray"]
    home = {**os.environ, "HOME": str(tmp_path)}  # Ray keeps its token there
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows()] == ["complete"] * 4


def test_sweep_without_optuna_names_the_extra(sweep_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", sweep_file()]) == 2
    assert mentions(capsys.readouterr().err, "Optuna", "pip install 'rl_rms[sweep]'")


@pytest.mark.parametrize("workers", ["0", "-2"])
def test_sweep_of_zero_workers_raises(sweep_file, capsys, workers):
    assert main(["sweep", sweep_file(), "--workers", workers]) == 2
    assert mentions(capsys.readouterr().err, "--workers", "1", f"{workers}")
