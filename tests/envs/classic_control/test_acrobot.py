import numpy as np
import pytest
from gymnasium.envs.classic_control import AcrobotEnv
from gymnasium.utils.env_checker import data_equivalence

from rl_rms.envs.classic_control import AcrobotVectorEnv
from tests.envs.classic_control.pairs import pair, states


def equal_steps(ours, theirs, steps):
    """Compare steps with random actions from the same states."""
    random = np.random.default_rng(0)
    for _ in range(steps):
        actions = random.integers(3, size=ours.num_envs)
        assert data_equivalence(ours.step(actions), theirs.step(actions))
        assert ours.state == pytest.approx(states(theirs), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("noise", [0.5, [0.0, 0.5, 1.0]], ids=["a scalar", "a value for each"])
def test_torque_noise_draws_the_random_numbers_of_each_sub_environment(noise):
    ours, theirs = pair("Acrobot-v1", limit=20)
    ours.torque_noise_max = np.array(noise) if isinstance(noise, list) else noise
    for env, one in zip(theirs.envs, np.broadcast_to(noise, 3), strict=True):
        env.unwrapped.torque_noise_max = one
    for env in (ours, theirs):
        env.reset(seed=0)
    equal_steps(ours, theirs, 60)


def test_book_or_nips_selects_the_equations():
    ours, theirs = pair("Acrobot-v1")
    ours.book_or_nips = "nips"
    for env in theirs.envs:
        env.unwrapped.book_or_nips = "nips"
    for env in (ours, theirs):
        env.reset(seed=0)
    equal_steps(ours, theirs, 50)
    book, _ = pair("Acrobot-v1")
    book.reset(seed=0)
    with pytest.raises(AssertionError):
        equal_steps(book, theirs, 50)


def test_step_wraps_angles_after_several_turns():
    ours, theirs = pair("Acrobot-v1", limit=500)
    for env in (ours, theirs):
        env.reset(seed=0)
    # Velocities near their limits, with a long step, turn the second link more than twice.
    ours.dt = 1.0
    ours.state = np.array([[1.0, -1.0, 3.0], [3.0, -3.0, 0.0], [3.0, -3.0, 0.0], [25.0, -25.0, 28.0]])
    for row, env in enumerate(theirs.envs):
        env.unwrapped.dt = 1.0
        env.unwrapped.state = ours.state[:, row].copy()
    equal_steps(ours, theirs, 1)
    assert (np.abs(ours.state[:2]) <= np.pi).all()


def test_first_observations_are_computed_in_single_precision():
    single = AcrobotEnv()
    expected = np.array([single.reset(seed=seed)[0] for seed in range(3_000)])
    assert np.array_equal(AcrobotVectorEnv(3_000).reset(seed=0)[0], expected)
