"""The commands as a user runs them."""

import contextlib
import fcntl
import gc
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import storage
from rl_rms.cli.main import main
from rl_rms.cli.runs import read_run
from rl_rms.envs.drift import trace
from tests.naming import mentions

QUICK = ["--total_timesteps", "3000", "--env.num_envs", "4", "--log_interval", "10"]


def command(*words, cwd):
    return [sys.executable, "-m", "rl_rms.cli.main", *words], {"cwd": cwd, "text": True}


def run_folder(base: Path, config: str) -> Path:
    (folder,) = (base / "runs" / config).iterdir()
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of the quickstart configuration, and what it printed."""
    base = tmp_path_factory.mktemp("trained")
    words, options = command(
        "train",
        "drifting_cartpole",
        *QUICK,
        "--checkpoint_every=1000",
        "--keep_checkpoints=2",
        "--eval_every=1500",
        cwd=base,
    )
    done = subprocess.run(words, **options, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return run_folder(base, "drifting_cartpole"), done


def test_a_runs_folder_holds_everything(trained):
    folder, _ = trained
    names = {file.name for file in folder.iterdir()}
    assert {"config.yaml", "metrics.csv", "summary.json", "learning_curve.png", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert folder.name.endswith("-seed0")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["total_timesteps"] >= 3000
    assert summary["interrupted"] is False
    assert {"python", "torch", "gymnasium", "rl_rms"} <= set(summary["versions"])
    assert summary["final_return"] > 5
    checkpoints = sorted(file.name for file in (folder / "checkpoints").iterdir())
    assert checkpoints[:2] == ["best.safetensors", "final.safetensors"]
    assert [int(name[5:15]) // 1_000 for name in checkpoints[2:]] == [2, 3]
    found = EventAccumulator(str(folder)).Reload().Tags()
    assert found["images"] == ["env/schedule", "run/learning_curve"]
    assert {"run/config/text_summary", "run/command/text_summary", "run/versions/text_summary"} <= set(
        found["tensors"]
    )
    tags = found["scalars"]
    assert {"env/gravity", "env/length", "eval/mean_reward", "optim/half_life_steps"} <= set(tags)


def test_the_terminal_says_the_memory_the_result_and_where_to_look(trained):
    folder, done = trained
    assert "20,000 env steps" in done.stdout
    assert "mean return, last" in done.stdout
    assert f"runs/drifting_cartpole/{folder.name}" in done.stdout
    assert "tensorboard --logdir runs/drifting_cartpole" in done.stdout
    assert "\x1b[" not in done.stdout  # plain lines where no terminal is


def test_the_written_configuration_repeats_the_run(trained, tmp_path, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(folder / "config.yaml")]) == 0
    again = read_run(run_folder(tmp_path, "config"))
    first = read_run(folder)
    assert again.series("rollout/ep_rew_mean") == first.series("rollout/ep_rew_mean")


def test_evaluate_plays_the_saved_agent(trained, capsys):
    folder, _ = trained
    assert main(["evaluate", str(folder), "--episodes", "4"]) == 0
    first = capsys.readouterr().out
    assert "mean return" in first
    assert "4 episodes" in first
    assert main(["evaluate", str(folder), "--episodes", "4"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("line", "edited", "named"),
    [
        ("  fused: true", "  fused: false", ["agent.fused", "False", "True"]),
        ("    shared_trunk: false", "    shared_trunk: true", ["agent.policy.shared_trunk", "True", "False"]),
        ("  gamma: 0.99", "  gamma: 0.9", ["agent.gamma", "0.9", "0.99"]),
        ("seed: 0", "seed: 7", ["seed", "7", "0"]),
    ],
)
def test_resume_with_an_edited_configuration_names_the_key_and_both_values(
    trained, tmp_path, capsys, line, edited, named
):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    before = config.read_text()
    assert f"\n{line}\n" in f"\n{before}"
    config.write_text(f"\n{before}".replace(f"\n{line}\n", f"\n{edited}\n").lstrip())
    after = config.read_text()
    assert main(["resume", str(tmp_path / "run"), "--total_timesteps=3500"]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert config.read_text() == after
    config.write_text(before)
    assert main(["resume", str(tmp_path / "run"), "--total_timesteps=3500", "--progress=none"]) == 0


def test_evaluate_of_weights_that_are_nan_names_the_parameter(trained, tmp_path, capsys):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    final = tmp_path / "run" / "checkpoints" / "final.safetensors"
    contents = storage.read(final)
    name = next(iter(contents["policy"]))
    contents["policy"][name].fill_(float("nan"))
    storage.write(final, contents)
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "4"]) == 2
    error = capsys.readouterr().err
    assert f"final.safetensors holds a policy whose {name} is nan or infinite" in error
    assert error.count("\n") == 1


def test_plot_draws_one_run_and_several(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    (folder / "learning_curve.png").unlink()
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(folder), str(folder), "--output", "both.svg"]) == 0
    assert "<svg" in (tmp_path / "both.svg").read_text()
    capsys.readouterr()
    assert main(["plot", str(folder), "--output", "one.pdf"]) == 2
    assert mentions(capsys.readouterr().err, "--output", "'one.pdf'")


def test_a_script_reads_json_or_only_where_the_run_lies(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    quick = ["--total_timesteps=500", "--log_interval=5", "--eval_every=300", "--eval_episodes=1"]
    assert main(["train", "drifting_cartpole", *quick, "--progress", "none"]) == 0
    folder = run_folder(tmp_path, "drifting_cartpole")
    assert capfd.readouterr() == (f"{folder.relative_to(tmp_path)}\n", "")
    assert main(["train", "cartpole_a2c", *quick, "--progress", "json", "--log_interval=1"]) == 0
    out, err = capfd.readouterr()
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["event"] for one in told] == ["start", *["progress"] * (len(told) - 2), "end"]
    assert len(told) > 3
    assert told[-1]["folder"] == str(run_folder(tmp_path, "cartpole_a2c").relative_to(tmp_path))
    assert err == ""


@pytest.mark.slow
def test_in_a_terminal_the_view_is_live(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    words, options = command("train", "drifting_cartpole", "--total_timesteps=3000", cwd=tmp_path)
    # Which say more than the terminal itself.
    of_a_terminal = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        words, **options, stdout=theirs, stderr=theirs, env={**of_a_terminal, "TERM": "xterm", "NO_COLOR": "1"}
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which Linux raises when the other side has closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "\x1b[?25l" in text  # no cursor meanwhile
    assert text.count("\x1b[?25h") == 1
    assert "\x1b[3" not in text  # no color
    view = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text[text.rindex(" / ") : text.rindex("mean return")])
    lines = view.split("\r\n")
    assert [line.split()[0] for line in lines if line.strip()][1:] == ["return", "regime", "▸"]
    assert all(len(line) <= 40 for line in lines)


def test_threads_are_as_configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    assert main(["train", "cartpole_a2c", "--total_timesteps=200", "--num_threads=3"]) == 0
    assert asked[-1] == 3


def test_independent_worlds_are_drawn_at_their_own_pace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = []

    def spy(changes, clocks, seed):
        drawn.append(clocks.max())
        return trace(changes, clocks, seed)

    monkeypatch.setattr("rl_rms.cli.plots.trace", spy)
    four = ["--total_timesteps=4000", "--env.num_envs=4"]
    for sharing in ("shared", "independent"):
        assert main(["train", "drifting_cartpole", *four, f"--env.sharing={sharing}"]) == 0
    assert drawn == [pytest.approx(4000, abs=40), pytest.approx(1000, abs=10)]


def test_another_optimizer_is_a_matter_of_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    adam = ["--agent.optimizer=torch.optim.Adam", "--agent.half_life=null", "--agent.optimizer_kwargs.eps=1e-5"]
    assert main(["train", "cartpole_a2c", "--total_timesteps=500", *adam]) == 0
    assert "half-life" not in capsys.readouterr().out
    run = read_run(run_folder(tmp_path, "cartpole_a2c"))
    assert run.config.agent.optimizer == "torch.optim.Adam"
    assert run.config.agent.optimizer_kwargs == {"eps": 1e-5}
    assert run.series("optim/gradient_norm")[1]
    assert not run.series("optim/rho")[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_folder_that_can_be_drawn_and_loaded(tmp_path, how):
    words, options = command("train", "drifting_cartpole", "--log_interval=5", cwd=tmp_path)
    process = subprocess.Popen(words, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = tmp_path / "runs" / "drifting_cartpole"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(file.stat().st_size > 4000 for file in metrics.glob("*/metrics.csv")):
            break
        time.sleep(0.1)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + how, err
    assert re.search(r"interrupted, saved at env step [\d,]+; go on with rl-rms resume runs/", out)
    assert "Traceback" not in err
    folder = run_folder(tmp_path, "drifting_cartpole")
    (folder / "learning_curve.png").unlink()
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").is_file()
    assert json.loads((folder / "summary.json").read_text())["interrupted"] is True
    assert main(["evaluate", str(folder), "--episodes=1"]) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trian"], ["'trian'", "rl-rms --help", "train"]),
        (["train"], ["configuration"]),
        (["train", "nothing"], ["configuration", "'nothing'"]),
        (["train", "drifting_cartpole", "--agent.half_lif", "3"], ["agent.half_life"]),
        (["train", "drifting_cartpole", "--agent.half_life", "soon"], ["half_life"]),
        (["train", "drifting_cartpole", "--env.id", "CartPoel-v1"], ["CartPoel"]),
        (["train", "drifting_cartpole", "--env.changes.gravitas", "3"], ["gravitas"]),
        (["train", "drifting_cartpole", "--agent.optimizer", "torch.optim.Adamm"], ["torch.optim.Adamm"]),
        (["train", "drifting_cartpole", "--agent.optimizer", "torch.optim.Adam"], ["half_life"]),
        (
            ["train", "cartpole_a2c", "--env.id", "no_such_module:Env-v0"],
            ["no_such_module", "folder", "install"],
        ),
        (["train", "cartpole_a2c", "--agent.device", "cuda:77"], ["device", "'cuda:77'"]),
        (["evaluate", "nowhere"], ["nowhere", "folder of a run"]),
        (["plot", "nowhere"], ["nowhere", "folder of a run"]),
        (["plot"], ["runs"]),
        (["evaluate", ".", "--episodes=0"], ["episodes", "1"]),
        (["evaluate", ".", "--seed=-1"], ["seed", "-1"]),
        (["evaluate", ".", "--clock=-5"], ["clock", "-5"]),
        (["resume"], ["rl-rms resume --help"]),
        (["train", "cartpole_a2c", "--agent.optimizer=torch.optim.LBFGS", "--agent.half_life=null"], ["closure"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(words, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert mentions(error, *named)
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_command_prints_a_warning_as_one_sentence(tmp_path, monkeypatch):
    words, options = command(
        "train", "cartpole_a2c", "--env.id=CartPole", "--total_timesteps=40", "--progress=none", cwd=tmp_path
    )
    done = subprocess.run(words, **options, capture_output=True, check=True)
    (said,) = [line for line in done.stderr.splitlines() if "CartPole-v1" in line]
    assert said.startswith("rl-rms: warning: ")
    assert "\x1b" not in done.stderr
    assert ".py:" not in done.stderr


def test_a_run_that_logged_no_episode_is_named(trained, tmp_path, capsys):
    folder, _ = trained
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    assert main(["plot", str(tmp_path)]) == 2
    assert "no episode returns yet" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "cartpole_a2c", "--runs_dir", str(tmp_path / "file")]) == 2
    assert "cannot make the run's folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_evaluations_videos_and_schedules_are_a_matter_of_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "env: {id: CartPole-v1, num_envs: 4, changes: {gravity: {step: {before: 9.8, after: 20.0, at: 500}}}}\n"
        "agent:\n"
        "  learning_rate: {linear: {start: 1.0e-3, end: 0.0, over: 1000}}\n"
        "  ent_coef: {linear: {start: 1.0e-2, end: 0.0, over: 1000}}\n"
        "  on_change: forget\n"
        "  policy: {norm: layer, recurrent: gru}\n"
        "total_timesteps: 1000\n"
        "eval_every: 600\n"
        "eval_deterministic: both\n"
        "eval_clocks: [0, 700]\n"
        "video_every: 1000\n"
    )
    assert main(["train", "mine.yaml"]) == 0
    folder = run_folder(tmp_path, "mine")
    run = read_run(folder)
    assert run.config.agent.policy.recurrent == "gru"
    assert run.series("train/learning_rate")[1][-1] == pytest.approx(0.0, abs=2e-5)
    assert [step // 100 for step in run.series("eval/stochastic/mean_reward/at_700")[0]] == [6, 10]
    assert run.series("adaptation/recovery_steps") is not None
    assert len(json.loads((folder / "summary.json").read_text())["regimes"]) == 2
    assert (folder / "checkpoints" / "best.safetensors").exists()
    assert len(list((folder / "videos").glob("*.mp4"))) == 1
    gc.collect()  # of the pipes that ffmpeg's wrapper leaves to be closed
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--episodes", "4", "--checkpoint", "checkpoints/best.safetensors"]) == 0
    assert "4 episodes" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_of_stacked_frames_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--env.frame_stack=2", "--video_every=64", "--total_timesteps=64", "--env.num_envs=2"]
    assert main(["train", "cartpole_a2c", *words]) == 0
    assert len(list((run_folder(tmp_path, "cartpole_a2c") / "videos").glob("*.mp4"))) == 1
    gc.collect()  # of the pipes that ffmpeg's wrapper leaves to be closed


def test_a_training_may_stop_when_it_is_good_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "cartpole_a2c", "--total_timesteps=100000", "--eval_every=500", "--eval_episodes=2"]
    assert main([*words, "--stop_at=5"]) == 0
    assert read_run(run_folder(tmp_path, "cartpole_a2c")).steps[-1] < 1000
