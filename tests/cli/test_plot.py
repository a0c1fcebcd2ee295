"""``rl-rms plot``: groups of seeds, other libraries' runs, what is drawn and what cannot be."""

import sys

import matplotlib.image
import numpy as np
import pytest
from stable_baselines3 import A2C
from torch.utils.tensorboard import SummaryWriter

from rl_rms.cli.errors import UserError
from rl_rms.cli.events import read_events
from rl_rms.cli.groups import find_groups
from rl_rms.cli.main import main
from rl_rms.cli.plots import learning_curve, memory_curves, on_a_grid
from rl_rms.cli.regimes import read_regimes
from rl_rms.cli.runs import read_run
from rl_rms.cli.tracking import read_tracking
from tests.cli.runs import regime, write_run
from tests.naming import mentions


def names(groups):
    return {group.name: [log.folder.name for log in group.logs] for group in groups}


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def refused(*words):
    with pytest.raises(UserError) as error:
        find_groups(list(map(str, words)))
    return str(error.value)


# -- which runs belong together ---------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_a_group_named_by_what_tells_it_from_others(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"short{seed}", [1.0], seed=seed, agent={"half_life": 20})
        write_run(
            tmp_path / f"long{seed}", [1.0], seed=seed, agent={"half_life": "20_000 steps"}, runs_dir=str(seed)
        )
    assert names(find_groups([str(tmp_path)])) == {
        "half_life 20_000 steps": ["long0", "long1"],
        "half_life 20.0": ["short0", "short1"],
    }


def test_groups_that_differ_in_much_are_named_by_their_folders(tmp_path):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        other = {"learning_rate": rate, "half_life": 100 * rate, "gamma": rate, "ent_coef": rate}
        write_run(tmp_path / name / "run", [1.0], agent=other)
        write_run(tmp_path / name / "more", [1.0], agent=other | {"vf_coef": rate})
    found = names(find_groups([str(tmp_path)]))
    assert found == {"a": ["more"], "a (2)": ["run"], "b": ["more"], "b (2)": ["run"]}


def test_a_group_can_be_named(tmp_path):
    for name in ("first", "second", "third"):
        write_run(tmp_path / name, [1.0], agent={"half_life": len(name)})
    found = find_groups([f"mine={tmp_path}/*ir*", str(tmp_path / "second")])
    assert names(found) == {"mine": ["first", "third"], "second": ["second"]}


def test_a_folder_whose_name_looks_like_a_named_group_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "rho=0.9", [1.0])
    assert names(find_groups(["rho=0.9", "rho=0.9"])) == {"rho=0.9": ["rho=0.9"]}


# -- other libraries --------------------------------------------------------------------------------------


def clean_rl(folder, returns):
    with SummaryWriter(folder) as writer:
        for number, value in enumerate(returns, start=1):
            writer.add_scalar("charts/episodic_return", value, 10 * number)
    return folder


def test_a_run_of_stable_baselines3_is_read(tmp_path):
    model = A2C("MlpPolicy", "CartPole-v1", tensorboard_log=str(tmp_path), seed=0, device="cpu")
    model.learn(600, log_interval=20)
    log = read_events(tmp_path / "A2C_1")
    assert (log.library, log.name) == ("Stable-Baselines3", "A2C")
    assert log.steps == [100.0 * number for number in range(1, 7)]
    assert log.series("rollout/ep_rew_mean")[1][-1] == pytest.approx(
        np.mean([episode["r"] for episode in model.ep_info_buffer])
    )


def test_of_clean_rls_episodes_the_mean_of_the_last_hundred_is_read(tmp_path):
    log = read_events(clean_rl(tmp_path / "CartPole-v1__ppo__3__1690000000", range(150)))
    steps, returns = log.series("rollout/ep_rew_mean")
    assert (log.library, log.name, log.env_id) == ("CleanRL", "ppo", "CartPole-v1")
    assert steps[:2] == [10.0, 20.0]
    assert returns[0] == 0.0
    assert returns[1] == 0.5
    assert returns[99] == np.mean(range(100))
    assert returns[149] == np.mean(range(50, 150))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("A2C_12", "A2C"),
        ("ppo-seed3", "ppo"),
        ("ppo_seed_3", "ppo"),
        ("TD3", "TD3"),
        ("7", "7"),
        ("ppo_v2", "ppo_v2"),
    ],
)
def test_what_seeds_have_in_common_in_their_folders_names(folder, name, tmp_path):
    with SummaryWriter(tmp_path / folder) as writer:
        writer.add_scalar("rollout/ep_rew_mean", 1.0, 100)
    assert read_events(tmp_path / folder).name == name


def test_other_libraries_stand_beside_ours_their_seeds_together(tmp_path):
    for seed in (1, 2):
        clean_rl(tmp_path / f"CartPole-v1__ppo__{seed}__169000000{seed}", [1.0])
    write_run(tmp_path / "ours" / "run", [1.0])
    for number in (1, 2, 3):
        with SummaryWriter(tmp_path / f"PPO_{number}") as writer:
            writer.add_scalar("rollout/ep_rew_mean", 1.0, 100)
    assert {group.name: len(group.logs) for group in find_groups([str(tmp_path)])} == {
        "CleanRL ppo": 2,
        "Stable-Baselines3 PPO": 3,
        "ours": 1,
    }


# -- what is drawn ----------------------------------------------------------------------------------------


def test_seeds_are_laid_on_a_grid_that_all_have_lived(tmp_path):
    write_run(tmp_path / "0", [0.0, 10.0, 20.0], seed=0)  # 100, 200, 300
    write_run(tmp_path / "1", [10.0, 20.0], seed=1, every=150, total_timesteps=300)  # 150, 300
    (group,) = find_groups([str(tmp_path)])
    steps, returns = on_a_grid(group)
    assert (steps[0], steps[-1]) == (150.0, 300.0)
    np.testing.assert_allclose(returns[0], (steps - 100) / 10)
    np.testing.assert_allclose(returns[1], 10 + (steps - 150) / 15)


def test_the_line_is_the_interquartile_mean_within_its_band(tmp_path):
    for seed, value in enumerate([0.0, 2.0, 3.0, 100.0]):
        write_run(tmp_path / str(seed), [value, value + 1.0], seed=seed)
    figure = learning_curve(find_groups([str(tmp_path)]))
    (line,), (band,) = figure.axes[0].lines[:1], figure.axes[0].collections
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], [2.5, 3.5])  # of the middle two
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(0.0)
    assert edges.max() == pytest.approx(101.0)
    assert [axis.get_ylabel() for axis in figure.axes[1:]] == ["force_mag"]


def test_of_several_worlds_what_they_have_in_common_is_drawn(tmp_path):
    swing = {"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 100}}
    for at in (150, 250):
        jump = {"step": {"before": 10.0, "after": -10.0, "at": at}}
        write_run(tmp_path / str(at), [1.0] * 3, env={"changes": {"gravity": swing, "force_mag": jump}})
    figure = learning_curve(find_groups([str(tmp_path)]))
    assert [axis.get_ylabel() for axis in figure.axes[1:]] == ["gravity"]
    assert len(figure.axes[0].lines) == 2  # no line for a change that only one met


def test_many_groups_keep_their_own_looks_and_stand_outside_the_axes(tmp_path):
    for number in range(20):
        write_run(tmp_path / f"r{number}", [1.0, 2.0], agent={"half_life": number + 1})
    figure = learning_curve(find_groups([str(tmp_path)]))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:20]}
    assert len(looks) == len(labels(figure)) == 20
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < figure.axes[-1].get_window_extent().y0
    assert legend.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("tag", "label"),
    [
        ("optim/match_unbounded", "matched, before its bounds"),
        ("optim/bank_unbounded", "found, before its bounds"),
    ],
)
def test_the_half_life_in_force_stands_beside_the_one_found(tag, label, tmp_path):
    rows = [
        {
            "time/total_timesteps": 100 * number + 1,
            "train/n_updates": 50 * number,
            "optim/second_moment": 1.0,
            "optim/rho": 0.5,
            "optim/half_life_updates": 32.0,
            tag: 10.0 * number,
        }
        for number in range(1, 4)
    ]
    run = read_run(write_run(tmp_path / "run", [1.0], rows=rows))
    _, half_lives = memory_curves(run, read_tracking(run)).axes
    lines = {line.get_label(): line.get_ydata() for line in half_lives.lines}
    assert list(lines["in force"]) == [32.0, 32.0, 32.0]
    assert list(lines[label]) == [10.0, 20.0, 30.0]


def test_regimes_are_read_as_they_were_logged(tmp_path):
    numbers = [{"time/total_timesteps": step, "env/regime": float(step > 1000)} for step in (500, 900, 1100, 2500)]
    rows = [*numbers, regime(1000, 1.0, 200.0), regime(2000, 50.0, 150.0, 300.0), regime(3000, 140.0, 6.0)]
    first, second, third = read_regimes(read_run(write_run(tmp_path / "run", [], rows=rows)))
    assert (first.start, first.end) == (0, 1000)
    assert np.isnan([first.before, first.recovery]).all()
    assert (second.start, second.before, second.recovery, second.fell) == (1000, 200.0, 300.0, True)
    assert (third.recovery, third.fell) == (np.inf, False)


# -- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "written"),
    [
        (["a.png"], ["a.png"]),
        (["a.svg"], ["a.svg"]),
        ([], ["comparison.png"]),
    ],
)
def test_files_are_as_asked_for(output, written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [str(write_run(tmp_path / "runs" / name, [1.0, 2.0], agent={"half_life": 9})) for name in "ab"]
    runs += [str(write_run(tmp_path / "runs" / "c", [1.0, 2.0]))]
    assert main(["plot", *runs, *(word for name in output for word in ("--output", name))]) == 0
    assert capsys.readouterr().out.split() == written
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == written
    for name in written:
        if name.endswith(".svg"):
            assert "<svg" in (tmp_path / name).read_text()
        else:
            assert matplotlib.image.imread(tmp_path / name).shape[1] == 8 * 130


def test_a_single_run_is_drawn_into_its_folder_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    folder = write_run(tmp_path / "run", [1.0, 2.0], rows=[regime(1000, 1.0, 2.0), regime(2000, 1.0, 2.0, 3.0)])
    assert main(["plot", str(folder)]) == 0
    assert (folder / "learning_curve.png").is_file()


def test_a_seed_that_ended_early_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, count in enumerate([10, 5]):
        write_run(tmp_path / "runs" / str(seed), [1.0] * count, seed=seed, total_timesteps=1000)
    assert main(["plot", "runs"]) == 0
    assert "runs is drawn up to env step 500, where runs/1 ends" in capsys.readouterr().err


def error_of(capsys, *words):
    assert main(["plot", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_several_seeds_need_the_extra_and_the_error_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rliable", None)
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [1.0], seed=seed)
    assert "pip install 'rl_rms[plots]'" in error_of(capsys, tmp_path)


def test_wrong_words_are_answered_in_sentences(tmp_path, capsys):
    run = write_run(tmp_path / "run", [1.0])
    assert mentions(error_of(capsys, "nowhere"), "nowhere", "folder of a run")
    assert mentions(error_of(capsys, "mine=nowhere/*"), "nowhere/*", "folder of a run")
    (tmp_path / "empty").mkdir()
    assert mentions(error_of(capsys, tmp_path / "empty"), "empty", "config.yaml")
    assert mentions(error_of(capsys, run, "--output", "a.pdf"), "--output", "'a.pdf'")
    assert not list(tmp_path.glob("**/*.png"))


def test_runs_that_logged_nothing_are_named(tmp_path):
    empty = write_run(tmp_path / "empty", [])
    assert mentions(refused(empty), str(empty), "episode returns")
    with SummaryWriter(tmp_path / "losses") as writer:
        writer.add_scalar("loss", 1.0, 1)
    assert mentions(refused(tmp_path / "losses"), "episode returns", "rollout/ep_rew_mean")


def test_mixed_environments_are_refused(tmp_path):
    pole = write_run(tmp_path / "pole", [1.0])
    other = clean_rl(tmp_path / "Acrobot-v1__dqn__1__1690000000", [1.0])
    told = refused(pole, other)
    assert (
        f"several environments, whose returns do not compare: CartPole-v1 ({pole}) and Acrobot-v1 ({other})"
        in told
    )
