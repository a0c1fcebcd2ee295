"""MiniGrid's environments that are saved and restored within an episode."""

import importlib

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import make_vec
from rl_rms.envs.minigrid_state import CLASSES, read, write
from tests.envs.lives import play, same, through_json
from tests.naming import naming

minigrid = pytest.importorskip("minigrid")


def ids():
    """The first registered id of each environment class in ``minigrid.envs``."""
    found = {}
    for id, spec in gym.registry.items():
        if str(spec.entry_point).startswith("minigrid.envs:"):
            module = importlib.import_module("minigrid.envs")
            kind = getattr(module, str(spec.entry_point).partition(":")[2])
            found.setdefault(f"{kind.__module__}:{kind.__qualname__}", id)
    return found


def make(id, mode="sync"):
    wrappers = ["minigrid.wrappers:ImgObsWrapper"]
    return make_vec(f"minigrid:{id}", 2, wrappers=wrappers, vectorization_mode=mode, seed=0)


@pytest.mark.parametrize("name", CLASSES)
def test_load_of_a_minigrid_snapshot_continues_exactly(name):
    env, loaded = make(ids()[name]), make(ids()[name])
    env.reset(seed=1)
    play(env, 47, seed=0)
    loaded.reset(seed=5)
    play(loaded, 33, seed=2)
    state = through_json(env.state_dict())
    assert "actions" not in str(state)
    loaded.load_state_dict(state)
    assert same(play(loaded, 300, seed=1), play(env, 300, seed=1))


def test_load_of_a_minigrid_snapshot_in_other_processes_continues_exactly():
    env, loaded = make("MiniGrid-DoorKey-5x5-v0"), make("MiniGrid-DoorKey-5x5-v0", "async")
    env.reset(seed=1)
    play(env, 30, seed=0)
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 100, seed=1), play(env, 100, seed=1))
    loaded.close()


@pytest.fixture
def doorkey():
    env = gym.make("minigrid:MiniGrid-DoorKey-5x5-v0").unwrapped
    env.reset(seed=0)
    return env


def test_restored_object_is_the_same_object_in_each_place(doorkey):
    door = next(one for one in doorkey.grid.grid if one is not None and one.type == "door")
    doorkey.carrying = door
    door.is_open, door.contains = True, None
    write(doorkey, read(doorkey))
    assert doorkey.carrying is not door
    assert doorkey.carrying.is_open
    assert any(one is doorkey.carrying for one in doorkey.grid.grid)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state["grid"].pop(), ["DoorKeyEnv", "25", "24"]),
        (lambda state: state["attributes"].update(reset=3), ["DoorKeyEnv", "reset"]),
        (lambda state: state["objects"][0].update({"class": "np"}), ["class", "'np'"]),
    ],
)
def test_state_of_another_environment_is_refused_and_changes_nothing(change, named, doorkey):
    state = read(doorkey)
    change(state)
    before = doorkey.grid.encode()
    with pytest.raises(ValueError, match=naming(*named)):
        write(doorkey, state)
    assert np.array_equal(doorkey.grid.encode(), before)
