import os
from pathlib import Path

import pytest

from rl_rms.cli import trials
from rl_rms.cli.errors import UserError
from rl_rms.cli.search import STRETCHES, read_search

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from tests.cli.sweeps import SWEEP, study_of  # noqa: E402
from tests.naming import naming  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),
    pytest.mark.filterwarnings("ignore:RetryHeartbeatStaleTrialCallback is experimental"),
]


def begun(search, **attributes):
    """A study with a trial that has begun."""
    study = study_of(search)
    trial = study.ask()
    point = {key: one.suggest(trial, key) for key, one in search.sweep.distributions.items()}
    for key, value in attributes.items():
        trial.set_user_attr(key.replace("_", " "), value)
    return study, trial, point


def test_retry_stale_of_a_dead_workers_trial_keeps_its_point_and_finished_seeds(sweep_file, monkeypatch):
    search = read_search(sweep_file(), {})
    done = {"score": 12.0, "stretches": [12.0] * STRETCHES}
    study, _, point = begun(search, seed_3=done)  # the worker died before its first heartbeat
    trials.retry_stale(study)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING]
    monkeypatch.setattr(trials, "GRACE", -1)
    trials.retry_stale(study)
    first, second = study.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.WAITING)
    trial = study.ask()
    assert {key: one.suggest(trial, key) for key, one in search.sweep.distributions.items()} == point
    assert trial.user_attrs["seed 3"] == done
    assert len(trials.counted(study.get_trials())) == 1
    value = trials.objective(trial, search)
    assert value == pytest.approx((12.0 + trial.user_attrs["seed 7"]["score"]) / 2)


def test_work_on_two_retries_of_one_trial_trains_one(sweep_file, monkeypatch):
    monkeypatch.setattr(trials, "train", lambda *_: {"score": 1.0, "stretches": []})
    search = read_search(sweep_file(), {"trials": 1})
    study, trial, _ = begun(search)
    study.tell(trial, state=TrialState.FAIL)
    for _ in range(2):
        optuna.storages.RetryHeartbeatStaleTrialCallback()(study, study.get_trials()[0])
    trials.work(search, str(Path("study.db").absolute()))
    assert [one.state for one in study.get_trials()].count(TrialState.COMPLETE) == 1


def test_retry_stale_ignores_the_trial_of_a_living_worker(sweep_file, monkeypatch):
    search = read_search(sweep_file(), {})
    study, *_ = begun(search, begun=0)
    monkeypatch.setattr(trials, "GRACE", -1)
    trials.retry_stale(study)
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING]


def test_work_with_enough_other_workers_trains_nothing(sweep_file):
    search = read_search(sweep_file(), {"trials": 1})
    study, _, _ = begun(search)
    trials.work(search, str(Path("study.db").absolute()))
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL]
    assert len(trials.counted(study.get_trials())) == 1


def test_sweep_worker_without_its_parent_stops(sweep_file):
    search = read_search(sweep_file(), {})
    trials.work(search, str(Path("study.db").absolute()), parent=os.getppid() + 1)
    assert study_of(search).get_trials() == []


def test_work_nonfinite_training_fails_only_its_trial(sweep_file, monkeypatch):
    def diverge(*_):
        raise FloatingPointError("the reward of sub-environment 0 must be finite, got nan")

    monkeypatch.setattr(trials, "train", diverge)
    search = read_search(sweep_file(), {"trials": 1})
    trials.work(search, str(Path("study.db").absolute()))
    (trial,) = trials.counted(study_of(search).trials)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs[trials.ERROR] == (
        "FloatingPointError: the reward of sub-environment 0 must be finite, got nan"
    )


def test_sweep_storage_that_cannot_be_opened_names_it(sweep_file, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=naming("storage", "taken/study.db")):
        study_of(read_search(sweep_file(), {}), tmp_path / "taken" / "study.db")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("seeds: [3, 7]", "seeds: [3]", ["seeds", "[3, 7]"]),
        ("config: cartpole_a2c", "config: base.yaml", ["config", "'base.yaml'"]),
        ("n_steps: 8", "n_steps: 4", ["agent.n_steps", "8", "4"]),
        ("n_steps: 8", "gamma: 0.9", ["agent.gamma", "'not set'", "0.9"]),
    ],
)
def test_open_study_of_another_sweep_names_the_difference(sweep_file, tmp_path, old, new, named):
    base = "agent: {n_steps: 8}\ntotal_timesteps: 100\n"
    text = SWEEP if "cartpole" in old else SWEEP.replace("config: cartpole_a2c", "config: base.yaml")
    (tmp_path / "base.yaml").write_text(base)
    study_of(read_search(sweep_file(text), {}))
    study_of(read_search(sweep_file(text), {"trials": 9}))
    (tmp_path / "base.yaml").write_text(base + "progress: none\n")  # has no effect on the training
    study_of(read_search(sweep_file(text), {}))
    (tmp_path / "base.yaml").write_text(base.replace(old, new))
    with pytest.raises(UserError, match=naming("mine", *named)):
        study_of(read_search(sweep_file(text.replace(old, new)), {}))


def test_open_study_of_an_earlier_version_continues(sweep_file):
    search = read_search(sweep_file(), {})
    study = study_of(search)
    study.set_user_attr("sweep", {key: one for key, one in search.question().items() if key != "values"})
    study_of(search)


def test_open_study_of_a_damaged_storage_names_it(sweep_file):
    search = read_search(sweep_file(), {})
    Path("study.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(UserError, match=naming("storage", "study.db", "damaged", "copy")):
        study_of(search)
    with pytest.raises(UserError, match=naming("storage", "sqlite:///study.db", "damaged")):
        trials.open_study(search, "sqlite:///study.db")


def test_open_study_with_a_linked_storage_raises(sweep_file, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "study.db").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=naming("--storage", "link")):
        trials.open_study(read_search(sweep_file(), {}), str(tmp_path / "study.db"))
    assert (tmp_path / "victim").read_text() == "precious"
