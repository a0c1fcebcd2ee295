"""The parameters of Gymnasium's Box2D environments.

Engine powers, motor torques and wheel sizes are module-level constants and are not included, because a change
would affect every environment in the process. For continuous actions, ``"action.gain"`` scales engines and motors
instead.
"""

from typing import Any

from rl_rms.envs.parameters.registry import register_parameter

_LANDER = "gymnasium.envs.box2d.lunar_lander:LunarLander"
_WALKER = "gymnasium.envs.box2d.bipedal_walker:BipedalWalker"
_RACING = "gymnasium.envs.box2d.car_racing:CarRacing"


def _set_lander_gravity(env: Any, gravity: float) -> None:
    env.gravity = gravity  # every reset makes a new Box2D world with this value
    env.world.gravity = (0.0, gravity)


def _without_wind(env: Any) -> str | None:
    return None if env.enable_wind else "there is no wind; make the environment with enable_wind=True"


# The environment's constructor allows the same values, except 0.
register_parameter(_LANDER, "gravity", set=_set_lander_gravity, above=-12, high=0)
for _name in ("wind_power", "turbulence_power"):
    register_parameter(_LANDER, _name, inert=_without_wind)


def _set_walker_gravity(env: Any, gravity: float) -> None:
    env.world.gravity = (0.0, gravity)  # resets keep the Box2D world


def _set_walker_friction(env: Any, friction: float) -> None:
    # The next reset makes the ground, pits, stumps and stairs from these values.
    env.fd_edge.friction = friction
    env.fd_polygon.friction = friction


register_parameter(_WALKER, "gravity", set=_set_walker_gravity, get=lambda env: env.world.gravity[1])
register_parameter(
    _WALKER,
    "friction",
    set=_set_walker_friction,
    get=lambda env: env.fd_edge.friction,
    low=0,
    effect="reset",
)


# Every reset makes a new track and a new car with the default friction and mass. Before the first reset there is
# no car.
def _set_road_friction(env: Any, friction: float) -> None:
    for tile in env.road or ():
        tile.road_friction = friction


def _road_friction(env: Any) -> float:
    return float(env.road[0].road_friction) if env.road else 1.0


def _set_car_mass(env: Any, scale: float) -> None:
    for body in () if env.car is None else (env.car.hull, *env.car.wheels):
        body.ResetMassData()
        data = body.massData
        data.mass, data.I = data.mass * scale, data.I * scale
        body.massData = data


def _car_mass(env: Any) -> float:
    if env.car is None:
        return 1.0
    return float(env.car.hull.mass / sum(fixture.massData.mass for fixture in env.car.hull.fixtures))


def _speed_up(env: Any) -> None:
    # Friction and mass have no effect on a car at rest.
    for body in (env.car.hull, *env.car.wheels):
        body.linearVelocity = (30.0, 30.0)


register_parameter(_RACING, "road_friction", set=_set_road_friction, get=_road_friction, low=0, provoke=_speed_up)
register_parameter(_RACING, "mass_scale", set=_set_car_mass, get=_car_mass, above=0, provoke=_speed_up)
