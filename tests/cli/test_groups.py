"""Groups of runs that differ only in their seed, and the names of the groups."""

import os

import pytest

from rl_rms.agents import A2C
from rl_rms.cli.errors import UserError
from rl_rms.cli.groups import find_groups, newest_run
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import PoissonJumps
from tests.cli.runs import write_clean_rl, write_events, write_run
from tests.naming import mentions, naming


def names(groups):
    return {group.name: [log.folder.name for log in group.logs] for group in groups}


def refused(*words):
    with pytest.raises(UserError) as error:
        find_groups(list(map(str, words)))
    return str(error.value)


def test_find_groups_runs_with_different_seeds_form_a_group(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"short{seed}", [1.0], seed=seed, agent={"half_life": 20})
        write_run(
            tmp_path / f"long{seed}", [1.0], seed=seed, agent={"half_life": "20_000 steps"}, runs_dir=str(seed)
        )
    assert names(find_groups([str(tmp_path)])) == {
        "half-life 20,000 steps": ["long0", "long1"],
        "half-life 20 updates": ["short0", "short1"],
    }


def started(folder, time):
    """Set the time at which a run was started."""
    os.utime(folder / "config.yaml", (time, time))
    return folder


def test_find_groups_with_a_repeated_seed_keeps_the_newest_run(tmp_path, capsys):
    for name, time in (("new", 3), ("old", 1), ("older", 2)):
        started(write_run(tmp_path / name, [1.0]), time)
    started(write_run(tmp_path / "other", [1.0], seed=1), 0)
    assert names(find_groups([str(tmp_path)])) == {tmp_path.name: ["new", "other"]}
    assert names(find_groups([f"mine={tmp_path}/*"])) == {"mine": ["new", "other"]}
    said = capsys.readouterr().err
    assert str(tmp_path / "old") in said
    assert str(tmp_path / "older") in said


def test_find_groups_runs_with_different_drift_seeds_form_a_group(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [1.0], env={"drift_seed": seed})
    assert names(find_groups([str(tmp_path)])) == {tmp_path.name: ["0", "1"]}


def test_find_groups_names_have_separators_in_large_numbers(tmp_path):
    for name, total in (("a", 20_000), ("b", 100)):
        write_run(tmp_path / name, [1.0], total_timesteps=total)
    assert names(find_groups([str(tmp_path)])) == {"total timesteps 20,000": ["a"], "total timesteps 100": ["b"]}


@pytest.mark.parametrize(
    "other", [{"progress": "none"}, {"checkpoint_every": 10, "keep_checkpoints": 1}, {"histogram_every": 10}]
)
def test_find_groups_runs_with_another_output_form_a_group(other, tmp_path):
    write_run(tmp_path / "a", [1.0])
    write_run(tmp_path / "b", [1.0], seed=1, **other)
    assert names(find_groups([str(tmp_path)])) == {tmp_path.name: ["a", "b"]}


@pytest.mark.parametrize("words", [["runs"], ["runs/a", "runs/b", "runs/c"], ["runs/*"]])
def test_newest_run_of_several_is_named(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, time in (("a", 1), ("b", 3), ("c", 2)):
        started(write_run(tmp_path / "runs" / name, [1.0]), time)
    assert str(newest_run(words)) == "runs/b"
    assert "runs/b" in capsys.readouterr().err


def test_newest_run_of_a_single_run_prints_nothing(tmp_path, capsys):
    assert newest_run([str(write_run(tmp_path / "a", [1.0]))]) == tmp_path / "a"
    assert capsys.readouterr().err == ""


def script(folder, seed, changes=None):
    """Train with `learn`, without the command line, and log to a folder."""
    A2C(make_vec("CartPole-v1", 2, changes, seed=seed), seed=seed).learn(300, log_dir=folder, log_interval=5)


def test_find_groups_of_scripts_groups_their_seeds(tmp_path):
    for seed in (0, 1, 2):
        script(tmp_path / f"seed{seed}", seed, {"length": PoissonJumps(0.3, 2.0, mean_dwell=50)})
        script(tmp_path / "still" / str(seed), seed)
    assert sorted(len(group.runs) for group in find_groups([str(tmp_path)])) == [3, 3]


def test_newest_run_of_scripts_names_the_remedy(tmp_path):
    script(tmp_path / "script", 0)
    with pytest.raises(UserError, match=naming(str(tmp_path / "script"), "A2C.load")):
        newest_run([str(tmp_path)])
    write_run(tmp_path / "run", [1.0])
    assert newest_run([str(tmp_path)]) == tmp_path / "run"


def test_find_groups_with_many_differences_are_named_by_folder_and_listed(tmp_path, capsys):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        other = {"learning_rate": rate, "half_life": 100 * rate, "gamma": rate, "ent_coef": rate}
        write_run(tmp_path / name / "run", [1.0], agent=other)
        write_run(tmp_path / name / "more", [1.0], agent=other | {"vf_coef": rate})
    found = names(find_groups([str(tmp_path)]))
    assert found == {"a": ["more"], "a (2)": ["run"], "b": ["more"], "b (2)": ["run"]}
    assert f"group a (2): {tmp_path / 'a' / 'run'}\n" in capsys.readouterr().err


def test_find_groups_with_a_given_name_uses_it(tmp_path):
    for number, name in enumerate(("first", "second", "third")):
        write_run(tmp_path / name, [1.0], agent={"half_life": 5 + number})
    found = find_groups([f"mine={tmp_path}/*ir*", str(tmp_path / "second")])
    assert names(found) == {"mine": ["first", "third"], "second": ["second"]}


def test_find_groups_with_given_names_can_share_runs(tmp_path):
    for number, name in enumerate(("first", "second", "third")):
        write_run(tmp_path / name, [1.0], agent={"half_life": 5 + number})
    found = find_groups([f"one={tmp_path}/first", f"all={tmp_path}/*", str(tmp_path)])
    assert names(found) == {"one": ["first"], "all": ["first", "second", "third"]}


def test_find_groups_folder_with_an_equals_sign_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "rho=0.9", [1.0])
    assert names(find_groups(["rho=0.9", "rho=0.9"])) == {"rho=0.9": ["rho=0.9"]}


def test_find_groups_of_other_libraries_groups_their_seeds(tmp_path):
    for seed in (1, 2):
        write_clean_rl(tmp_path / f"CartPole-v1__ppo__{seed}__169000000{seed}", [1.0])
    write_run(tmp_path / "ours" / "run", [1.0])
    for number in (1, 2, 3):
        write_events(tmp_path / f"PPO_{number}")
        write_events(tmp_path / f"dqn-seed{number}" / "DQN_1")
    assert {group.name: len(group.logs) for group in find_groups([str(tmp_path)])} == {
        "CleanRL ppo": 2,
        "Stable-Baselines3 DQN": 3,
        "Stable-Baselines3 PPO": 3,
        "ours": 1,
    }


def test_plot_empty_run_names_it(tmp_path):
    empty = write_run(tmp_path / "empty", [])
    assert mentions(refused(empty), str(empty), "episode returns")
    losses = write_events(tmp_path / "losses", tag="loss")
    assert mentions(refused(losses), "episode returns", "rollout/ep_rew_mean")


def test_plot_runs_of_different_environments_raises(tmp_path):
    pole = write_run(tmp_path / "pole", [1.0])
    other = write_clean_rl(tmp_path / "Acrobot-v1__dqn__1__1690000000", [1.0])
    message = refused(pole, other)
    assert f"all runs must have the same environment, got CartPole-v1 ({pole}) and Acrobot-v1 ({other})" in message
