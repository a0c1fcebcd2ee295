import gymnasium as gym
import pytest

from rl_rms.envs.specs import find_spec


def test_find_spec_of_an_id_without_a_version_takes_the_highest():
    assert find_spec("CartPole") == gym.spec("CartPole-v1")


@pytest.mark.parametrize("id", ["Windless-v0", "Windless"])
def test_find_spec_of_an_unknown_id_raises_an_error_that_names_it(id):
    with pytest.raises(gym.error.Error, match="Windless"):
        find_spec(id)
