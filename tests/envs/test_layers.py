from collections import deque

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.layers import Layers, OtherWrappersError, check_wrappers, lost_sentence
from tests.envs.lives import through_json
from tests.naming import mentions, naming


class Remembering(gym.Wrapper):
    """A wrapper with attributes of types that are saved, and with a function, which is not saved."""

    def __init__(self, env, rate=0.5):
        super().__init__(env)
        self.rate, self.count, self.name, self.nothing = rate, 0, "x", None
        self.last, self.pair = np.zeros(2, np.float32), (1, [2.5])
        self.queue, self.rng = deque(maxlen=9), np.random.default_rng(0)
        self.function = lambda: 0

    def advance(self):
        self.count += 1
        self.last = self.last + 1
        self.queue.append(self.count)
        return self.rng.random()


class Opaque(gym.Wrapper):
    """A wrapper that keeps its state in a custom object."""

    def __init__(self, env):
        super().__init__(env)
        self.memory = object()


def layers(*wrappers):
    """Wrap a CartPole from the innermost wrapper outwards; return the environment and the wrappers' state."""
    env = inner = gym.make("CartPole-v1").unwrapped
    for wrap in wrappers:
        env = wrap(env)
    return env, Layers(env, inner)


def test_load_state_dict_restores_each_kind_of_attribute():
    env, state = layers(Remembering)
    for _ in range(3):
        env.advance()
    saved = through_json(state.state_dict())
    other, restored = layers(Remembering)
    queue = other.queue
    queue.append(7)
    restored.load_state_dict(saved)
    assert (other.count, other.name, other.nothing, other.pair) == (3, "x", None, (1, [2.5]))
    assert other.last.dtype == np.float32
    assert other.last.tolist() == [3, 3]
    assert other.queue is queue
    assert list(queue) == [1, 2, 3]
    assert other.advance() == env.advance()


def test_load_state_dict_keeps_settings_that_never_changed():
    env, state = layers(Remembering)
    env.advance()
    other, restored = layers(lambda env: Remembering(env, rate=0.75))
    restored.load_state_dict(state.state_dict())
    assert (other.rate, other.count) == (0.75, 1)


def test_load_state_dict_of_gymnasiums_normalizer_restores_its_statistics():
    env, state = layers(gym.wrappers.NormalizeObservation)
    env.reset(seed=0)
    for _ in range(5):
        env.step(0)
    other, restored = layers(gym.wrappers.NormalizeObservation)
    restored.load_state_dict(through_json(state.state_dict()))
    assert other.obs_rms.mean.tolist() == env.obs_rms.mean.tolist()
    assert other.obs_rms.count == env.obs_rms.count


def test_stateless_wrappers_of_gymnasium_have_no_layer():
    _, state = layers(lambda env: gym.wrappers.TransformReward(env, abs), gym.wrappers.FlattenObservation)
    assert state.names == []
    assert state.state_dict() == []


def test_names_begin_with_the_outermost_wrapper():
    _, state = layers(lambda env: gym.wrappers.TimeLimit(env, 5), Remembering, gym.Wrapper)
    assert [name.rpartition(":")[2] for name, _ in state.names] == ["Wrapper", "Remembering", "TimeLimit"]
    assert [has_state for _, has_state in state.names] == [False, True, True]


def test_lost_names_a_wrapper_with_an_unserializable_attribute():
    _, state = layers(Opaque, Remembering)
    assert state.lost == ["Opaque"]
    assert mentions(lost_sentence(state.lost), "Opaque", "attribute", "numbers")


def test_load_state_dict_of_other_wrappers_names_both_lists_and_changes_nothing():
    _, state = layers(Remembering)
    other, restored = layers(lambda env: gym.wrappers.TimeLimit(env, 5))
    with pytest.raises(OtherWrappersError, match=naming("Remembering", "TimeLimit", "same order")):
        restored.load_state_dict(state.state_dict())
    assert not hasattr(other, "count")


def test_load_state_dict_of_another_type_names_attribute_and_types():
    _, state = layers(Remembering)
    saved = state.state_dict()
    saved[0]["attributes"]["count"] = {"value": "three"}
    saved[0]["unchanged"].remove("count")
    with pytest.raises(ValueError, match=naming("count", "Remembering", "int", "'three'")):
        layers(Remembering)[1].load_state_dict(saved)


@pytest.mark.parametrize(
    ("saved", "names", "found"),
    [
        ([], [], []),
        (["a"], [("b", False), ("a", True)], [1]),
        (["a", "b"], [("a", True), ("c", False), ("b", True)], [0, 2]),
        ([], [("a", False)], []),
        (["a"], [("a", False)], [0]),
    ],
)
def test_check_wrappers_ignores_stateless_wrappers(saved, names, found):
    assert check_wrappers([{"wrapper": one} for one in saved], names) == found


@pytest.mark.parametrize(
    ("saved", "names"),
    [
        (["a"], []),
        ([], [("a", True)]),
        (["a", "b"], [("b", True), ("a", True)]),
        (["a"], [("c", True), ("a", True)]),
    ],
)
def test_check_wrappers_with_other_wrappers_raises(saved, names):
    with pytest.raises(OtherWrappersError, match=naming("wrappers")):
        check_wrappers([{"wrapper": one} for one in saved], names)
