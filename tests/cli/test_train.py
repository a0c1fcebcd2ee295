import contextlib
import fcntl
import gc
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.cli.main import main
from rl_rms.cli.runs import read_run
from tests.cli.runs import command, run_folder


def test_train_writes_all_files_of_a_run(trained):
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


def test_train_prints_half_life_result_and_folder(trained):
    folder, done = trained
    assert "20,000 env steps" in done.stdout
    assert "mean return, last" in done.stdout
    assert f"runs/drifting_cartpole/{folder.name}" in done.stdout
    assert "tensorboard --logdir runs/drifting_cartpole" in done.stdout
    assert "\x1b[" not in done.stdout


def test_train_with_the_written_configuration_repeats_the_run(trained, tmp_path, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(folder / "config.yaml")]) == 0
    again = read_run(run_folder(tmp_path, "config"))
    first = read_run(folder)
    assert again.series("rollout/ep_rew_mean") == first.series("rollout/ep_rew_mean")


def test_train_progress_json_or_none_prints_json_or_the_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    quick = ["--total_timesteps=500", "--log_interval=5", "--eval_every=300", "--eval_episodes=1"]
    assert main(["train", "drifting_cartpole", *quick, "--progress", "none"]) == 0
    folder = run_folder(tmp_path, "drifting_cartpole")
    assert capfd.readouterr() == (f"{folder.relative_to(tmp_path)}\n", "")
    assert main(["train", "cartpole_a2c", *quick, "--progress", "json", "--log_interval=1"]) == 0
    out, err = capfd.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [one["event"] for one in records] == ["start", *["progress"] * (len(records) - 2), "end"]
    assert len(records) > 3
    assert records[0]["device"] == "cpu"
    assert records[-1]["folder"] == str(run_folder(tmp_path, "cartpole_a2c").relative_to(tmp_path))
    assert err == ""


@pytest.mark.slow
def test_train_in_a_terminal_shows_the_live_view(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    words, options = command("train", "drifting_cartpole", "--total_timesteps=3000", cwd=tmp_path)
    of_a_terminal = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        words, **options, stdout=theirs, stderr=theirs, env={**of_a_terminal, "TERM": "xterm", "NO_COLOR": "1"}
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux raises OSError when the other side has closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "\x1b[?25l" in text
    assert text.count("\x1b[?25h") == 1
    assert "\x1b[3" not in text  # no color
    view = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text[text.rindex(" / ") : text.rindex("mean return")])
    lines = view.split("\r\n")
    assert [line.split()[0] for line in lines if line.strip()][1:] == ["return", "regime", "▸"]
    assert all(len(line) <= 40 for line in lines)


def test_train_num_threads_sets_the_threads_of_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    assert main(["train", "cartpole_a2c", "--total_timesteps=200", "--num_threads=3"]) == 0
    assert asked[-1] == 3


def test_train_with_another_optimizer_uses_it(tmp_path, monkeypatch, capsys):
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
def test_train_interrupted_leaves_a_run_that_can_be_plotted_and_loaded(tmp_path, how):
    words, options = command("train", "drifting_cartpole", "--log_interval=5", cwd=tmp_path)
    process = subprocess.Popen(words, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if "return" in line:
            break
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + how, err
    assert re.search(r"interrupted, saved at env step [\d,]+; continue with rl-rms resume runs/", out)
    assert "Traceback" not in err
    folder = run_folder(tmp_path, "drifting_cartpole")
    (folder / "learning_curve.png").unlink()
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").is_file()
    assert json.loads((folder / "summary.json").read_text())["interrupted"] is True
    assert main(["evaluate", str(folder), "--episodes=1"]) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_train_configured_evaluations_videos_and_schedules_are_made(tmp_path, monkeypatch, capsys):
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
    gc.collect()  # closes the pipes that the ffmpeg wrapper leaves open
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--episodes", "4", "--checkpoint", "checkpoints/best.safetensors"]) == 0
    assert "4 episodes" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_of_wrapped_environments_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--video_every=64", "--total_timesteps=64", "--env.num_envs=2", "--env.observe=[params]"]
    words += ["--env.wrappers=[{FrameStackObservation: {stack_size: 2}}, FlattenObservation]"]
    words += ["--env.changes.gravity={sinusoid: {mean: 9.8, amplitude: 1, period: 100}}"]
    assert main(["train", "cartpole_a2c", *words]) == 0
    assert len(list((run_folder(tmp_path, "cartpole_a2c") / "videos").glob("*.mp4"))) == 1
    gc.collect()  # closes the pipes that the ffmpeg wrapper leaves open


def test_train_stop_at_mean_return_ends_early(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "cartpole_a2c", "--total_timesteps=100000", "--eval_every=500", "--eval_episodes=2"]
    assert main([*words, "--stop_at=5"]) == 0
    assert read_run(run_folder(tmp_path, "cartpole_a2c")).steps[-1] < 1000


def test_print_config_shows_overrides(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole_a2c", "--seed=7", "--print_config"])
    assert end.value.code == 0
    assert "\nseed: 7\n" in capsys.readouterr().out
