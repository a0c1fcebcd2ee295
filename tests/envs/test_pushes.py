import itertools

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.pushes import PushedCartPole
from tests.naming import naming


def play(env, steps, pushes, seed=0):
    """Observations, rewards and ends under random moves and given pushes."""
    rng = np.random.default_rng(seed)
    transitions = [(env.reset(seed=seed)[0], None, None, None)]
    for _ in range(steps):
        moves = rng.integers(2, size=env.num_envs)
        transitions.append(env.step(moves if pushes is None else (moves, pushes(rng)))[:4])
    return transitions


def test_pushed_cartpole_of_strength_zero_equals_cartpole():
    plain = play(gym.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point"), 100, None)
    for pushes in (lambda _: np.zeros(3), lambda _: np.ones((3, 1), np.float32)):
        pushed = play(PushedCartPole(3, strength=0.0), 100, pushes)
        for one, other in zip(plain[1:], pushed[1:], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_push_changes_the_angular_velocity_before_the_step():
    env = PushedCartPole(2, strength=0.5)
    env.reset(seed=0)
    plain = gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    plain.reset(seed=0)
    # The second push is clipped to the bound.
    plain.unwrapped.state = plain.unwrapped.state + np.array([[0], [0], [0], [1]]) * [-0.2, 0.5]
    expected = plain.step(np.array([1, 0]))[0]
    found = env.step((np.array([1, 0]), np.array([-0.4, 7.0])))[0]
    assert found == pytest.approx(expected)


def test_reset_begins_without_a_push():
    env = PushedCartPole(4, strength=5.0)
    transitions = play(env, 60, lambda rng: rng.uniform(-1, 1, 4))
    firsts = [after[0][over[2]] for over, after in itertools.pairwise(transitions[1:])]
    firsts = np.concatenate(firsts)
    assert len(firsts) > 4
    assert np.abs(firsts).max() <= 0.05


def test_pushed_cartpole_of_a_wrong_strength_names_it():
    with pytest.raises(ValueError, match=naming("PushedCartPole", "strength", ">= 0", "-1")):
        PushedCartPole(strength=-1)
