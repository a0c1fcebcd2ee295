"""Sweeps, through kills, failures and several workers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_rms.cli import sweep, trials
from rl_rms.cli.config import read_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.main import main
from rl_rms.cli.search import STRETCHES, read_search

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

FILE = """
config: cartpole_a2c
vary:
  agent.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  agent.half_life: {low: 2.0, high: 2000.0, log: true}
fix: {total_timesteps: 1600, env.num_envs: 4}
trials: 4
seeds: [3, 7]
"""


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    """Writes a sweep into a folder of its own, which becomes the present one."""
    monkeypatch.chdir(tmp_path)

    def write(text=FILE):
        (tmp_path / "mine.yaml").write_text(text)
        return "mine.yaml"

    return write


def rows(name="mine"):
    with Path(f"sweeps/{name}/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def study_of(search, path="study.log"):
    return trials.open_study(search, str(Path(path).absolute()))


def test_a_sweep_from_its_file_to_a_configuration_that_trains(sweep_file, capsys):
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
    # Once more with more trials: only those are added.
    assert main(["sweep", "mine.yaml", "--workers", "1", "--trials", "5"]) == 0
    assert len(rows()) == 5
    assert {row["agent.half_life"] for row in found} < {row["agent.half_life"] for row in rows()}
    # Another question is not answered by the old trials.
    sweep_file(FILE.replace("seeds: [3, 7]", "seeds: [3, 8]"))
    assert main(["sweep", "mine.yaml"]) == 2
    assert r"another seeds: [3, 7], not [3, 8]" in capsys.readouterr().err


def test_a_point_is_trained_as_train_would(sweep_file):
    search = read_search(sweep_file(), {})
    values = {"agent.learning_rate": 3e-3, "agent.half_life": 50.0}
    told = []
    config = search.run_config(values, 3)
    done = trials.train(config, "life", lambda stretch, mean: told.append((stretch, mean)))
    assert len(done["stretches"]) == STRETCHES
    assert done["score"] == pytest.approx(sum(done["stretches"]) / STRETCHES)
    assert [stretch for stretch, _ in told] == list(range(STRETCHES))
    assert told[-1][1] == pytest.approx(done["score"])
    assert done == trials.train(config, "life", lambda *_: None)
    final, worst = (trials.train(config, metric, lambda *_: None)["score"] for metric in ("final", "worst_regime"))
    assert len({done["score"], final, worst}) > 1
    with pytest.raises(ValueError, match="no episode ended in the whole training"):
        trials.train(search.run_config({"total_timesteps": 4}, 3), "life", lambda *_: None)


def trainings(journal):
    """How often each point and seed was trained to its end: as often as its score was written down."""
    params, counts = {}, {}
    number = -1
    for line in Path(journal).read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:  # a trial is made
            number += 1
            template = entry.get("params", {})
            params[number] = dict(template)
        elif entry["op_code"] == 5:  # a parameter is set
            params[entry["trial_id"]][entry["param_name"]] = entry["param_value_internal"]
        elif entry["op_code"] == 8 and next(iter(entry["user_attr"])).startswith("seed "):
            key = (tuple(sorted(params[entry["trial_id"]].items())), next(iter(entry["user_attr"])))
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_killed_and_started_again_no_trial_is_lost_or_run_twice(sweep_file):
    sweep_file(FILE.replace("1600", "12_000").replace("trials: 4", "trials: 6"))
    words = [sys.executable, "-m", "rl_rms.cli.main", "sweep", "mine.yaml"]
    journal = Path("sweeps/mine/study.log")
    for finished in (1, 4, 7):  # seeds, of all twelve
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
        while not journal.exists() or journal.read_text().count('"seed ') < finished:
            assert process.poll() is None
            time.sleep(0.02)
        if finished == 4:
            process.kill()  # its workers notice
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    found = rows()
    assert [row["state"] for row in found] == ["complete"] * 6
    counts = trainings(journal)
    assert len(counts) == 12
    assert set(counts.values()) == {1}
    search = read_search("mine.yaml", {})
    states = [trial.state for trial in study_of(search, journal).get_trials()]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states
    assert states.count(TrialState.FAIL) >= 2  # those that were taken over


def begun(search, **attributes):
    """A study with a trial that somebody has begun."""
    study = study_of(search)
    trial = study.ask()
    point = {key: one.suggest(trial, key) for key, one in search.sweep.distributions.items()}
    for key, value in attributes.items():
        trial.set_user_attr(key.replace("_", " "), value)
    return study, trial, point


def test_a_dead_workers_point_goes_to_another_with_its_finished_seeds(sweep_file):
    search = read_search(sweep_file(), {})
    done = {"score": 12.0, "stretches": [12.0] * STRETCHES}
    host = trials.me().split(":")[0]
    study, _, point = begun(search, worker=f"{host}:{os.getpid()}:0", seed_3=done)  # once had this one's number
    assert trials.reclaim(study, trials.Watch(time.monotonic)) == [0]
    assert trials.reclaim(study, trials.Watch(time.monotonic)) == []
    first, second = study.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.WAITING)
    trial = study.ask()
    assert {key: one.suggest(trial, key) for key, one in search.sweep.distributions.items()} == point
    assert trial.user_attrs["seed 3"] == done
    assert len(trials.counted(study.get_trials())) == 1
    value = trials.objective(trial, search)
    assert value == pytest.approx((12.0 + trial.user_attrs["seed 7"]["score"]) / 2)


def test_who_lives_keeps_its_trial(sweep_file):
    search = read_search(sweep_file(), {})
    study, _, _ = begun(search, worker=trials.me())
    trials.reclaim(study, trials.Watch(time.monotonic))
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING]


def test_workers_of_other_machines_are_told_by_their_pulse(sweep_file):
    search = read_search(sweep_file(), {})
    study, trial, _ = begun(search, worker="elsewhere:1:1", alive=0)
    now = [0.0]
    watch = trials.Watch(lambda: now[0])
    for seconds, pulse in ((0, 0), (trials.PATIENCE, 15), (2 * trials.PATIENCE, 30)):
        now[0] = seconds
        trial.set_user_attr("alive", pulse)
        trials.reclaim(study, watch)
        assert study.get_trials()[0].state is TrialState.RUNNING
    now[0] = 3 * trials.PATIENCE + 1
    trials.reclaim(study, watch)
    assert [one.state for one in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_one_that_died_while_it_took_a_trial_over_loses_nothing(sweep_file):
    search = read_search(sweep_file(), {})
    study, trial, point = begun(search)
    trial.set_user_attr(trials.EVICTED, True)
    study.tell(trial, state=TrialState.FAIL)
    trials.reclaim(study, trials.Watch(time.monotonic))
    assert study.get_trials()[1].state is TrialState.WAITING
    assert study.get_trials()[1].system_attrs["fixed_params"] == point


def test_a_worker_too_many_withdraws(sweep_file):
    search = read_search(sweep_file(), {"trials": 1})
    study, _, _ = begun(search, worker=trials.me())
    trials.work(search, str(Path("study.log").absolute()))
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL]
    assert len(trials.counted(study.get_trials())) == 1


def test_an_orphan_stops_working(sweep_file):
    search = read_search(sweep_file(), {})
    trials.work(search, str(Path("study.log").absolute()), parent=os.getppid() + 1)
    assert study_of(search).get_trials() == []


def test_a_training_that_fails_is_told_of_and_the_others_go_on(sweep_file, capsys):
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
    assert "1 failed, the first with ValueError: no episode ended" in capsys.readouterr().out


def test_a_training_that_meets_numbers_that_are_not_finite_fails_alone(monkeypatch):
    def diverge(*_):
        raise FloatingPointError("the reward of sub-environment 0 must be finite, got nan")

    monkeypatch.setattr(trials, "objective", diverge)
    study = optuna.create_study()
    trials._do(study, study.ask(), None)
    (trial,) = study.trials
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs[trials.ERROR] == (
        "FloatingPointError: the reward of sub-environment 0 must be finite, got nan"
    )


def test_a_grid_is_walked_through_once(sweep_file):
    text = FILE.replace("{low: 1.0e-4, high: 1.0e-2, log: true}", "[1.0e-3, 2.0e-3]").replace("trials: 4", "")
    text = text.replace("{low: 2.0, high: 2000.0, log: true}", "[20, 2_000 steps]").replace("[3, 7]", "[3]")
    assert main(["sweep", sweep_file(text + "sampler: grid"), "--workers", "2"]) == 0
    points = [(row["agent.learning_rate"], row["agent.half_life"]) for row in rows()]
    assert sorted(points) == [(rate, memory) for rate in ("0.001", "0.002") for memory in ("20", "2_000 steps")]


def test_a_worker_that_breaks_ends_the_sweep():
    class Broken:
        exitcode = 1

        def is_alive(self):
            return False

    pool = sweep._Local(None, "")
    pool._processes = [Broken()]
    with pytest.raises(RuntimeError, match="a worker of the sweep ended with an error"):
        pool.busy()
    Broken.exitcode = -9
    assert pool.busy() == 0


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
def test_workers_draw_different_points_and_the_same_again(sweep_file, sampler):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    search = read_search(sweep_file(FILE + f"sampler: {sampler}"), {})

    def draw(path):
        drawn = []
        for _ in range(4):  # each from a worker of its own
            trial = study_of(search, path).ask()
            drawn.append([one.suggest(trial, key) for key, one in search.sweep.distributions.items()])
        return drawn

    first = draw("first.log")
    assert len({tuple(point) for point in first}) == 4
    assert draw("second.log") == first


@pytest.mark.filterwarnings("ignore:(Exact p-value|Sample size)")  # of scipy before 1.13
@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband", "wilcoxon"])
def test_pruners_give_up_on_what_does_badly(sweep_file, monkeypatch, pruner):
    text = FILE.replace("seeds: [3, 7]", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]")
    search = read_search(sweep_file(text + f"pruner: {pruner}"), {"trials": 12})
    calls = []

    def train(config, metric, report):
        good = len(study_of(search).get_trials()) <= 8
        calls.append(good)
        for stretch in range(STRETCHES):
            report(stretch, 100.0 + config.seed if good else 1.0)
        return {"score": 100.0 + config.seed if good else 1.0, "stretches": []}

    monkeypatch.setattr(trials, "train", train)
    trials.work(search, str(Path("study.log").absolute()))
    states = [trial.state for trial in trials.counted(study_of(search).get_trials())]
    assert len(states) == 12
    assert TrialState.PRUNED in states[8:]
    assert states[0] is TrialState.COMPLETE
    assert calls.count(False) < 4 * 8  # of the four bad points not every seed was trained


def test_a_sampler_that_needs_another_package_names_the_extra(sweep_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    search = read_search(sweep_file(FILE + "sampler: cmaes"), {})
    with pytest.raises(
        UserError, match=r"cmaes needs the package cmaes; install it with pip install 'rl_rms\[sweep\]'"
    ):
        study_of(search)


def test_ray_is_asked_for_by_name(sweep_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", sweep_file(), "--engine", "ray"]) == 2
    assert (
        "--engine ray needs Ray, which is not installed; install it with pip install 'rl_rms[ray]'"
        in capsys.readouterr().err
    )


def test_workers_that_are_tasks_of_ray(sweep_file, tmp_path):
    pytest.importorskip("ray")
    words = [sys.executable, "-m", "rl_rms.cli.main", "sweep", sweep_file(), "--engine", "ray"]
    home = {**os.environ, "HOME": str(tmp_path)}  # where Ray keeps its token
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows()] == ["complete"] * 4


def test_without_optuna(sweep_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", sweep_file()]) == 2
    assert "sweeps need Optuna, which is not installed; install it with pip install 'rl_rms[sweep]'" in (
        capsys.readouterr().err
    )


def test_a_storage_that_cannot_be_opened(sweep_file, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot open the sweep's storage .*taken/study.log: "):
        study_of(read_search(sweep_file(), {}), tmp_path / "taken" / "study.log")


@pytest.mark.parametrize("workers", ["0", "-2"])
def test_no_workers(sweep_file, capsys, workers):
    assert main(["sweep", sweep_file(), "--workers", workers]) == 2
    assert f"--workers must be >= 1, got {workers}" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_open_study_of_a_journal_with_a_torn_last_line_uses_the_others(sweep_file, capsys, cut):
    search = read_search(sweep_file(), {})
    study = study_of(search)
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    journal = Path("study.log")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    again = study_of(search)
    assert len(again.trials) == 3
    assert [trial.state for trial in again.trials[:2]] == [TrialState.COMPLETE] * 2
    again.tell(again.ask(), 2.0)
    assert len(study_of(search).trials) == 4
    last = whole.splitlines(keepends=True)[-1]
    assert Path("study.log.torn").read_bytes() == last[:-cut]
    assert "study.log.torn" in capsys.readouterr().err


def test_open_study_of_a_damaged_journal_names_it(sweep_file, capsys):
    search = read_search(sweep_file(), {})
    study_of(search)
    journal = Path("study.log")
    journal.write_bytes(journal.read_bytes().replace(b"{", b"\0", 1))
    with pytest.raises(UserError, match=r"the sweep's storage .*study.log is damaged: .*; put back a copy"):
        study_of(search)
    Path("no.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(UserError, match=r"the sweep's storage sqlite:///no.db is damaged"):
        trials.open_study(search, "sqlite:///no.db")


def test_open_study_of_a_linked_journal_is_refused(sweep_file, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "study.log").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="--storage .*study.log is a link, which is not followed; give the file"):
        trials.open_study(read_search(sweep_file(), {}), str(tmp_path / "study.log"))
    assert (tmp_path / "victim").read_text() == "precious"
