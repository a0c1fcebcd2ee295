"""Atari games in ale-py's native vector environment. Tests with real games are skipped without ale-py."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from rl_rms.envs import make_vec
from rl_rms.envs.atari import WholeGames, as_single, make_vector
from rl_rms.envs.config import EnvConfig
from rl_rms.envs.make import make_from_config
from tests.naming import naming


class Lives(VectorEnv):
    """Two games. The first game loses one of two lives at the second step, and ends at the fourth step."""

    num_envs = 2
    single_observation_space = gym.spaces.Box(0, 1, (1,))
    single_action_space = gym.spaces.Discrete(2)
    STEPS = (
        ([3, 1], [False, False], [2, 1]),
        ([0, 1], [True, False], [1, 1]),
        ([-5, 1], [False, False], [1, 1]),
        ([4, 1], [True, False], [0, 1]),
        ([0, 1], [False, True], [2, 0]),
        ([1, 0], [True, False], [0, 1]),
    )

    def reset(self, *, seed=None, options=None):
        self.steps = iter(self.STEPS)
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions):
        rewards, terminated, lives = map(np.array, next(self.steps))
        return np.zeros((2, 1), np.float32), rewards, terminated, np.zeros(2, bool), {"lives": lives}


def played(env):
    env.reset(seed=0)
    return [env.step(None) for _ in Lives.STEPS]


def test_whole_games_report_unclipped_returns_over_all_lives():
    steps = played(WholeGames(Lives(), clips=True, life_loss_info=True))
    assert [step[1].tolist() for step in steps[:4]] == [[1, 1], [0, 1], [-1, 1], [1, 1]]
    assert ["episode" in step[4] for step in steps] == [False, False, False, True, True, True]
    assert [step[4]["episode"]["r"].tolist() for step in steps[3:]] == [[2, 0], [0, 5], [1, 0]]
    assert [step[4]["_episode"].tolist() for step in steps[3:]] == [[True, False], [False, True], [True, False]]


def test_whole_games_without_lives_end_with_each_episode():
    steps = played(WholeGames(Lives(), clips=False, life_loss_info=False))
    assert steps[2][1].tolist() == [-5, 1]
    assert steps[1][4]["episode"]["r"].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"episodic_life": True}, ("episodic_life", "True", "life_loss_info")),
        ({"life_loss_info": True, "autoreset_mode": "SameStep"}, ("life_loss_info", "SameStep", "NextStep")),
    ],
)
def test_make_vector_with_lives_that_end_games_names_the_argument(arguments, named):
    with pytest.raises(ValueError, match=naming(*named)):
        make_vector(game="pong", num_envs=2, **arguments)


def test_native_atari_environment_reports_whole_games():
    pytest.importorskip("ale_py")
    env = make_vec("ale_py:ALE/Breakout-v5", 2, life_loss_info=True, seed=0)
    env.reset(seed=0)
    env.action_space.seed(0)
    lives, returns = 0, []
    while not returns:
        *_, terminated, _, info = env.step(env.action_space.sample())
        lives += terminated.sum()
        returns += info["episode"]["r"][info["_episode"]].tolist() if "episode" in info else []
    assert lives >= 5
    assert returns[0] >= 0


@pytest.mark.parametrize(
    "kwargs", [{}, {"img_height": 60, "img_width": 50, "stack_num": 2, "life_loss_info": True}]
)
def test_as_single_has_the_spaces_of_the_native_environment(kwargs):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    config = EnvConfig(id="ale_py:ALE/Pong-v5", num_envs=1, vectorization_mode="native", kwargs=kwargs)
    native, single = make_from_config(config, 0), make_from_config(as_single(config), 0)
    assert single.single_observation_space == native.single_observation_space
    assert single.single_action_space == native.single_action_space


def test_as_single_leaves_other_environments_unchanged():
    config = EnvConfig(id="CartPole-v1")
    assert as_single(config) is config
