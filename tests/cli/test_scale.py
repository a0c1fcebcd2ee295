"""Runs in several processes and interrupted runs, with torchrun and Ray on this machine."""

import csv
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, storage
from rl_rms.agents.logger import Logger
from rl_rms.agents.workers import ALONE, LostWorkersError
from rl_rms.cli.errors import UserError
from rl_rms.cli.main import main
from rl_rms.cli.scale import ScaleConfig, process_group, run_with_ray
from tests.naming import mentions, naming

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
QUICK = ["--total_timesteps=6000", "--log_interval=10", "--checkpoint_every=2000"]
# A run that is long enough to be killed, with enough checkpoints to continue from.
LONG = ["--total_timesteps=60000", "--log_interval=10", "--checkpoint_every=1000"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture
def workers_module():
    """The module test_workers, with its functions for training and comparison."""
    path = Path(__file__).parents[1] / "agents" / "test_workers.py"
    spec = importlib.util.spec_from_file_location("test_workers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["test_workers"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["test_workers"]


def start(*words, launcher=(sys.executable,)):
    return subprocess.Popen(
        [*launcher, "-m", "rl_rms.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def torchrun(*options):
    return (*TORCHRUN, "--standalone", "--nproc-per-node", "2", *options)


def until(found, process, seconds=60):
    """Wait until ``found`` returns a true value, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = found()
        if result:
            return result
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise TimeoutError


def end(process, seconds=120):
    """Wait for a process to end; return its output and check that no process of its session is left."""
    try:
        output, _ = process.communicate(timeout=seconds)
        deadline = time.monotonic() + seconds  # Ray's processes end a moment after the command
        while (left := alive_in_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not left, output
    return output


def alive_in_session(session):
    """Processes of a session that are alive, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(path.parent.name)
    return found


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def the_run():
    (folder,) = Path("runs").glob("*/*/")
    return folder


def checkpoints():
    return sorted(Path("runs").glob("*/*/checkpoints/step_*.safetensors"))


def summary():
    return json.loads((the_run() / "summary.json").read_text())


def assert_whole(total):
    """Assert that there is one finished run, whose log has no env step twice and ends at the last env step."""
    ended = summary()
    assert total <= ended["total_timesteps"] < total + 200
    assert ended["interrupted"] is False
    with (the_run() / "metrics.csv").open(newline="") as file:
        # The end of a regime has its own row.
        steps = [float(row["time/total_timesteps"]) for row in csv.DictReader(file) if row["time/fps"]]
    assert steps == sorted(steps)
    assert len(steps) == len(set(steps))
    assert steps[-1] == ended["total_timesteps"]
    agent = A2C.load(the_run() / "checkpoints/final.safetensors")
    assert agent.num_timesteps == ended["total_timesteps"]


@pytest.mark.slow
def test_train_under_torchrun_counts_the_updates_of_one_process(elsewhere):
    process = start("train", "cartpole_a2c", *QUICK, launcher=torchrun())
    printed = end(process)
    assert process.returncode == 0, printed
    assert "in 2 workers" in printed
    # Only one worker prints the half-life, at the start and at the end.
    assert printed.count("env steps per update") == 2
    assert_whole(6_000)
    together = storage.read(the_run() / "checkpoints/final")
    assert main(["train", "cartpole_a2c", *QUICK, "--runs_dir=alone"]) == 0
    (alone,) = Path("alone").glob("*/*/checkpoints/final.safetensors")
    alone = storage.read(alone)
    assert together["num_timesteps"] == pytest.approx(alone["num_timesteps"], abs=100)
    assert together["num_updates"] == pytest.approx(alone["num_updates"], abs=1)


@pytest.mark.slow
def test_train_on_two_nodes_joins_them(elsewhere):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{found.getsockname()[1]}"
    options = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}")
    words = ("train", "cartpole_a2c", *QUICK, "--progress=json")
    both = [start(*words, launcher=(*TORCHRUN, *options)) for _ in range(2)]
    printed = [end(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert_whole(6_000)
    # One node prints the JSON lines; all other lines are torchrun's.
    events = [json.loads(line)["event"] for text in printed for line in text.splitlines() if line.startswith("{")]
    assert (events[0], events.count("start"), events.count("end"), events[-1]) == ("start", 1, 1, "end")
    assert "cartpole" not in "".join(line for text in printed for line in text.splitlines() if line[:1] != "{")


@pytest.mark.slow
def test_torchrun_killed_worker_restarts_from_the_last_checkpoint(elsewhere):
    process = start("train", "cartpole_a2c", *LONG, "--scale.timeout=20", launcher=torchrun("--max-restarts=1"))
    until(lambda: len(checkpoints()) >= 3, process)
    os.kill(children(process)[-1], signal.SIGKILL)
    printed = end(process)
    assert process.returncode == 0, printed
    assert "continued from env step" in printed
    assert_whole(60_000)


@pytest.mark.slow
def test_torchrun_hung_worker_restarts_from_the_last_checkpoint(elsewhere):
    process = start("train", "cartpole_a2c", *LONG, "--scale.timeout=3", launcher=torchrun("--max-restarts=1"))
    until(lambda: len(checkpoints()) >= 3, process)
    os.kill(children(process)[-1], signal.SIGSTOP)
    printed = end(process)
    assert process.returncode == 0, printed
    assert "lost another worker" in printed
    assert "continued from env step" in printed
    assert_whole(60_000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*rows after env step")
def test_resume_of_a_killed_run_of_workers_continues(elsewhere, capsys):
    process = start("train", "cartpole_a2c", *LONG, "--eval_every=2000", "--eval_episodes=2")
    until(lambda: len(checkpoints()) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (the_run() / "summary.json").exists()
    newest = max(int(path.stem.split("_")[1]) for path in checkpoints())
    assert main(["resume", str(the_run())]) == 0
    assert f"continued from env step {newest:,}" in capsys.readouterr().out
    assert_whole(60_000)
    assert main(["resume", str(the_run()), "--total_timesteps", "62000"]) == 0
    assert "continued from env step 60,0" in capsys.readouterr().out
    assert_whole(62_000)
    # With --progress none, the command prints only the folder.
    assert main(["resume", str(the_run()), "--total_timesteps", "62500", "--progress", "none"]) == 0
    assert capsys.readouterr().out == f"{the_run()}\n"
    assert_whole(62_500)


def test_logger_resumed_drops_rows_after_the_checkpoint(elsewhere):
    def write(resumed_at, steps, mean_reward):
        with Logger(elsewhere / "run", resumed_at) as logger:
            for step in steps:
                logger.write(step, {"eval/mean_reward": mean_reward, "time/fps": 1.0})

    write(0, (100, 200, 300), 0.0)
    with pytest.warns(UserWarning, match=naming("rows", "env step 250")):
        write(250, (260, 360), 1.0)
    with (elsewhere / "run" / "metrics.csv").open(newline="") as file:
        assert [row["time/total_timesteps"] for row in csv.DictReader(file)] == ["100", "200", "260", "360"]
    events = EventAccumulator(str(elsewhere / "run")).Reload()
    assert [one.step for one in events.Scalars("eval/mean_reward")] == [100, 200, 260, 360]


def test_resume_of_an_unsuitable_run_raises(elsewhere, capsys):
    assert main(["resume", "nowhere"]) == 2
    assert mentions(capsys.readouterr().err, "nowhere", "folder of a run")
    assert main(["train", "cartpole_a2c", *QUICK]) == 0
    folder = str(the_run())
    capsys.readouterr()
    assert main(["resume", folder]) == 2
    assert "complete with 6,0" in capsys.readouterr().err
    assert main(["resume", folder, "--agent.learning_rate=1"]) == 2
    assert "got --agent.learning_rate=1" in capsys.readouterr().err
    for path in (the_run() / "checkpoints").iterdir():
        path.write_bytes(b"no agent")
    assert main(["resume", folder, "--total_timesteps=7000"]) == 2
    assert mentions(capsys.readouterr().err, "checkpoints")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--scale.workers=4"], ["torchrun --nproc-per-node 4"]),
        (["--scale.engine=spark"], ["scale.engine"]),
        (["--scale.sync=here"], ["scale.sync"]),
        (["--scale.timeout=0"], ["scale.timeout", "0"]),
        (["--scale.workers=0", "--scale.engine=ray"], ["scale.workers", "1"]),
        (["--scale.restarts=-1"], ["scale.restarts", "-1"]),
    ],
)
def test_scale_with_unsupported_options_raises(words, named, elsewhere, capsys):
    assert main(["train", "cartpole_a2c", *words]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert not Path("runs").exists()


def test_scale_wrong_configuration_raises_before_ray_starts(elsewhere, capsys):
    pytest.importorskip("ray.train.torch")
    assert main(["train", "cartpole_a2c", "--env.num_envs=7", "--scale.engine=ray", "--scale.workers=2"]) == 2
    assert mentions(capsys.readouterr().err, "num_envs", "2 workers")
    assert not Path("runs").exists()


def test_scale_without_ray_names_the_extra(elsewhere, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["train", "cartpole_a2c", "--scale.engine=ray", "--scale.workers=2"]) == 2
    assert mentions(capsys.readouterr().err, "scale.engine", "pip install 'rl_rms[ray]'")
    assert not Path("runs").exists()


def test_scale_engine_ray_under_torchrun_raises(elsewhere, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "cartpole_a2c", "--scale.engine=ray", "--scale.workers=2"]) == 2
    assert mentions(capsys.readouterr().err, "scale.engine", "torchrun")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_torchrun_prints_a_sentence_of_each_worker_if_there_is_no_folder(elsewhere):
    (elsewhere / "file").touch()
    process = start("train", "cartpole_a2c", *QUICK, "--runs_dir=file", launcher=torchrun())
    printed = end(process)
    assert process.returncode != 0
    assert mentions(printed, "cannot make the run's folder file", "worker 1 of 2 lost another worker")
    assert "[rank1]: Traceback" not in printed


def test_train_failed_ray_workers_names_resume(elsewhere, monkeypatch):
    class FailedError(Exception):
        pass

    def fit(_):
        raise FailedError("two of them died")

    modules = {name: types.ModuleType(name) for name in ("ray", "ray.train", "ray.train.torch")}
    modules["ray"].is_initialized, modules["ray"].train = (lambda: True), modules["ray.train"]
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(modules["ray.train"], name, lambda **_: None)
    modules["ray.train"].TrainingFailedError, modules["ray.train"].torch = FailedError, modules["ray.train.torch"]
    modules["ray.train.torch"].TorchConfig = lambda **_: None
    modules["ray.train.torch"].TorchTrainer = type("Trainer", (), {"__init__": lambda *_, **__: None, "fit": fit})
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UserError, match=naming("two of them died", "rl-rms resume", "newest checkpoint")):
        run_with_ray(ScaleConfig(engine="ray", workers=2), print, folder=elsewhere / "run")


def test_train_lost_workers_names_resume(elsewhere, monkeypatch, capsys):
    def learn(*_, **__):
        raise LostWorkersError("worker 0 of 2 waited in vain")

    monkeypatch.setattr(A2C, "learn", learn)
    assert main(["train", "cartpole_a2c", *QUICK]) == 2
    assert mentions(capsys.readouterr().err, "worker 0 of 2", f"rl-rms resume {the_run()}")


def test_train_nonfinite_reward_prints_one_sentence(elsewhere, monkeypatch, capsys):
    def learn(*_, **__):
        raise FloatingPointError("the reward of sub-environment 3 must be finite, got nan")

    monkeypatch.setattr(A2C, "learn", learn)
    assert main(["train", "cartpole_a2c", *QUICK]) == 2
    assert mentions(capsys.readouterr().err, "sub-environment 3", "nan", "--agent.on_nonfinite")


@pytest.mark.slow
def test_scale_indivisible_environments_raises_before_a_folder_is_made(elsewhere):
    process = start("train", "cartpole_a2c", "--env.num_envs=7", launcher=torchrun())
    printed = end(process)
    assert process.returncode != 0
    assert mentions(printed, "num_envs", "2 workers", "7")
    assert not Path("runs").exists()


PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from test_workers import save_training
from rl_rms.cli.scale import ScaleConfig
from rl_rms.cli.scale import process_group
with process_group(ScaleConfig()) as workers:
    save_training({folder!r}, workers)
"""


def assert_everyone_is(folder, alone):
    for rank in range(2):
        one = torch.load(folder / f"{rank}.pt", weights_only=False)
        for own, expected in zip(one["params"], alone["params"], strict=True):
            assert own == pytest.approx(expected, abs=1e-10)
        assert one["episodes"] == alone["episodes"]
        assert one["clocks"] == alone["clocks"]


def test_weights_under_torchrun_equal_one_process(elsewhere, workers_module):
    program = elsewhere / "program.py"
    tests = Path(workers_module.__file__).parent
    paths = [str(tests), str(tests.parents[1])]
    program.write_text(PROGRAM.format(paths=paths, folder=str(elsewhere)))
    done = subprocess.run([*torchrun(), str(program)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert_everyone_is(elsewhere, workers_module.save_training(elsewhere, ALONE))


# -- Ray, if it is installed ------------------------------------------------------------------------------


@pytest.fixture
def ray(monkeypatch):
    """The package ray. At the end, the fixture checks that the test has left no processes of Ray."""
    pytest.importorskip("ray.train.torch")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    before = daemons()
    yield importlib.import_module("ray")
    deadline = time.monotonic() + 60  # processes of the cluster may end a little later
    while daemons() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert daemons() <= before


def daemons():
    """Processes of Ray on this machine; the group "ray" of pytest-xdist keeps clusters of two tests apart."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:  # ended in the meantime
            continue
        if any(name in command for name in (b"raylet", b"gcs_server", b"ray::")):
            found.add(path.parent.name)
    return found


def in_ray(folder):
    """The function that a Ray worker runs."""
    with process_group(ScaleConfig(engine="ray")) as workers:
        in_ray.save_training(folder, workers)


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of Ray
def test_weights_under_ray_equal_one_process(elsewhere, ray, workers_module, monkeypatch):
    for module in (workers_module, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)
    monkeypatch.setattr(in_ray, "save_training", workers_module.save_training, raising=False)
    run_with_ray(ScaleConfig(engine="ray", workers=2), in_ray, folder=elsewhere)
    assert_everyone_is(elsewhere, workers_module.save_training(elsewhere, ALONE))


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of Ray
def test_ray_killed_worker_restarts_from_the_last_checkpoint(elsewhere, ray):
    scale = ["--scale.engine=ray", "--scale.workers=2", "--scale.timeout=20", "--scale.restarts=1"]
    process = start("train", "cartpole_a2c", *LONG, *scale)
    until(lambda: len(checkpoints()) >= 3, process, seconds=180)
    os.kill(max(workers_of_ray()), signal.SIGKILL)
    printed = end(process, seconds=240)
    assert process.returncode == 0, printed
    assert "2 workers of Ray on this machine" in printed
    assert_whole(60_000)


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of Ray
def test_resume_of_a_run_that_lost_the_ray_head_continues(elsewhere, ray, monkeypatch):
    # The driver waits for the head node for this number of seconds.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    before = daemons()
    process = start("train", "cartpole_a2c", *LONG, "--scale.engine=ray", "--scale.workers=2")
    until(lambda: len(checkpoints()) >= 3, process, seconds=180)
    for pid in daemons() - before:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode != 0, printed
    assert not (the_run() / "summary.json").exists()
    process = start("resume", str(the_run()))
    printed = end(process, seconds=240)
    assert process.returncode == 0, printed
    assert "2 workers of Ray on this machine" in printed
    assert_whole(60_000)


def workers_of_ray():
    """Process ids of Ray's training workers, which have RayTrainWorker in their command lines."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists() and b"RayTrainWorker" in path.read_bytes()
    ]
