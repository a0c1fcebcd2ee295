"""Several seeds of ``rl-rms train``, each in its own process."""

import json
import signal
import subprocess
import sys

import pytest

from rl_rms.cli.config import RunConfig
from rl_rms.cli.main import main
from rl_rms.cli.seeds import Training, parse_seeds, train_seeds
from tests.cli.runs import command
from tests.naming import mentions

# A script in place of a training run. The script fails for seed 1, and if it already runs in another process.
STAND_IN = """
import json, os, sys
seed = int(sys.argv[sys.argv.index("--seed") + 1])
os.mkdir("working")
state = {"step": 5, "total": 5, "return": seed + 0.5, "folder": f"runs/seed{seed}"}
print(json.dumps({"event": "end", **state}))
os.rmdir("working")
if seed == 1:
    sys.exit("the motor of seed one is broken")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The command that runs `STAND_IN`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return [sys.executable, "stand_in.py"]


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("0,3,7", [0, 3, 7]), ("5", [5]), ("7,0-1", [7, 0, 1])]
)
def test_parse_seeds_reads_ranges_and_lists(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seeds", "4-0"], ["--seeds", "'4-0'"]),
        (["--seeds=a"], ["--seeds", "'a'"]),
        (["--seeds=-1"], ["--seeds", "'-1'"]),
        (["--seeds=0-2,1"], ["--seeds", "1", "'0-2,1'"]),
        (["--seeds=0-2000000000000"], ["--seeds", "1,000"]),
        (["--seeds=0-99999999999999999999"], ["--seeds", "2**62", "'0-99999999999999999999'"]),
        (["--seeds"], ["--seeds", "0-4"]),
        (["--seeds=0-1", "--jobs=0"], ["--jobs", "'0'"]),
        (["--jobs", "2"], ["--jobs", "--seeds"]),
        (["--seeds=0-1", "--seed=3"], ["--seed", "--seeds"]),
        (["--seeds=0-1", "--scale.engine=ray"], ["--seeds", "Ray"]),
        (["--seeds=0-1", "--total_timesteps=0"], ["total_timesteps"]),
    ],
)
def test_train_seeds_wrong_argument_names_it_and_trains_nothing(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cartpole_a2c", *words]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert not list(tmp_path.iterdir())


def test_train_seeds_one_job_trains_one_seed_at_a_time(stand_in, capfd):
    assert train_seeds(RunConfig(progress="none"), stand_in, [0, 2, 3], 1) == 0
    assert capfd.readouterr() == ("runs/seed0\nruns/seed2\nruns/seed3\n", "")


def test_train_seeds_failed_seed_is_named_and_the_others_train(stand_in, capfd):
    assert train_seeds(RunConfig(), stand_in, [0, 1, 2], 1) == 1
    out, err = capfd.readouterr()
    assert mentions(err, "seed 1", "the motor of seed one is broken", "rl-rms resume runs/seed1")
    assert not mentions(err, "seed 2")
    assert mentions(out, "2.5", "runs/seed2")


def test_train_seeds_progress_json_has_the_seed_of_each_line(stand_in, capfd):
    assert train_seeds(RunConfig(progress="json"), stand_in, [0, 2], 1) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["seed"], line["event"], line["return"]) for line in lines] == [(0, "end", 0.5), (2, "end", 2.5)]


def test_train_seeds_shows_output_that_is_not_utf_8(stand_in, capfd):
    writing = 'import os; os.write(1, b"a motor \\xff\\n"); import runpy; runpy.run_path("stand_in.py")'
    assert train_seeds(RunConfig(), [sys.executable, "-c", writing], [0], 1) == 0
    out, err = capfd.readouterr()
    assert mentions(err, "seed 0: a motor \ufffd")
    assert mentions(out, "runs/seed0")


def test_train_seeds_interrupted_before_the_training_names_no_failure(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    began = 'from pathlib import Path; import time; Path("began").touch(); time.sleep(60)'

    def interrupt_when_it_began(*_):
        if (tmp_path / "began").exists():
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGALRM, interrupt_when_it_began)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        assert train_seeds(RunConfig(), [sys.executable, "-c", began], [0], 1) == 130
    finally:
        signal.signal(signal.SIGALRM, earlier)
    out, err = capfd.readouterr()
    assert mentions(out, "seed 0: starting", "interrupted")
    assert not mentions(err, "failed")
    assert not mentions(err, "Traceback")


def test_training_shows_the_return_of_the_last_episodes_not_of_a_regime():
    state = {"step": 5, "total": 9}
    events = [{"event": "progress", "return": 1.5, **state}, {"event": "regime", "return": 99.0, **state}]
    training = Training(0, [sys.executable, "-c", "".join(f"print({json.dumps(event)!r});" for event in events)])
    training.process.wait()
    assert training.has_ended()
    assert str(training) == "seed 0: 5 / 9 steps, return 1.5"


def test_train_seeds_writes_one_run_per_seed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cartpole_a2c", "--total_timesteps=300", "--seeds", "3,5", "--jobs", "2"]) == 0
    folders = sorted((tmp_path / "runs" / "cartpole_a2c").iterdir(), key=lambda folder: folder.name[-1])
    assert [json.loads((folder / "summary.json").read_text())["seed"] for folder in folders] == [3, 5]
    assert mentions(capfd.readouterr().out, *(f"runs/cartpole_a2c/{folder.name}" for folder in folders))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_train_seeds_interrupted_saves_all_seeds(tmp_path, how):
    words, options = command(
        "train", "cartpole_a2c", "--total_timesteps=100_000_000", "--seeds=0-2", "--jobs=2", "--progress=json",
        cwd=tmp_path,
    )  # fmt: skip
    process = subprocess.Popen(words, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = set()
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress":
            seen.add(event["seed"])
        if len(seen) == 2:
            break
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + how, err
    assert "Traceback" not in err
    folders = list((tmp_path / "runs" / "cartpole_a2c").iterdir())
    assert len(folders) == 2
    assert all(json.loads((folder / "summary.json").read_text())["interrupted"] for folder in folders)
