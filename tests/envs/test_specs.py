import gymnasium as gym
import pytest

from rl_rms.envs.specs import find_spec, native


def test_find_spec_of_an_id_without_a_version_takes_the_highest():
    assert find_spec("CartPole") == gym.spec("CartPole-v1")


@pytest.mark.parametrize("id", ["Windless-v0", "Windless"])
def test_find_spec_of_an_unknown_id_raises_an_error_that_names_it(id):
    with pytest.raises(gym.error.Error, match="Windless"):
        find_spec(id)


def test_native_adds_the_vector_entry_point_of_rl_rms_to_a_copy():
    spec = native(find_spec("Pendulum-v1"))
    assert gym.make_vec(spec, 2).unwrapped.__class__.__name__ == "PendulumVectorEnv"
    assert gym.spec("Pendulum-v1").vector_entry_point is None


def test_native_is_none_with_another_vector_entry_point_or_without_any():
    assert native(find_spec("CartPole-v1")) is None
    assert native(find_spec("FrozenLake-v1")) is None
