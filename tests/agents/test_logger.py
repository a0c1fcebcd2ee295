import os
import re
import shutil
import subprocess
import sys

import pytest
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rl_rms.agents import (
    A2C,
    AdaptationCallback,
    CheckpointCallback,
    EvalCallback,
    files,
)
from rl_rms.agents.description import flat_hyperparameters
from rl_rms.agents.logger import Logger, layout
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Sinusoid
from tests.agents.logs import RETURN, charted, events, logged
from tests.naming import naming


def test_layout_has_charts_of_the_logged_tags():
    tags = [
        "rollout/ep_rew_mean",
        "eval/mean_reward/at_70",
        "env/reward.scale",
        "env/timescale",
        "optim/second_moment",
    ]
    low = "optim/log10_second_moment_low"
    assert layout([*tags, low]) == {
        "return": {
            "mean return of the last 100 episodes": ["Multiline", ["rollout/ep_rew_mean$"]],
            "mean return of evaluations": ["Multiline", [r"eval/mean_reward(/at_\d+)?$"]],
        },
        "environment": {"env/reward.scale": ["Multiline", [r"env/reward\.scale$"]]},
        "half-life": {
            "second moment v and squared gradients": [
                "Multiline",
                ["optim/second_moment$", "optim/squared_gradient$"],
            ],
            "log10 of v: median, 10 % and 90 %": [
                "Margin",
                ["optim/log10_second_moment_median", low, "optim/log10_second_moment_high"],
            ],
        },
    }
    assert layout(["time/fps"]) == {}


def layouts(folder):
    found = events(folder).Tensors("custom_scalars__config__")
    return [Layout.FromString(one.tensor_proto.string_val[0]) for one in found]


def test_layout_of_a_resumed_run_is_written_once_with_the_environment_parameters(tmp_path):
    changes = {"gravity": Sinusoid(mean=9.8, amplitude=4.0, period=2_000)}
    agent = A2C(make_vec("CartPole-v1", 4, changes), seed=0)
    evaluation = EvalCallback(every=400, episodes=1, clocks=[0])
    agent.learn(200, evaluation, log_dir=tmp_path, log_interval=5)
    (arranged,) = layouts(tmp_path)
    assert [heading.title for heading in arranged.category] == ["return", "environment", "half-life", "step"]
    titles = [[chart.title for chart in heading.chart] for heading in arranged.category]
    # The first log writes the layout, before an episode has ended and an evaluation has run.
    assert titles[0] == ["mean return of the last 100 episodes", "mean return of evaluations"]
    assert titles[1] == ["env/gravity", "env/regime"]
    scalars = set(events(tmp_path).Tags()["scalars"])
    for chart in (chart for heading in arranged.category for chart in heading.chart):
        margins = [[one.value, one.lower, one.upper] for one in chart.margin.series]
        for pattern in [*chart.multiline.tag, *(tag for tags in margins for tag in tags)]:
            assert any(re.match(pattern, tag) for tag in scalars), pattern
    assert len(list(tmp_path.glob("events.*"))) == 1
    agent.learn(200, log_dir=tmp_path, log_interval=5)
    assert len(list(tmp_path.glob("events.*"))) == 2
    assert layouts(tmp_path) == [arranged]
    agent.learn(200, log_dir=tmp_path / "elsewhere", log_interval=5)
    assert len(layouts(tmp_path / "elsewhere")) == 1


def experiment(folder):
    """Names of the hyperparameters that differ, and of the results, in the HParams tab."""
    data = events(folder).summary_metadata["_hparams_/experiment"].plugin_data.content
    content = HParamsPluginData.FromString(data).experiment
    first = [info.name for info in content.hparam_infos if info.differs]
    return first, [info.name.tag for info in content.metric_infos]


def test_hparams_have_only_measured_results(tmp_path):
    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    usual = ["optim/half_life_updates", "rollout/ep_len_mean", "time/fps"]
    agent.learn(8, EvalCallback(every=200, episodes=1, at_end=False), log_dir=tmp_path / "short")
    assert experiment(tmp_path / "short")[1] == ["optim/half_life_updates", "time/fps"]
    agent.learn(400, log_dir=tmp_path / "plain")
    assert experiment(tmp_path / "plain")[1] == ["rollout/ep_rew_mean", "adaptation/worst_mean", *usual]
    evaluation = EvalCallback(every=200, episodes=1, clocks=[0, 50])
    agent.learn(400, [evaluation, AdaptationCallback()], log_dir=tmp_path / "evaluated")
    first, results = experiment(tmp_path / "evaluated")
    evaluated = ["eval/mean_reward/at_0", "eval/mean_reward/at_50", "adaptation/worst_mean"]
    assert results == ["rollout/ep_rew_mean", *evaluated, *usual]
    assert set(results) <= set(events(tmp_path / "evaluated").Tags()["scalars"])
    assert sorted(first) == ["env", "half_life", "learning_rate", "seed"]


def test_hparams_of_an_interrupted_run_are_completed_on_resume(tmp_path):
    def interrupt(agent):
        raise KeyboardInterrupt

    agent = A2C(make_vec("CartPole-v1", 4), seed=0)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(400, interrupt, log_dir=tmp_path)
    hparams = [tag for tag in events(tmp_path).summary_metadata if tag.startswith("_hparams_")]
    assert hparams == ["_hparams_/session_start_info"]
    agent.learn(400, log_dir=tmp_path)
    assert "rollout/ep_rew_mean" in experiment(tmp_path)[1]


@pytest.mark.parametrize(
    ("half_life", "shown"), [(None, "200 updates"), (69, "69 updates"), ("2_000 steps", "2000 steps")]
)
def test_hparams_have_environment_and_half_life(half_life, shown):
    values = flat_hyperparameters(A2C(make_vec("CartPole-v1", 4), half_life=half_life, seed=3))
    assert (values["env"], values["num_envs"], values["seed"]) == ("CartPole-v1", 4, 3)
    assert values["half_life"] == shown


def test_log_write_error_continues_training_and_is_retried(tmp_path):
    folder = tmp_path / "run"
    with Logger(folder) as logger:
        logger.hyperparameters({"seed": 0})
        logger.write(1, {RETURN: 1.0})
        shutil.rmtree(folder)
        folder.write_text("in the way")
        with pytest.warns(UserWarning, match=naming("cannot write", "run")):
            logger.write(2, {RETURN: 2.0})
        logger.write(3, {RETURN: 3.0})
        logger.mark(3, "regime 1", "nothing")
        folder.unlink()
        logger.write(4, {RETURN: 4.0})
        logger.write(5, {RETURN: 5.0})
    assert (folder / "metrics.csv").read_text().split() == [f"time/total_timesteps,{RETURN}", "4,4.0", "5,5.0"]
    assert charted(folder) == [4, 5]
    assert "_hparams_/session_start_info" in events(folder).summary_metadata
    assert not list(folder.glob(".*.part"))


def test_log_deleted_folder_is_recreated_with_a_warning(tmp_path):
    with Logger(tmp_path / "run") as logger:
        logger.write(1, {RETURN: 1.0})
        shutil.rmtree(tmp_path / "run")
        with pytest.warns(UserWarning, match=naming("log", "run", "deleted")):
            logger.write(2, {RETURN: 2.0})
        logger.write(3, {RETURN: 3.0})
    assert charted(tmp_path / "run") == [2, 3]


def test_log_folder_deleted_within_an_entry_is_recreated_by_the_next(tmp_path, monkeypatch):
    append = files.append

    def deleted_first(path, content):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        append(path, content)

    with Logger(tmp_path / "run") as logger:
        logger.write(1, {RETURN: 1.0})
        with monkeypatch.context() as patch:
            patch.setattr(files, "append", deleted_first)
            logger.write(2, {RETURN: 2.0})
        with pytest.warns(UserWarning, match=naming("log", "run", "deleted")):
            logger.write(3, {RETURN: 3.0})
        logger.write(4, {RETURN: 4.0})
    assert charted(tmp_path / "run") == [3, 4]


def test_log_dir_without_write_access_raises_before_the_first_env_step(tmp_path):
    (tmp_path / "file").write_text("")
    agent = A2C("CartPole-v1", seed=0)
    with pytest.raises(files.UnwritableError, match=naming("cannot write", "file/run")):
        agent.learn(100, log_dir=tmp_path / "file" / "run")
    with pytest.raises(files.UnwritableError, match="cannot write"):
        agent.learn(100, CheckpointCallback(tmp_path / "file" / "checkpoints", 10))
    assert agent.num_timesteps == 0


@pytest.mark.parametrize("torn", ["12", "12800", "12800,", "12800,7"])
def test_metrics_partial_last_line_is_repaired_on_resume(tmp_path, torn):
    logged(tmp_path, [100, 200])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(torn)
    logged(tmp_path, [300], resumed_at=250)
    lines = (tmp_path / "metrics.csv").read_text().split()
    assert lines == [f"time/total_timesteps,{RETURN}", "100,100.0", "200,200.0", "300,300.0"]


def test_log_dir_of_another_process_raises(tmp_path):
    with Logger(tmp_path):
        script = "import pathlib, sys; from rl_rms.agents.logger import Logger; Logger(pathlib.Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
        )
    assert f"TakenError: {tmp_path} is being written by process {os.getpid()} on" in done.stderr


def test_log_dir_of_another_agent_moves_its_log_to_a_subfolder(tmp_path):
    first = A2C("CartPole-v1", seed=0).learn(200, log_dir=tmp_path, log_interval=10)
    curve = charted(tmp_path)
    with pytest.warns(UserWarning, match=naming("log", "earlier1")):
        A2C("CartPole-v1", seed=1).learn(100, log_dir=tmp_path, log_interval=10)
    assert charted(tmp_path / "earlier1") == curve
    assert max(charted(tmp_path)) <= 105
    steps = [int(line.split(",")[0]) for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))
    with pytest.warns(UserWarning, match=naming("earlier2")):
        A2C("CartPole-v1", seed=2).learn(100, log_dir=tmp_path, log_interval=10)
    first.learn(100, log_dir=tmp_path / "earlier1", log_interval=10)
    assert charted(tmp_path / "earlier1")[: len(curve)] == curve


def test_metrics_of_a_damaged_log_keep_whole_rows(tmp_path):
    logged(tmp_path, [100, 200, 300])
    path = tmp_path / "metrics.csv"
    path.write_bytes(path.read_bytes().replace(b"200,100.0", b"2\0\0").replace(b"200,200.0", b"\0" * 9))
    with pytest.warns(UserWarning, match=naming("metrics.csv", "line 3", "damaged")):
        logged(tmp_path, [400], resumed_at=300)
    assert [line.split(",")[0] for line in path.read_text().split()[1:]] == ["100", "300", "400"]
    path.write_bytes(b"\0" * 100 + b"\n")
    with (
        pytest.warns(UserWarning, match=naming("line 1", "header", "damaged")),
        pytest.warns(UserWarning, match=naming("metrics.csv.damaged")),
    ):
        logged(tmp_path, [500], resumed_at=400)
    assert (tmp_path / "metrics.csv.damaged").read_bytes() == b"\0" * 100 + b"\n"


def test_metrics_rows_after_the_checkpoint_are_dropped_with_a_warning(tmp_path):
    logged(tmp_path, [100, 200, 300])
    with pytest.warns(UserWarning, match=naming("2 rows", "env step 150")):
        logged(tmp_path, [160], resumed_at=150)
