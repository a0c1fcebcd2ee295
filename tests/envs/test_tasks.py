"""Ready-made tasks pass the checkers of Gymnasium and Stable-Baselines3, and change as described."""

import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from gymnasium.utils.env_checker import check_env

from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.tasks import NAMESPACE, TASKS, make_task, task_config

with warnings.catch_warnings():
    # If pytest raised this warning of Box2D's binding as an error, the interpreter would end.
    warnings.simplefilter("ignore")
    import gymnasium.envs.box2d

NAMES = pytest.mark.parametrize("name", TASKS)


def test_every_environment_has_a_task_of_every_kind():
    environments = "CartPole Acrobot MountainCar Pendulum LunarLander BipedalWalker Hopper HalfCheetah FrozenLake"
    expected = {
        f"{kind}{one}-v0" for kind in ("Drifting", "Jumping", "Curriculum") for one in environments.split()
    }
    expected |= {"DriftingAnt-v0", "SlipperyAnt-v0", "CurriculumAnt-v0", "SwitchingFrozenLake-v0"}
    expected |= {f"Offset{one}-v0" for one in ("CartPole", "Acrobot", "LunarLander")}
    expected |= {"RewardScaleCartPole-v0", "DriftingBandit-v0", "JumpingBandit-v0", "JumpingTwoStates-v0"}
    assert TASKS.keys() == expected


def said(check, env):
    """The warnings of a checker for an environment."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(env, skip_render_check=True)
    env.close()
    return {str(warning.message) for warning in caught}


def test_environments_page_lists_every_task_with_its_change():
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    rows = [f"| `rl_rms/{name}` | `{task.base}` | {task.about} |" for name, task in TASKS.items()]
    assert "\n".join(rows) in page


@NAMES
@pytest.mark.parametrize("check", [check_env, stable_baselines3.common.env_checker.check_env])
def test_checkers_warn_only_of_the_inner_environment(name, check):
    task = TASKS[name]
    try:
        of_the_base = said(check, gym.make(task.base, disable_env_checker=True, **task.kwargs))
    except AssertionError:  # FrozenLake has integer rewards
        of_the_base = set()
    new = {
        message
        for message in said(check, make_task(name)) - of_the_base
        # Gymnasium's checker warns about every wrapper, and about infinite bounds of the `Offset` tasks.
        if "is different from the unwrapped version" not in message
        and not (name.startswith("Offset") and "infinity" in message)
    }
    assert new == set()


@NAMES
def test_parameters_change_in_every_task(name):
    env = make_task(name, seed=0)
    env.reset(seed=0)
    begin = env.parameters
    if env.curriculum is not None:
        assert set(env.curriculum.targets) == set(begin)
    else:
        assert np.isfinite(env.timescale)
        at = [0, 57_301, 126_011, 2_507_103, 4_321_001]
        seen = []
        for clock in at:
            env.clock = clock
            seen.append(env.parameters)
        for target in begin:
            assert len({parameters[target] for parameters in seen}) > 1, target
    for _ in range(20):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert "rl_rms.regime" in info
        if terminated or truncated:
            env.reset()
    env.close()


@NAMES
def test_configuration_makes_the_same_task(name):
    config = task_config(name)
    env = make_task(name, seed=3)
    assert env.schedules == config.schedules()
    assert isinstance(env, NonStationary)
    env.close()


def test_arguments_reach_the_environment_and_the_wrapper():
    env = gym.make(f"{NAMESPACE}/DriftingCartPole-v0", render_mode="rgb_array", seed=5)
    env.reset(seed=0)
    assert env.render().shape == (400, 600, 3)
    assert env.get_wrapper_attr("state_dict")()["seed"] == 5
    env.close()


def test_make_with_a_module_imports_it():
    env = gym.make("rl_rms.envs.tasks:rl_rms/JumpingTwoStates-v0")
    env.reset(seed=0)
    assert env.unwrapped.reward_1 == 1.0


def test_two_states_task_swaps_the_rewards():
    env = make_task("JumpingTwoStates-v0", seed=0)
    env.reset(seed=0)
    best = []
    for clock in (0, 4_999, 5_000, 9_999, 10_000):
        env.clock = clock
        best.append(env.unwrapped.optimal_policy(0.9).tolist())
    assert best == [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize("mode", [None, "sync"])
def test_make_vec_of_a_task_has_one_clock(mode):
    env = make_vec("rl_rms/JumpingCartPole-v0", 4, {"length": 0.7}, seed=0, vectorization_mode=mode)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.clock == 4
    assert env.parameters["length"] == 0.7
    assert env.schedules["force_mag"] == task_config("JumpingCartPole-v0").schedules()["force_mag"]


def test_make_vec_of_a_task_takes_arguments_and_curricula():
    env = make_vec("rl_rms/CurriculumFrozenLake-v0", 2, seed=0, map_name="8x8")
    assert env.curriculum.targets == ("success_rate",)
    assert env.single_observation_space.n == 64
    assert make_vec("rl_rms/JumpingLunarLander-v0", 1).env.envs[0].unwrapped.enable_wind
    assert make_vec("rl_rms/DriftingBandit-v0", 2).single_action_space.n == 10


def test_unknown_task_is_named():
    with pytest.raises(gym.error.NameNotFound, match="WobblyCartPole"):
        make_vec("rl_rms/WobblyCartPole-v0", 2)
