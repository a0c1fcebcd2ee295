"""A failure of these tests means that the installed Gymnasium differs from what gymnasium_internals.py expects."""

import inspect

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.envs import gymnasium_internals
from tests.faulty import Faulty
from tests.naming import naming


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_check_attributes_of_the_installed_gymnasium_passes(kind):
    env = kind([Faulty])
    gymnasium_internals.check_attributes(env)
    env.close()


def test_check_attributes_missing_attribute_raises_an_error_with_name_and_version(monkeypatch):
    env = SyncVectorEnv([Faulty])
    monkeypatch.setattr(gymnasium_internals, "ATTRIBUTES", {SyncVectorEnv: ("_gone",)})
    with pytest.raises(
        RuntimeError, match=naming("SyncVectorEnv", f"gymnasium {gym.__version__}", "'_gone'", "install")
    ):
        gymnasium_internals.check_attributes(env)


def test_worker_of_the_installed_gymnasium_has_the_known_arguments():
    worker = gym.vector.async_vector_env._async_worker  # gymnasium_internals starts it
    names = [
        "index",
        "env_fn",
        "pipe",
        "parent_pipe",
        "shared_memory",
        "error_queue",
        "autoreset_mode",
        "semaphore",
    ]
    parameters = list(inspect.signature(worker).parameters)
    assert parameters == names[: len(parameters)]
    assert len(parameters) >= 7


def test_start_worker_starts_a_worker_that_answers_gymnasiums_messages():
    env = AsyncVectorEnv([Faulty, Faulty])
    env.reset(seed=0)
    env.parent_pipes[1].close()
    env.processes[1].kill()
    env.processes[1].join()
    memory = gymnasium_internals.start_worker(env, 1, Faulty)
    assert env.reset(seed=0)[0].shape == (2, 3)
    assert env.step(np.zeros(2, int))[0][:, 0].tolist() == [1, 1]
    assert memory is not None
    env.close()


def test_continue_plain_sync_next_step_begins_the_pending_episode():
    env = SyncVectorEnv([Faulty, Faulty])
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    observations = np.full((2, 3), 7.0, np.float32)
    gymnasium_internals.continue_plain_sync(env, observations, np.array([True, False]))
    partial = env.reset(options={"reset_mask": np.array([True, False])})[0]
    assert partial[1].tolist() == [7.0, 7.0, 7.0]
    gymnasium_internals.continue_plain_sync(env, None, np.array([False, True]))
    assert env.step(np.zeros(2, int))[0][:, 0].tolist() == [1, 0]


def test_new_box2d_world_keeps_the_gravity():
    pytest.importorskip("Box2D")
    env = gym.make("BipedalWalker-v3")
    env.reset(seed=0)
    base = env.unwrapped
    base.world.gravity = (0.0, -3.0)
    old = base.world
    gymnasium_internals.new_box2d_world(base)
    assert base.world is not old
    assert tuple(base.world.gravity) == (0.0, -3.0)


def test_wrapper_states_are_the_attributes_that_the_installed_wrappers_add():
    env = gym.make("CartPole-v1")
    base = vars(gym.Wrapper(env)).keys() | {"_saved_kwargs"}
    found = {}
    while isinstance(env, gym.Wrapper):
        found[type(env)] = vars(env).keys() - base
        env = env.env
    for kind, names in gymnasium_internals.WRAPPER_STATES.items():
        assert found[kind] == set(names)


HEALTH = ("healthy_reward", "terminate_when_unhealthy", "healthy_z_range")
REWARD = ("forward_reward_weight", "ctrl_cost_weight", "exclude_current_positions_from_observation")
ARGUMENTS = {
    "HalfCheetah-v5": REWARD,
    "Swimmer-v5": REWARD,
    "Walker2d-v5": (*REWARD, *HEALTH, "healthy_angle_range"),
    "Hopper-v5": (*REWARD, *HEALTH, "healthy_angle_range", "healthy_state_range"),
    "Ant-v5": (
        *REWARD,
        *HEALTH,
        "contact_cost_weight",
        "contact_force_range",
        "include_cfrc_ext_in_observation",
        "main_body",
    ),
    "Humanoid-v5": (*REWARD, *HEALTH, "contact_cost_weight"),
    "InvertedDoublePendulum-v5": ("healthy_reward",),
    "Pusher-v5": ("reward_near_weight", "reward_dist_weight", "reward_control_weight"),
}


@pytest.mark.parametrize("id", ARGUMENTS)
def test_stored_as_is_the_attribute_of_the_installed_environments(id):
    pytest.importorskip("mujoco")
    env = gym.make(id)
    missing = [name for name in ARGUMENTS[id] if not hasattr(env.unwrapped, gymnasium_internals.stored_as(name))]
    assert not missing, f"{id} of gymnasium {gym.__version__} has no attributes for {missing}; update stored_as"
    env.close()
