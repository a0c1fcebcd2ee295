from pathlib import Path

import pytest

from rl_rms.cli import trials
from rl_rms.cli.search import STRETCHES, read_search

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from tests.cli.sweeps import SWEEP, study_of  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),
    pytest.mark.filterwarnings("ignore:RetryHeartbeatStaleTrialCallback is experimental"),
]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_sweep_workers_draw_different_and_reproducible_points(sweep_file, sampler):
    search = read_search(sweep_file(SWEEP + f"sampler: {sampler}"), {})

    def draw(path):
        drawn = []
        for _ in range(4):  # each in another worker
            trial = study_of(search, path).ask()
            drawn.append([one.suggest(trial, key) for key, one in search.sweep.distributions.items()])
        return drawn

    first = draw("first.db")
    assert len({tuple(point) for point in first}) == 4
    assert draw("second.db") == first


def test_median_pruner_ends_bad_trials_early(sweep_file, monkeypatch):
    search = read_search(sweep_file(SWEEP + "pruner: median"), {"trials": 8})
    study = study_of(search)
    calls = []

    def train(config, metric, report):
        good = len(study.get_trials()) <= 6
        calls.append(good)
        for stretch in range(STRETCHES // 2):
            report(stretch, 100.0 + config.seed if good else 1.0)
        return {"score": 100.0 + config.seed if good else 1.0, "stretches": []}

    monkeypatch.setattr(trials, "train", train)
    trials.work(search, str(Path("study.db").absolute()))
    states = [trial.state for trial in trials.counted(study.get_trials())]
    assert states == [TrialState.COMPLETE] * 6 + [TrialState.PRUNED] * 2
    assert calls.count(False) == 2  # a pruned trial does not train its second seed
