import copy
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.agents import A2C, Reinforce, evaluate
from rl_rms.agents.spaces import space_to_dict
from rl_rms.envs import NonStationary, ResilientSyncVectorEnv
from rl_rms.envs.schedules import Constant
from tests.naming import naming

# torch warns of networks without inputs or outputs.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16]
SHAPES = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])


@st.composite
def boxes(draw):
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64, np.bool_, *INTEGERS]))
    lows, highs = [0], [1]
    if np.issubdtype(dtype, np.signedinteger) or np.issubdtype(dtype, np.floating):
        lows, highs = [0, -1, -np.inf], [1, np.inf]
    shape = draw(SHAPES)
    return spaces.Box(draw(st.sampled_from(lows)), draw(st.sampled_from(highs)), shape, dtype)


@st.composite
def discretes(draw):
    dtype = draw(st.sampled_from(INTEGERS))
    start = draw(st.integers(0 if np.issubdtype(dtype, np.unsignedinteger) else -5, 5))
    return spaces.Discrete(draw(st.integers(1, 4)), start=start, dtype=dtype)


@st.composite
def multi_discretes(draw):
    shape = draw(st.sampled_from([(1,), (2,), (2, 2)]))
    nvec = np.array(draw(st.lists(st.integers(1, 3), min_size=4, max_size=4)))[: np.prod(shape)].reshape(shape)
    return spaces.MultiDiscrete(nvec, dtype=draw(st.sampled_from(INTEGERS)), start=nvec - 1)


MULTI_BINARIES = st.builds(spaces.MultiBinary, st.sampled_from([1, 3, (3,), (2, 2)]))
ACTIONS = st.one_of(boxes(), discretes(), multi_discretes(), MULTI_BINARIES)
KEYS = st.sampled_from(["a", "b", "x.y", "$z", "", 2, 10])
OBSERVATIONS = st.recursive(
    ACTIONS,
    lambda part: st.one_of(
        st.lists(part, min_size=1, max_size=3).map(spaces.Tuple),
        st.lists(st.tuples(KEYS, part), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(spaces.Dict),
    ),
    max_leaves=4,
)


def signature(space: gym.Space[Any]) -> Any:
    """Everything that distinguishes two spaces, including parts that equality ignores."""
    if isinstance(space, spaces.Dict):
        return [(key, signature(part)) for key, part in space.items()]
    if isinstance(space, spaces.Tuple):
        return [signature(part) for part in space]
    if isinstance(space, spaces.Box):
        return space, space.dtype, space.bounded_below.tolist(), space.bounded_above.tolist()
    return space, space.dtype, type(space)


class Sampled(gym.Env):
    """Episodes of five steps with seeded samples as observations; the reward depends on the action."""

    def __init__(self, observation_space, action_space):
        # Each instance has its own random generator.
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        action = np.asarray(action)
        assert self.action_space.contains(action), (self.action_space, action)
        self.steps += 1
        reward = float(np.sum(action))
        return self.observation_space.sample(), reward, False, self.steps == 5, {}


@given(OBSERVATIONS, ACTIONS)
def test_load_restores_every_space_unchanged(observation_space, action_space):
    agent = A2C(Sampled(observation_space, action_space), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        loaded = A2C.load(agent.save(Path(folder) / "agent"))
    assert signature(loaded.observation_space) == signature(observation_space)
    assert signature(loaded.action_space) == signature(action_space)


MODES = list(AutoresetMode)
SCALAR = spaces.Box(-1, 1, ())
PAIRS = [
    (SCALAR, spaces.Discrete(2)),
    (SCALAR, spaces.Box(-1, 1, ())),
    (spaces.Dict({"a": SCALAR, "b": spaces.Box(-1, 1, (), np.float64)}), spaces.Box(-1, 1, (), np.float64)),
    (spaces.Tuple([SCALAR, spaces.MultiBinary(2)]), spaces.MultiBinary(2)),
    (spaces.Discrete(3, dtype=np.int32), spaces.Discrete(3, start=5, dtype=np.int32)),
    (spaces.Box(-1, 1, (2, 0)), spaces.Discrete(2)),
    (spaces.MultiDiscrete([[2, 3], [3, 2]], dtype=np.int32), spaces.MultiDiscrete([2, 3], start=[1, -1])),
]


@pytest.mark.parametrize(
    ("algorithm", "fused", "mode"),
    [
        *((A2C, True, mode) for mode in MODES),
        (A2C, False, AutoresetMode.NEXT_STEP),
        (Reinforce, True, AutoresetMode.SAME_STEP),
    ],
)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_agent_in_any_space_trains_saves_loads_and_evaluates(pair, algorithm, fused, mode, tmp_path):
    def make():
        return ResilientSyncVectorEnv([lambda: Sampled(*pair)] * 2, autoreset_mode=mode)

    agent = algorithm(make(), seed=0, fused=fused).learn(30)
    loaded = algorithm.load(agent.save(tmp_path / "agent"), make())
    assert loaded.learn(30).num_timesteps >= 60
    assert evaluate(loaded, make(), 2, seed=1).lengths.tolist() == [5, 5]
    action, _ = loaded.predict(pair[0].sample())
    assert pair[1].contains(np.asarray(action))


def test_agent_with_workers_in_scalar_spaces_trains():
    env = AsyncVectorEnv([lambda: Sampled(SCALAR, SCALAR)] * 2)
    assert A2C(env, seed=0).learn(30).num_timesteps >= 30
    env.close()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("fused", [True, False])
def test_scalar_box_trains_as_a_box_with_one_component(fused, mode):
    def weights(shape):
        space = spaces.Box(-1, 1, shape)
        env = ResilientSyncVectorEnv([lambda: Sampled(space, space)] * 2, autoreset_mode=mode)
        agent = A2C(env, seed=0, fused=fused, normalize_observation=True, normalize_reward=True).learn(60)
        return torch.cat([param.detach().ravel() for param in agent.policy.parameters()])

    torch.testing.assert_close(weights(()), weights((1,)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "target", ["observation.gain", "observation.offset", "observation.offsets", "observation.noise"]
)
def test_drift_of_a_scalar_observation_equals_a_box_with_one_component(target):
    def shown(shape):
        space = spaces.Box(-1, 1, shape)
        env = NonStationary(Sampled(space, spaces.Discrete(2)), {target: Constant(0.5)}, seed=0)
        first, _ = env.reset(seed=0)
        assert env.observation_space.contains(first)
        observations = [first, *(env.step(0)[0] for _ in range(3))]
        return [np.ravel(one).item() for one in observations]

    assert shown(()) == shown((1,))


def test_equal_dict_spaces_in_another_order_encode_equally(tmp_path):
    parts = {"b": spaces.Box(-1, 1, (2,)), "a": spaces.Box(-1, 1, (1,))}
    pairs = list(parts.items())
    agent = A2C(Sampled(spaces.Dict(pairs), spaces.Box(-1, 1, (2,))), seed=0)
    other = spaces.Dict(pairs[::-1])
    path = agent.save(tmp_path / "agent")
    env = Sampled(other, spaces.Box(-1, 1, (2,)))
    observation = other.sample()
    expected, _ = agent.predict(observation, deterministic=True)
    actual, _ = A2C.load(path, env).predict(observation, deterministic=True)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "space", [spaces.Text(5), spaces.Sequence(spaces.Discrete(2)), spaces.OneOf([spaces.Discrete(2)])], ids=str
)
def test_unsupported_space_raises_before_training(space):
    action_space = spaces.Discrete(2)
    nested = spaces.Dict({"words": space})
    for given_space in (space, nested):
        with pytest.raises(ValueError, match=naming("Box", "Tuple", "convert")):
            A2C(Sampled(given_space, action_space))
    with pytest.raises(ValueError, match=naming("Box", "convert")):
        A2C(Sampled(action_space, space))


@pytest.mark.parametrize("space", [spaces.Dict({"a": spaces.Discrete(2)}), spaces.Tuple([spaces.Discrete(2)])])
def test_dict_and_tuple_actions_raise(space):
    with pytest.raises(ValueError, match=naming("actions", "Discrete", "Box", "convert")):
        A2C(Sampled(spaces.Discrete(2), space))


def test_dict_key_that_cannot_be_saved_is_named():
    with pytest.raises(ValueError, match=naming("Dict", "strings", "integers", "(1, 2)")):
        space_to_dict(spaces.Dict([((1, 2), spaces.Discrete(2))]))


@pytest.mark.parametrize("dtype", [">f4", ">i8", np.longdouble], ids=str)
def test_box_with_a_dtype_without_torch_support_raises_before_training(dtype):
    space = spaces.Box(0, 1, (2,), np.dtype(dtype))
    with pytest.raises(ValueError, match=naming("Box", "dtype", "float32")):
        A2C(Sampled(space, spaces.Discrete(2)))
