import numpy as np
import pytest

from tests.envs.mujoco.pairs import RUNNERS, equal_steps, pair, reset_both

mujoco = pytest.importorskip("mujoco")

# Arguments with which observations, rewards and terminations differ from the default.
ARGUMENTS = {
    "Hopper-v5": {"healthy_state_range": [-5.0, 4.0], "healthy_reward": 2, "terminate_when_unhealthy": True},
    "Walker2d-v5": {"terminate_when_unhealthy": False, "healthy_z_range": (1.0, 1.5), "frame_skip": 5},
    "HalfCheetah-v5": {"forward_reward_weight": 2, "ctrl_cost_weight": 1, "reset_noise_scale": 0.3},
    "Swimmer-v5": {"ctrl_cost_weight": 0.3},
    "Ant-v5": {
        "main_body": "front_left_leg",
        "include_cfrc_ext_in_observation": False,
        "healthy_z_range": (0.5, 0.9),
    },
}


@pytest.mark.parametrize("excludes", [False, True])
@pytest.mark.parametrize("id", RUNNERS)
def test_arguments_of_the_single_environment_have_the_same_effect(id, excludes):
    ours, theirs = pair(id, exclude_current_positions_from_observation=excludes, **ARGUMENTS[id])
    reset_both(ours, theirs, seed=2)
    equal_steps(ours, theirs, 150)
    assert ours.observation_space == theirs.observation_space


def test_contacts_of_the_ant_cost_reward():
    ours, theirs = pair("Ant-v5", contact_cost_weight=0.1)
    reset_both(ours, theirs, seed=0)
    equal_steps(ours, theirs, 50)
    infos = ours.step(np.zeros((3, 8), np.float32))[-1]
    assert (infos["reward_contact"] < 0).any()


def test_terminated_sub_environment_is_not_stepped_before_its_reset(monkeypatch):
    ours, _ = pair("Hopper-v5", "NextStep", num_envs=2)
    ours.reset(seed=0)
    actions = np.ones((2, 3), np.float32)
    while not ours.ended.any():
        ours.step(actions)
    ended = ours.ended.copy()
    row = int(np.flatnonzero(ended)[0])
    stepped, step = [], mujoco.mj_step
    monkeypatch.setattr(mujoco, "mj_step", lambda model, data, **k: (stepped.append(data), step(model, data, **k)))
    observations, rewards, terminated, _, infos = ours.step(actions)
    assert len(stepped) == np.count_nonzero(~ended)
    assert all(data is not ours.envs[row].data for data in stepped)
    assert ours.envs[row].data.time == 0.0
    assert (rewards[row], terminated[row]) == (0.0, False)
    assert infos["_x_position"].all()
    assert not infos["_x_velocity"][row]
    assert observations[row, 0] == ours.envs[row].data.qpos[1]
