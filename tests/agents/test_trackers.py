import csv
import sys
from types import SimpleNamespace

import pytest

from rl_rms.agents import A2C, MLflowCallback, WandbCallback
from rl_rms.agents.metrics import STEP


def train(callback, folder):
    """Train with a callback, and return the entries of the log."""
    A2C("CartPole-v1", seed=0).learn(400, callback, log_dir=folder)
    with (folder / "metrics.csv").open() as file:
        return [{tag: float(cell) for tag, cell in row.items() if cell} for row in csv.DictReader(file)]


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_trackers_get_each_entry_of_the_log(tracker, tmp_path, monkeypatch):
    calls = []

    def record(name):
        return lambda *args, **options: calls.append((name, *args, options))

    names = ("start_run", "log_params", "log_metrics", "end_run", "log", "finish")
    fake = SimpleNamespace(**{name: record(name) for name in names})
    fake.init = lambda **options: calls.append(("init", options)) or fake
    monkeypatch.setitem(sys.modules, tracker, fake)
    callback = WandbCallback(project="drift") if tracker == "wandb" else MLflowCallback(run_name="drift")
    written = train(callback, tmp_path)
    first, *parameters = calls[: 1 if tracker == "wandb" else 2]
    assert first[-1].items() >= ({"project": "drift"} if tracker == "wandb" else {"run_name": "drift"}).items()
    settings = first[-1]["config"] if tracker == "wandb" else parameters[0][1]
    assert settings["algorithm"] == "a2c"
    entries = [call[1:] for call in calls if call[0] in ("log", "log_metrics")]
    assert [{STEP: options["step"], **scalars} for scalars, options in entries] == written
    assert len(entries) > 3
    assert calls[-1][0] == ("finish" if tracker == "wandb" else "end_run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of the package
def test_mlflow_file_store_has_each_entry_of_the_log(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    written = train(MLflowCallback(run_name="drift"), tmp_path)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "drift"
    assert run.info.status == "FINISHED"
    assert run.data.params["algorithm"] == "a2c"
    stored = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "train/n_updates")}
    assert stored == {int(row[STEP]): row["train/n_updates"] for row in written}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of the package
def test_wandb_offline_run_has_the_entries_of_the_log(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    summary = {}
    callback = WandbCallback(project="drift", dir=tmp_path)
    written = train([callback, lambda agent: summary.update(wandb.run.summary)], tmp_path)
    (stored,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert stored.stat().st_size > 1_000
    assert summary["train/n_updates"] in [row["train/n_updates"] for row in written]
