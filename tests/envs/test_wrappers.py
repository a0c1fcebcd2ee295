import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation, RescaleAction, TimeLimit

from rl_rms.envs.wrappers import as_wrappers
from tests.naming import naming

LIMIT = {"max_episode_steps": 3}


def wrapped(*wrappers, id="Pendulum-v1"):
    env = gym.make(id)
    _, outside = as_wrappers(wrappers)
    for wrap in outside:
        env = wrap(env)
    return env


@pytest.mark.parametrize(
    "item", [{"TimeLimit": LIMIT}, ("TimeLimit", LIMIT), {TimeLimit: LIMIT}, (TimeLimit, LIMIT), "mine:Short"]
)
def test_as_wrappers_accepts_names_paths_and_classes_with_arguments(item, tmp_path, monkeypatch):
    source = "from gymnasium.wrappers import TimeLimit\ndef Short(env):\n    return TimeLimit(env, 3)\n"
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    env = wrapped(item)
    env.reset(seed=0)
    assert [env.step(env.action_space.sample())[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    "item",
    [
        "FlattenObservation",
        {"FlattenObservation": None},
        FlattenObservation,
        lambda env: wrapped(FlattenObservation),
    ],
)
def test_as_wrappers_accepts_wrappers_without_arguments(item):
    assert isinstance(wrapped(item), FlattenObservation)


def test_as_wrappers_converts_lists_to_tuples_and_arrays():
    env = wrapped(
        {"RescaleAction": {"min_action": [-1.0], "max_action": [1.0]}}, {"ReshapeObservation": {"shape": [3, 1]}}
    )
    assert env.observation_space.shape == (3, 1)
    assert np.array_equal(env.action_space.high, [1.0])
    assert isinstance(env.env, RescaleAction)


def test_as_wrappers_drift_separates_inner_from_outer_wrappers():
    inside, outside = as_wrappers(["ClipAction", FlattenObservation, "drift", "NormalizeReward"])
    assert (len(inside), len(outside)) == (2, 1)
    assert [len(part) for part in as_wrappers(["ClipAction", "NormalizeReward"])] == [0, 2]


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ("FrameStack", ("wrappers[0]", "FrameStack", "FrameStackObservation", "module:Class")),
        ("nowhere_to_be:Found", ("wrappers[0]", "nowhere_to_be:Found", "module:Class")),
        ("gymnasium.wrappers:TimeLimits", ("wrappers[0]", "gymnasium.wrappers:TimeLimits", "module:Class")),
        ("gymnasium.wrappers:__all__", ("wrappers[0]", "gymnasium.wrappers:__all__", "class")),
        (("TimeLimit", {"max_step": 3}), ("TimeLimit", "max_step", "3", "max_episode_steps")),
        ((TimeLimit, {"max_step": 3}), ("TimeLimit", "max_step", "3", "max_episode_steps")),
        (("TimeLimit", {}), ("TimeLimit", "max_episode_steps")),
        (("TimeLimit", 3), ("wrappers[0]", "TimeLimit", "3")),
        (("ClipAction", {3: 3}), ("wrappers[0]", "ClipAction", "3")),
        (3, ("wrappers[0]", "3", "module:Class")),
    ],
)
def test_as_wrappers_with_a_wrong_wrapper_names_it_and_the_remedy(item, named):
    with pytest.raises(ValueError, match=naming(*named)):
        as_wrappers([item])


def test_as_wrappers_without_a_list_names_the_value():
    with pytest.raises(ValueError, match=naming("wrappers", "TimeLimit", "list")):
        as_wrappers("TimeLimit")


def test_wrapper_that_refuses_its_environment_names_both_and_the_reason():
    with pytest.raises(ValueError, match=naming("FilterObservation", "filter_keys", "Pendulum-v1", "Dict")):
        wrapped({"FilterObservation": {"filter_keys": ["image"]}})


def test_wrapper_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match="opencv"):
        wrapped({"AtariPreprocessing": {"screen_size": [84, 84]}})


def test_function_that_returns_no_environment_is_named():
    def forgetful(env):
        FlattenObservation(env)

    with pytest.raises(TypeError, match=naming("forgetful", "None", "gymnasium.Env")):
        wrapped(forgetful)
