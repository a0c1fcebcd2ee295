import numpy as np
import pytest
from stable_baselines3 import A2C

from rl_rms.cli.errors import UserError
from rl_rms.cli.events import read_events
from tests.cli.runs import write_clean_rl, write_events
from tests.naming import naming


def test_read_run_of_stable_baselines3_has_its_returns(tmp_path):
    model = A2C("MlpPolicy", "CartPole-v1", tensorboard_log=str(tmp_path), seed=0, device="cpu")
    model.learn(600, log_interval=20)
    log = read_events(tmp_path / "A2C_1")
    assert (log.library, log.name) == ("Stable-Baselines3", "A2C")
    assert log.steps == [100.0 * number for number in range(1, 7)]
    assert log.series("rollout/ep_rew_mean")[1][-1] == pytest.approx(
        np.mean([episode["r"] for episode in model.ep_info_buffer])
    )


def test_read_run_of_cleanrl_averages_a_hundred_episodes(tmp_path):
    log = read_events(write_clean_rl(tmp_path / "CartPole-v1__ppo__3__1690000000", range(150)))
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
        ("mine/7", "mine"),
        ("ppo_v2", "ppo_v2"),
    ],
)
def test_common_name_of_seed_folders_drops_the_seed(folder, name, tmp_path):
    assert read_events(write_events(tmp_path / folder)).name == name


@pytest.mark.parametrize(
    ("folder", "seed"),
    [
        ("ppo-seed3", 3),
        ("ppo-seed_4/A2C_1", 4),
        ("CartPole-v1__ppo__5__1690000000", 5),
        ("A2C_12", None),
    ],
)
def test_read_events_takes_the_seed_from_the_folder(folder, seed, tmp_path):
    assert read_events(write_events(tmp_path / folder)).seed == seed


def test_read_events_of_returns_that_are_all_nan_raises(tmp_path):
    with pytest.raises(UserError, match=naming("PPO_1", "NaN")):
        read_events(write_events(tmp_path / "PPO_1", [float("nan")] * 2))
