"""Saves and restores the state of MiniGrid's environments within an episode: the agent, the grid and its objects.

The grid, the agent and the mission may refer to the same object. Each object is saved once.
"""

import importlib
from collections.abc import Mapping
from typing import Any

_ENVS = "minigrid.envs"
CLASSES = (
    f"{_ENVS}.blockedunlockpickup:BlockedUnlockPickupEnv",
    f"{_ENVS}.crossing:CrossingEnv",
    f"{_ENVS}.distshift:DistShiftEnv",
    f"{_ENVS}.doorkey:DoorKeyEnv",
    f"{_ENVS}.dynamicobstacles:DynamicObstaclesEnv",
    f"{_ENVS}.empty:EmptyEnv",
    f"{_ENVS}.fetch:FetchEnv",
    f"{_ENVS}.fourrooms:FourRoomsEnv",
    f"{_ENVS}.gotodoor:GoToDoorEnv",
    f"{_ENVS}.gotoobject:GoToObjectEnv",
    f"{_ENVS}.keycorridor:KeyCorridorEnv",
    f"{_ENVS}.lavagap:LavaGapEnv",
    f"{_ENVS}.lockedroom:LockedRoomEnv",
    f"{_ENVS}.memory:MemoryEnv",
    f"{_ENVS}.multiroom:MultiRoomEnv",
    f"{_ENVS}.playground:PlaygroundEnv",
    f"{_ENVS}.putnear:PutNearEnv",
    f"{_ENVS}.redbluedoors:RedBlueDoorEnv",
    f"{_ENVS}.unlock:UnlockEnv",
    f"{_ENVS}.unlockpickup:UnlockPickupEnv",
)
"""Names of the classes whose state within an episode consists of the grid and the attributes in `_ATTRIBUTES`."""
_ATTRIBUTES = (
    "agent_pos",
    "agent_dir",
    "step_count",
    "mission",
    "carrying",
    # Attributes that only some of the classes have.
    "obj",
    "door",
    "red_door",
    "blue_door",
    "obstacles",
    "targetType",
    "targetColor",
    "target_type",
    "target_color",
    "target_pos",
    "move_type",
    "moveColor",
    "success_pos",
    "failure_pos",
)


def read(env: Any) -> dict[str, Any]:
    """Read the state of an unwrapped environment, without its random generator."""
    objects = _Objects()
    attributes = {name: objects.pack(getattr(env, name)) for name in _ATTRIBUTES if hasattr(env, name)}
    return {"attributes": attributes, "grid": objects.pack(env.grid.grid), "objects": objects.packed}


def write(env: Any, state: Mapping[str, Any]) -> None:
    """Restore a state that `read` returned.

    Raises:
        ValueError: If the number of cells of the grid differs, if an attribute of the environment is unknown, or
            if an object's class is not a class of MiniGrid.
    """
    if len(state["grid"]) != len(env.grid.grid):
        raise ValueError(
            f"the grid of {type(env).__name__} must have {len(env.grid.grid)} cells, got {len(state['grid'])}"
        )
    unknown = set(state["attributes"]).difference(_ATTRIBUTES)
    if unknown:
        raise ValueError(
            f"the state of {type(env).__name__} has the unknown attributes {sorted(unknown)}; use a state that an "
            "environment of this class saved"
        )
    classes: Any = importlib.import_module("minigrid.core.world_object")
    made: list[Any] = []
    for one in state["objects"]:
        kind: Any = getattr(classes, one["class"], None)
        if not (isinstance(kind, type) and issubclass(kind, classes.WorldObj)):
            raise ValueError(f"the class of an object must be a WorldObj class of MiniGrid, got {one['class']!r}")
        made.append(object.__new__(kind))
    for own, one in zip(made, state["objects"], strict=True):
        vars(own).update({name: _unpack(value, made) for name, value in one["attributes"].items()})
    env.grid.grid = _unpack(state["grid"], made)
    for name, value in state["attributes"].items():
        setattr(env, name, _unpack(value, made))


class _Objects:
    """Replaces MiniGrid's objects by indices into a list of the objects.

    Attributes:
        packed: The list, with the class and the attributes of each object.
    """

    def __init__(self) -> None:
        self.packed: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._class: Any = importlib.import_module("minigrid.core.world_object").WorldObj

    def pack(self, value: Any) -> Any:
        """Return an object's index, a list with its objects replaced, or any other value unchanged."""
        if isinstance(value, list):
            return [self.pack(one) for one in value]
        if not isinstance(value, self._class):
            return value
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.packed)
            one: dict[str, Any] = {"class": type(value).__name__}
            self.packed.append(one)
            one["attributes"] = {name: self.pack(own) for name, own in vars(value).items()}
        return {"object": self._numbers[id(value)]}


def _unpack(value: Any, made: list[Any]) -> Any:
    """Replace the indices of objects by the objects."""
    if isinstance(value, list):
        return [_unpack(one, made) for one in value]
    return made[value["object"]] if isinstance(value, dict) else value
