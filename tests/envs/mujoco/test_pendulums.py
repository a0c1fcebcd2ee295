import numpy as np
import pytest

from tests.envs.mujoco.pairs import equal_steps, pair, reset_both

pytest.importorskip("mujoco")


def test_reward_of_the_double_pendulum_by_hand():
    env, _ = pair("InvertedDoublePendulum-v5", num_envs=1, healthy_reward=7.0)
    env.reset(seed=0)
    _, rewards, terminated, _, infos = env.step(np.zeros((1, 1), np.float32))
    data = env.envs[0].data
    (x, _, y), (_, first, second) = data.site_xpos[0], data.qvel
    penalties = 0.01 * x**2 + (y - 2) ** 2, 0.001 * first**2 + 0.005 * second**2
    assert rewards == pytest.approx(7.0 - sum(penalties))
    assert not terminated
    assert (infos["distance_penalty"], infos["velocity_penalty"]) == pytest.approx((-penalties[0], -penalties[1]))


@pytest.mark.parametrize("id", ["InvertedPendulum-v5", "InvertedDoublePendulum-v5"])
def test_arguments_of_the_single_environment_have_the_same_effect(id):
    ours, theirs = pair(id, "SameStep", frame_skip=3, reset_noise_scale=0.15)
    reset_both(ours, theirs, seed=2)
    terminations, _ = equal_steps(ours, theirs, 150)
    assert terminations > 0


def test_pendulum_that_is_not_finite_terminates():
    ours, theirs = pair("InvertedPendulum-v5", "Disabled")
    reset_both(ours, theirs, seed=0)
    for env in (ours.envs[1], theirs.envs[1].unwrapped):
        env.frame_skip = 0
        env.data.qvel[0] = np.inf
    with np.errstate(invalid="ignore"):
        equal_steps(ours, theirs, 1)
