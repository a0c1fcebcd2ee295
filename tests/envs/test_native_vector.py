import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from rl_rms.envs import make_vec
from tests.envs.classic_control.pairs import pair
from tests.naming import naming


def test_reset_with_a_wrong_argument_raises_value_error():
    env, _ = pair("Pendulum-v1")
    with pytest.raises(ValueError, match=naming("seed", "3 seeds", "2 seeds")):
        env.reset(seed=[1, 2])
    for mask in ([True, False, True], np.zeros(3, bool), np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match=naming("reset_mask", "3 bools")):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(ResetNeeded, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False, False])})


def test_constructor_with_a_wrong_argument_raises_value_error():
    for given, named in (
        ({"render_mode": "human"}, ("render_mode", "'human'", "sync")),
        ({"max_episode_steps": 0}, ("max_episode_steps", ">= 1", "0")),
        ({"num_envs": 0}, ("num_envs", ">= 1", "0")),
        ({"autoreset_mode": "Never"}, ("Never",)),
    ):
        with pytest.raises(ValueError, match=naming(*named)):
            make_vec("Pendulum-v1", **{"num_envs": 2, "vectorization_mode": "native", **given})


@pytest.mark.parametrize(
    ("id", "actions", "named"),
    [
        ("MountainCar-v0", [0, 1, 3], ("from 0 to 2", "3")),
        ("MountainCar-v0", [0, -1, 1], ("from 0 to 2", "-1")),
        ("Acrobot-v1", [0.0, 1.0, 2.0], ("whole numbers",)),
        ("Acrobot-v1", [[0], [1], [2]], ("(3,)", "(3, 1)")),
        ("Pendulum-v1", [0.0, 1.0, 2.0], ("(3, 1)", "(3,)")),
    ],
)
def test_step_with_wrong_actions_raises_value_error(id, actions, named):
    env, _ = pair(id)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("actions", *named)):
        env.step(np.array(actions))


def test_step_without_the_reset_that_is_needed_raises():
    env, _ = pair("Pendulum-v1", "Disabled", limit=1)
    actions = np.zeros((3, 1), np.float32)
    with pytest.raises(ResetNeeded):
        env.step(actions)
    env.reset(seed=0)
    assert env.step(actions)[3].all()
    with pytest.raises(ResetNeeded, match="reset_mask"):
        env.step(actions)


def test_episodes_without_a_time_limit_continue():
    env = type(pair("Pendulum-v1")[0])(num_envs=1)
    env.reset(seed=0)
    assert not any(env.step(np.zeros((1, 1), np.float32))[3].any() for _ in range(300))
