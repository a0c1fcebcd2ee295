import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_rms.agents import A2C, evaluate
from rl_rms.agents.masks import as_action_masks, check_action_masks
from rl_rms.envs import NonStationary
from tests.naming import naming

OBSERVATIONS = spaces.Box(-1.0, 1.0, (2,), np.float32)


def agent(space):
    config = A2C("CartPole-v1", mask_actions=True).config
    return A2C(None, config=config, seed=0, observation_space=OBSERVATIONS, action_space=space)


@pytest.mark.parametrize(
    ("space", "mask"),
    [
        (spaces.Discrete(2), [0, 0]),
        (spaces.MultiDiscrete([2, 3]), [1, 1, 0, 0, 0]),
        (spaces.MultiDiscrete([2, 3]), [0, 0, 1, 1, 1]),
        (spaces.MultiDiscrete([[2], [1]]), [1, 0, 0]),
        (spaces.MultiBinary(2), [0, 0, 1, 1]),
        (spaces.MultiBinary((1, 2)), [1, 1, 0, 0]),
    ],
)
def test_predict_mask_without_a_choice_raises(space, mask):
    with pytest.raises(ValueError, match=naming("action_masks", "row 0")):
        agent(space).predict(np.zeros(2, np.float32), action_masks=mask)
    batch = np.array([np.ones(len(mask)), mask])
    with pytest.raises(ValueError, match=naming("action_masks", "row 1")):
        agent(space).predict(np.zeros((2, 2), np.float32), action_masks=batch)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)])
def test_predict_mask_of_wrong_size_raises(space):
    with pytest.raises(ValueError, match=naming("action_masks", "shape", "(5,)")):
        agent(space).predict(np.zeros(2, np.float32), action_masks=np.ones(5, bool))


def test_predict_mask_of_unmaskable_action_space_raises():
    with pytest.raises(ValueError, match=naming("mask_actions", "Discrete", "MultiDiscrete", "MultiBinary")):
        A2C("Pendulum-v1").predict(np.zeros(3, np.float32), action_masks=[True])


def test_check_action_masks_of_wide_components_accepts_one_entry_each():
    space = spaces.MultiDiscrete([1, 4, 2])
    masks = as_action_masks([[1, 0, 0, 0, 1, 0, 1], [1, 1, 0, 0, 0, 1, 0]], space, 2, "masks")
    check_action_masks(masks, space, "masks, row")
    assert masks.dtype == np.bool_


class Board(gym.Env):
    """The only valid action is the step count. The final position after 3 steps has no valid action."""

    action_space = spaces.Discrete(3)

    def __init__(self, in_observation):
        self.in_observation = in_observation
        mask = spaces.Box(0, 1, (3,), np.int8)
        count = spaces.Box(0, 10, (1,), np.float32)
        self.observation_space = spaces.Dict(action_mask=mask, count=count) if in_observation else count
        self.count = 0

    def _shown(self):
        mask = (np.arange(3) == self.count).astype(np.int8)
        count = np.array([self.count], np.float32)
        return (
            ({"action_mask": mask, "count": count}, {}) if self.in_observation else (count, {"action_mask": mask})
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._shown()

    def step(self, action):
        assert action == self.count
        self.count += 1
        observation, info = self._shown()
        return observation, 1.0, False, self.count == 3, info


class LongBoard(Board):
    """A board with endless episodes."""

    def step(self, action):
        observation, reward, terminated, _, info = super().step(action % 3)
        if self.count == 3:
            self.count = 0
            observation, info = self._shown()
        return observation, reward, terminated, False, info


@pytest.mark.parametrize("in_observation", [False, True])
@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
def test_learn_mask_without_valid_action_at_an_episode_end_continues(mode, in_observation):
    def make():
        boards = [lambda: Board(in_observation), lambda: LongBoard(in_observation)]
        return gym.vector.SyncVectorEnv(boards, autoreset_mode=mode)

    trained = A2C(make(), mask_actions=True, seed=0).learn(100)
    assert {episode.length for episode in trained.episodes} == {3}
    boards = gym.vector.SyncVectorEnv([lambda: Board(in_observation)], autoreset_mode=mode)
    assert evaluate(trained, boards, 3).lengths.tolist() == [3, 3, 3]


def test_mask_of_an_observation_that_also_has_the_parameters_is_used():
    env = NonStationary(Board(in_observation=True), {"reward.scale": 2.0}, observe="params")
    trained = A2C(env, mask_actions=True, seed=0).learn(20)
    assert trained.predict(env.reset()[0])[0] == 0
