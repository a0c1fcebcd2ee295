"""Agents learn tasks that need a certain kind of observation, action or network."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_rms.agents import A2C, PPO, PolicyConfig, Reinforce, evaluate
from tests.agents.returns import below
from tests.naming import naming

pytestmark = pytest.mark.slow

SHORT_PPO = partial(PPO, n_steps=16, batch_size=32, n_epochs=4)
SIGNAL = spaces.Box(-1.0, 1.0, (2,), np.float32)
# Trainings end at a mean reward of 0.95 in 40 episodes of 8 steps.
LEARNED = below(0.95 * 8, episodes=40)


def shown(space, right):
    """The element of a space that encodes 0 or 1."""
    if isinstance(space, spaces.Dict):
        return {key: shown(part, right) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(shown(part, right) for part in space)
    if isinstance(space, spaces.Discrete):
        return space.start + right
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        return np.full(space.shape, right, space.dtype)
    return (space.high if right else space.low).copy()


class Choice(gym.Env):
    """Observations show 0 or 1. With 0, the reward is 1 for the lowest action; with 1, for the highest action."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def _draw(self):
        self.right = int(self.np_random.integers(2))
        return shown(self.observation_space, self.right)

    def step(self, action):
        assert self.action_space.contains(action)
        space = self.action_space
        if isinstance(space, spaces.Box):
            side = float(np.mean((action - space.low) / (space.high - space.low)))
        elif isinstance(space, spaces.Discrete):
            side = float((action - space.start) / (space.n - 1))
        else:
            side = float(np.mean(action > 0))
        self.steps += 1
        reward = side if self.right else 1.0 - side
        return self._draw(), reward, False, self.steps == 8, {}


def mean_reward(agent, env):
    return evaluate(agent, env, 16, seed=3).mean_reward / 8


def learned(observation_space, action_space, steps=6_000, agent_class=A2C, **options):
    def make():
        return SyncVectorEnv([lambda: Choice(observation_space, action_space)] * 8)

    options = {"learning_rate": 3e-3, "gamma": 0.0, "seed": 0, **options}
    agent = agent_class(make(), **options).learn(steps, LEARNED)
    # Without training, the most probable actions can be right, but not most of the sampled actions.
    assert np.mean([episode.ret for episode in agent.episodes][-40:]) > 0.65 * 8
    return mean_reward(agent, make())


OBSERVATIONS = {
    "box": SIGNAL,
    "box of float64": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
    "discrete": spaces.Discrete(2, start=4),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict({"a": spaces.Discrete(2), "b.c": SIGNAL}),
    "nested": spaces.Dict(
        {"deep": spaces.Dict({"a": SIGNAL}), "pair": spaces.Tuple([spaces.Discrete(3), SIGNAL])}
    ),
    "tuple": spaces.Tuple([SIGNAL, spaces.MultiBinary(2)]),
}


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_learn_of_every_observation_space_reaches_the_return(kind):
    assert learned(OBSERVATIONS[kind], spaces.Discrete(2)) > 0.9


IMAGES = {
    "channels last": (36, 36, 3),
    "channels first": (1, 40, 36),
    "stacked frames": (4, 36, 36),
    "stacked frames in color": (2, 36, 38, 3),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_learn_of_images_reaches_the_return(kind):
    image = spaces.Box(0, 255, IMAGES[kind], np.uint8)
    policy = PolicyConfig(hidden_sizes=(), image_features=32)
    assert learned(image, spaces.Discrete(2), 2_400, learning_rate=1e-3, policy=policy) > 0.9


SMALL_IMAGES = {
    "3 by 3": spaces.Box(0, 255, (3, 3, 1), np.uint8),
    "7 by 7": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "floats": spaces.Box(0.0, 1.0, (10, 10, 4), np.float32),
    "without channels": spaces.Box(0, 255, (10, 12), np.uint8),
}


@pytest.mark.parametrize("kind", SMALL_IMAGES)
@pytest.mark.parametrize("encoder", ["small_cnn", "impala", "mlp"])
def test_learn_of_small_images_reaches_the_return(kind, encoder):
    policy = PolicyConfig(encoder=encoder, hidden_sizes=(), image_features=32)
    assert learned(SMALL_IMAGES[kind], spaces.Discrete(2), 2_400, policy=policy) > 0.9


class Dot(Choice):
    """One bright pixel is in the left or the right half of the image."""

    def _draw(self):
        super()._draw()
        _, width, _ = self.observation_space.shape
        image = np.zeros(self.observation_space.shape, np.uint8)
        column = self.np_random.integers(width // 2) + self.right * (width - width // 2)
        image[self.np_random.integers(len(image)), column] = 255
        return image


@pytest.mark.parametrize("encoder", ["auto", "impala"])
def test_learn_of_a_dot_in_a_small_image_reaches_the_return(encoder):
    def make():
        return SyncVectorEnv([lambda: Dot(SMALL_IMAGES["7 by 7"], spaces.Discrete(2))] * 8)

    policy = PolicyConfig(encoder=encoder, hidden_sizes=(), image_features=32)
    agent = A2C(make(), policy=policy, learning_rate=3e-3, gamma=0.0, seed=0)
    assert mean_reward(agent, make()) < 0.7
    assert mean_reward(agent.learn(12_000, LEARNED), make()) > 0.9


@pytest.mark.parametrize("agent_class", [A2C, SHORT_PPO, Reinforce])
def test_learn_of_two_images_with_every_agent_reaches_the_return(agent_class):
    both = spaces.Dict({"near": SMALL_IMAGES["7 by 7"], "far": SMALL_IMAGES["floats"]})
    policy = PolicyConfig(hidden_sizes=(), image_features=16)
    assert learned(both, spaces.Discrete(2), 6_000, agent_class=agent_class, policy=policy) > 0.9


def test_learn_of_a_dict_with_an_image_reaches_the_return():
    both = spaces.Dict({"camera": spaces.Box(0, 255, (36, 36, 1), np.uint8), "speed": SIGNAL})
    policy = PolicyConfig(hidden_sizes=(), image_features=16)
    assert learned(both, spaces.Discrete(2), 2_400, policy=policy, normalize_observation=True) > 0.9


ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 2, 2]),
    "multi-discrete grid": spaces.MultiDiscrete([[2, 2], [2, 2]]),
    "multi-binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "box of float64": spaces.Box(-3.0, 5.0, (1, 2), np.float64),
}


@pytest.mark.parametrize("agent_class", [A2C, SHORT_PPO, Reinforce])
@pytest.mark.parametrize("kind", ACTIONS)
def test_learn_of_every_action_space_reaches_the_return(kind, agent_class):
    options = {"steps": 12_000, "learning_rate": 1e-2} if agent_class is Reinforce else {"steps": 8_000}
    assert learned(SIGNAL, ACTIONS[kind], agent_class=agent_class, **options) > 0.85


def test_learn_with_squashed_actions_reaches_the_return():
    policy = PolicyConfig(squash_actions=True)
    assert learned(SIGNAL, spaces.Box(-3.0, 5.0, (2,), np.float32), 12_000, ent_coef=1e-3, policy=policy) > 0.85
    with pytest.raises(ValueError, match=naming("squash_actions", "Box", "finite")):
        learned(SIGNAL, spaces.Box(-np.inf, np.inf, (1,), np.float32), policy=policy)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_learn_with_normalized_layers_reaches_the_return(norm):
    assert learned(SIGNAL, spaces.Discrete(2), policy=PolicyConfig(norm=norm)) > 0.9


@pytest.mark.parametrize("recurrent", ["none", "gru"])
def test_learn_with_a_shared_trunk_reaches_the_return(recurrent):
    policy = PolicyConfig(shared_trunk=True, recurrent=recurrent)
    assert learned(SIGNAL, spaces.Discrete(2), policy=policy) > 0.9


class Recall(gym.Env):
    """The first observation is -1 or 1, the others are 0. The last action should be 0 after -1, and 1 after 1."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    length = 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right, self.steps = int(self.np_random.integers(2)), 0
        return np.full(1, 2.0 * self.right - 1.0, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.length
        reward = float(action == self.right) if over else 0.0
        return np.zeros(1, np.float32), reward, over, False, {}


def recalled(recurrent, mode=AutoresetMode.NEXT_STEP, agent_class=A2C, **options):
    def make():
        return SyncVectorEnv([Recall] * 16, autoreset_mode=mode)

    options = {"learning_rate": 5e-3, "seed": 0, **options}
    policy = PolicyConfig(recurrent=recurrent, recurrent_size=16, hidden_sizes=())
    agent = agent_class(make(), policy=policy, **options).learn(16_000, below(0.97))
    return evaluate(agent, make(), 64, seed=1).mean_reward


@pytest.mark.parametrize("recurrent", ["gru", "lstm"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_learn_with_a_recurrent_policy_recalls_the_first_observation(recurrent, mode):
    assert recalled(recurrent, mode, n_steps=16) > 0.9


def test_reinforce_with_a_recurrent_policy_recalls_the_first_observation():
    assert recalled("gru", agent_class=Reinforce, learning_rate=1e-2) > 0.9


def test_ppo_with_a_recurrent_policy_recalls_the_first_observation():
    assert recalled("lstm", agent_class=SHORT_PPO, n_steps=15) > 0.9


def test_learn_without_recurrence_does_not_recall_the_first_observation():
    assert recalled("none", n_steps=16) < 0.7


class Doors(gym.Env):
    """Two of eight doors are open, and one of the two has a reward. Choosing a closed door raises an error."""

    observation_space = spaces.Discrete(8)
    action_space = spaces.Discrete(8)

    def __init__(self, in_observation=False):
        self.in_observation = in_observation
        if in_observation:
            mask = spaces.Box(0, 1, (8,), np.int8)
            self.observation_space = spaces.Dict({"at": spaces.Discrete(8), "action_mask": mask})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._tell()

    def _tell(self):
        self.paying = int(self.np_random.integers(8))
        mask = np.zeros(8, np.int8)
        mask[[self.paying, (self.paying + 1) % 8]] = 1
        if self.in_observation:
            return {"at": self.paying, "action_mask": mask}, {}
        return self.paying, {"action_mask": mask}

    def step(self, action):
        if (action - self.paying) % 8 > 1:
            raise AssertionError(f"door {action} is shut")
        reward = float(action == self.paying)
        self.steps += 1
        observation, info = self._tell()
        return observation, reward, self.steps % 5 == 0, False, info


@pytest.mark.parametrize("in_observation", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_learn_with_masks_plays_the_best_valid_action(mode, in_observation):
    def make():
        return SyncVectorEnv([lambda: Doors(in_observation)] * 4, autoreset_mode=mode)

    agent = A2C(make(), mask_actions=True, learning_rate=1e-2, gamma=0.0, seed=0)
    agent.learn(3_000, below(4.9, episodes=40))
    assert evaluate(agent, make(), 20, seed=1).mean_reward > 4.5


def test_learn_with_a_wrong_mask_names_it():
    plain = SyncVectorEnv([lambda: Choice(SIGNAL, spaces.Discrete(2))])
    with pytest.raises(ValueError, match=naming("action_mask", "observation")):
        A2C(plain, mask_actions=True).learn(10)
    with pytest.raises(ValueError, match=naming("mask_actions", "Discrete", "MultiDiscrete", "MultiBinary")):
        A2C("Pendulum-v1", mask_actions=True)

    class Shut(Doors):
        def _tell(self):
            return 0, {"action_mask": np.zeros(8, np.int8)}

    with pytest.raises(ValueError, match=naming("action mask", "sub-environment 0")):
        A2C(Shut(), mask_actions=True).learn(10)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)])
def test_learn_with_masks_of_multi_discrete_actions_plays_valid_ones(space):
    # The mask excludes the third entry of the second part (MultiDiscrete) or a 1 in the first bit (MultiBinary).
    mask = np.array([[1, 1, 1, 1, 0]] if isinstance(space, spaces.MultiDiscrete) else [[1, 0, 1, 1]], bool)
    config = A2C("CartPole-v1", mask_actions=True).config
    agent = A2C(None, config=config, seed=0, observation_space=SIGNAL, action_space=space)
    actions = np.stack([agent.predict(np.zeros(2, np.float32), action_masks=mask)[0] for _ in range(60)])
    if isinstance(space, spaces.MultiDiscrete):
        assert {tuple(one) for one in actions} == {(a, b) for a in (0, 1) for b in (0, 1)}
    else:
        assert {tuple(one) for one in actions} == {(0, 0), (0, 1)}
