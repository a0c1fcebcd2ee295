import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from rl_rms.envs import NonStationary
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.restarts import check_restartable, is_set, reset_mask_of, savable, seeds_of
from tests.naming import naming


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(None, [None, None]), (7, [7, 8]), (np.int64(7), [7, 8]), ([3, None], [3, None]), (np.array([4, 2]), [4, 2])],
)
def test_seeds_of_each_form_become_plain_ints(seed, expected):
    seeds = seeds_of(seed, 2)
    assert seeds == expected
    assert {type(one) for one in seeds} <= {int, type(None)}


def test_seeds_of_a_wrong_length_name_both_lengths():
    with pytest.raises(ValueError, match=naming("seed", "2", "3")):
        seeds_of([1, 2, 3], 2)


def test_reset_mask_without_the_option_selects_all():
    for options in (None, {}, {"low": -1.0}):
        mask, rest = reset_mask_of(options, 3)
        assert mask.tolist() == [True] * 3
        assert rest is options


def test_reset_mask_leaves_the_users_options_unchanged():
    options = {"reset_mask": np.array([False, True]), "low": -1.0}
    mask, rest = reset_mask_of(options, 2)
    assert mask.tolist() == [False, True]
    assert rest == {"low": -1.0}
    assert "reset_mask" in options


@pytest.mark.parametrize("mask", [[True], np.zeros(2, bool), np.ones(2), np.ones((2, 1), bool)])
def test_reset_mask_of_a_wrong_shape_names_option_and_shape(mask):
    with pytest.raises(ValueError, match=naming("reset_mask", "(2,)")):
        reset_mask_of({"reset_mask": mask}, 2)


def test_savable_wraps_an_environment_once():
    env = savable(lambda: gym.make("CartPole-v1"))
    assert isinstance(env, Parametrized)
    assert savable(lambda: env) is env


def test_check_restartable_of_changing_sub_environments_names_the_remedy():
    check_restartable(SyncVectorEnv([lambda: gym.make("CartPole-v1")]))
    env = SyncVectorEnv([lambda: NonStationary(gym.make("CartPole-v1"), {"gravity": 3.0})])
    with pytest.raises(ValueError, match=naming("on_env_error='restart'", "NonStationary", "independent")):
        check_restartable(env)


def test_is_set_with_none_in_a_part_is_false():
    assert is_set((1.0, 2.0))
    assert not is_set((1.0, None))
    assert not is_set(None)
